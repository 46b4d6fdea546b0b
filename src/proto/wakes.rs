//! Who is to be woken, once the lock is released. Mostly that is one, and costs no allocation.

use std::task::Waker;

use crate::panics::caught;

/// Wakes it. One that panics, as the panic hook reports, neither takes this task with it nor keeps others from being woken.
pub(crate) fn wake(waker: Waker) {
    caught(|| waker.wake());
}

#[derive(Debug, Default)]
pub(crate) struct Wakes {
    first: Option<Waker>,
    others: Vec<Waker>,
}

impl Wakes {
    pub(crate) fn push(&mut self, waker: Waker) {
        match &self.first {
            None => self.first = Some(waker),
            Some(_) => self.others.push(waker),
        }
    }

    /// Not under a lock.
    pub(crate) fn wake(self) {
        if let Some(first) = self.first {
            wake(first);
            self.others.into_iter().for_each(wake);
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }
}
