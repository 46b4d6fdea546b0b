//! A client's call ids: they grow over its whole life, over all its connections, and are never reused.
//!
//! Also knows the oldest id that is not finished: everything below it, the server may forget.

use std::collections::VecDeque;

#[derive(Debug)]
pub(crate) struct Sequence {
    /// The first id of the first word; ids start at 1, so it is a multiple of 64, plus 1.
    base: u64,
    next: u64,
    /// One bit for each id from `base` on: set when it is finished.
    finished: VecDeque<u64>,
}

impl Sequence {
    pub(crate) fn new() -> Self {
        Self { base: 1, next: 1, finished: VecDeque::new() }
    }

    /// A new id.
    pub(crate) fn issue(&mut self) -> u64 {
        let id = self.next;
        self.next += 1;
        if (id - self.base) as usize == self.finished.len() * 64 {
            self.finished.push_back(0);
        }
        id
    }

    /// The smallest id that no call has been given yet.
    pub(crate) fn next_id(&self) -> u64 {
        self.next
    }

    /// The call with this id is settled for good.
    pub(crate) fn finish(&mut self, id: u64) {
        let Some(at) = id.checked_sub(self.base) else {
            return;
        };
        if let Some(word) = self.finished.get_mut((at / 64) as usize) {
            *word |= 1 << (at % 64);
        }
        while self.finished.front() == Some(&u64::MAX) {
            self.finished.pop_front();
            self.base += 64;
        }
    }

    /// All smaller ids are finished.
    pub(crate) fn oldest_unfinished(&self) -> u64 {
        match self.finished.front() {
            Some(word) => self.base + u64::from(word.trailing_ones()),
            None => self.next,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_oldest_unfinished_id_is_exact(steps in prop::collection::vec(any::<u16>(), 1..600)) {
            let (mut sequence, mut open, mut last) = (Sequence::new(), BTreeSet::new(), 0);
            for step in steps {
                if step % 3 > 0 || open.is_empty() {
                    let id = sequence.issue();
                    prop_assert_eq!(id, last + 1);
                    last = id;
                    open.insert(id);
                } else {
                    let id = *open.iter().nth(usize::from(step) % open.len()).unwrap();
                    open.remove(&id);
                    sequence.finish(id);
                }
                let oldest = open.first().copied().unwrap_or(last + 1);
                prop_assert_eq!(sequence.oldest_unfinished(), oldest);
            }
        }
    }
}
