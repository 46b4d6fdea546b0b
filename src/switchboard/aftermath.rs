//! What comes of a change of the roster, and is done when its lock has been released.

use crate::proto::wakes::Wakes;

/// Who is woken, and which of the [`Switchboard`](crate::switchboard::Switchboard)'s bells are rung.
#[derive(Debug, Default)]
pub(super) struct Aftermath {
    pub(super) wake: Wakes,
    pub(super) demand: bool,
    pub(super) review: bool,
    /// Only while calls wait to be sent again.
    pub(super) changed: bool,
}
