//! The answers of one connection that have not left, counted for whoever cuts it off. Pushes are not among them.

use std::collections::VecDeque;

use crate::proto::native::PUSH_BIT;
use crate::proto::outgoing::{Mark, Outgoing};

#[derive(Debug, Default)]
pub(crate) struct Unsent {
    /// Where those are that were copied, the oldest first: in this order they go out. The others [`Outgoing`] knows.
    copied: VecDeque<Mark>,
}

impl Unsent {
    /// An answer was queued.
    pub(crate) fn queued(&mut self, mark: Mark) {
        if let Mark::InPage { .. } = mark {
            self.copied.push_back(mark);
        }
    }

    /// Something has left.
    pub(crate) fn written(&mut self, outgoing: &Outgoing) {
        // A copied one is found without its id.
        while self.copied.front().is_some_and(|mark| outgoing.is_sent(0, *mark)) {
            self.copied.pop_front();
        }
    }

    /// The connection is dead.
    pub(crate) fn clear(&mut self) {
        self.copied = VecDeque::new();
    }

    pub(crate) fn count(&self, outgoing: &Outgoing) -> usize {
        self.copied.len() + outgoing.apart_unsent().filter(|id| id & PUSH_BIT == 0).count()
    }
}
