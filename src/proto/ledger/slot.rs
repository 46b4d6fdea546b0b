//! One slot's connection, and the places on it.

/// A right to have one call on one connection, or all of it. Given back with [`Ledger::release`](super::Ledger::release).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) slot: usize,
    pub(super) epoch: u64,
}

/// How much of a connection is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// Room for one call.
    One,
    /// All of it, to be alone on it.
    Whole,
}

#[cfg(test)]
impl Place {
    /// One of no ledger.
    pub(crate) fn example(slot: usize) -> Self {
        Self { slot, epoch: 0 }
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slot {
    pub(super) in_flight: usize,
    /// Above 0 only while the slot's connection takes calls.
    pub(super) capacity: usize,
    /// Places that only [`Ledger::place_on`](super::Ledger::place_on) gives away.
    pub(super) reserved: usize,
    /// Of the connection that is ready here. Places of an earlier one do not count.
    pub(super) epoch: u64,
    /// Places that were given away on it.
    pub(super) given: u64,
    /// One has all of it to themselves.
    pub(super) lent: bool,
}

impl Slot {
    pub(super) fn give(&mut self, slot: usize, share: Share) -> Place {
        self.lent = share == Share::Whole;
        self.in_flight += 1;
        self.given += 1;
        Place { slot, epoch: self.epoch }
    }

    pub(super) fn has_room(&self, share: Share) -> bool {
        match share {
            Share::One => !self.lent && self.in_flight + self.reserved < self.capacity,
            Share::Whole => self.in_flight + self.reserved == 0 && self.capacity > 0,
        }
    }
}
