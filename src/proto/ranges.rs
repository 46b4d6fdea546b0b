//! A set of ids as the ranges that they fill: ids that come nearly in order take hardly any room.

use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct Ranges {
    /// First and last id of each; between any two is a gap.
    ranges: BTreeMap<u64, u64>,
}

impl Ranges {
    pub(crate) fn contains(&self, id: u64) -> bool {
        self.ranges.range(..=id).next_back().is_some_and(|(_, last)| id <= *last)
    }

    pub(crate) fn insert(&mut self, id: u64) {
        if self.contains(id) {
            return;
        }
        let last = id.checked_add(1).and_then(|next| self.ranges.remove(&next)).unwrap_or(id);
        match self.ranges.range_mut(..id).next_back() {
            Some((_, before)) if *before + 1 == id => *before = last,
            _ => drop(self.ranges.insert(id, last)),
        }
    }

    /// Forgets the ranges that lie below `id`.
    pub(crate) fn forget_below(&mut self, id: u64) {
        while let Some(first) = self.ranges.first_entry().filter(|first| *first.get() < id) {
            first.remove();
        }
    }

    /// Forgets the first ranges until there are at most so many. Returns the last id of those.
    pub(crate) fn bound(&mut self, most: usize) -> Option<u64> {
        let mut forgotten = None;
        while self.ranges.len() > most {
            forgotten = self.ranges.pop_first().map(|(_, last)| last);
        }
        forgotten
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_of_ids_is_one_and_has_no_more_ranges_than_gaps(
            ids in prop::collection::vec(0u64..60, 0..80),
            below in 0u64..60,
        ) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for id in ids {
                ranges.insert(id);
                set.insert(id);
                let begins = set.iter().filter(|id| **id == 0 || !set.contains(&(*id - 1)));
                prop_assert_eq!(ranges.ranges.len(), begins.count());
            }
            ranges.forget_below(below);
            for id in below..61 {
                prop_assert_eq!(ranges.contains(id), set.contains(&id), "{}", id);
            }
        }
    }

    #[test]
    fn what_is_too_much_is_forgotten_from_below() {
        let mut ranges = Ranges::default();
        [1, 2, 5, 7, 8, u64::MAX].into_iter().for_each(|id| ranges.insert(id));
        assert_eq!(ranges.bound(4), None);
        assert_eq!(ranges.bound(2), Some(5));
        assert!(!ranges.contains(5) && ranges.contains(7) && ranges.contains(u64::MAX));
    }
}
