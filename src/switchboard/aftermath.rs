//! What comes of a change of the roster. Under its lock nobody is woken, and nothing is dropped that may be the user's.

use crate::proto::wakes::Wakes;

#[derive(Default)]
pub(super) struct Aftermath {
    pub(super) wake: Wakes,
    /// Slots without a connection look again whether one is wanted.
    pub(super) demand: bool,
    /// Slots with a connection look again whether it is.
    pub(super) review: bool,
    /// Calls that wait to be sent again look again where they can go.
    pub(super) resume: bool,
    pub(super) unneeded: Vec<Box<dyn Send>>,
}

impl Aftermath {
    pub(super) fn discard<T: Send + 'static>(&mut self, unneeded: Option<T>) {
        self.unneeded.extend(unneeded.map(|unneeded| Box::new(unneeded) as Box<dyn Send>));
    }
}
