//! A table by call ids that come and go nearly in order: kept sorted, in one piece of memory.
//!
//! What joins at its end or leaves at its front costs next to nothing, and what is in between is found by where it would be if
//! none were missing before it. Whoever sends ids in no order at all pays for it with a move of what is behind.

use std::collections::VecDeque;

#[derive(Debug)]
pub(crate) struct Window<T>(VecDeque<(u64, T)>);

impl<T> Default for Window<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Window<T> {
    /// Puts it in the place of what was there under this id.
    pub(crate) fn insert(&mut self, id: u64, value: T) {
        match self.find(id) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (id, value)),
        }
    }

    pub(crate) fn get(&self, id: u64) -> Option<&T> {
        self.find(id).ok().map(|at| &self.0[at].1)
    }

    pub(crate) fn get_mut(&mut self, id: u64) -> Option<&mut T> {
        self.find(id).ok().map(|at| &mut self.0[at].1)
    }

    pub(crate) fn contains(&self, id: u64) -> bool {
        self.find(id).is_ok()
    }

    pub(crate) fn remove(&mut self, id: u64) -> Option<T> {
        let at = self.find(id).ok()?;
        self.0.remove(at).map(|(_, value)| value)
    }

    /// Takes out the first, if its id is smaller than this.
    pub(crate) fn pop_below(&mut self, id: u64) -> Option<(u64, T)> {
        match self.0.front() {
            Some((first, _)) if *first < id => self.0.pop_front(),
            _ => None,
        }
    }

    /// In the order of the ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.0.iter().map(|(id, value)| (*id, value))
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    pub(crate) fn retain(&mut self, mut stays: impl FnMut(u64, &T) -> bool) {
        self.0.retain(|(id, value)| stays(*id, value));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where it is, or would be.
    fn find(&self, id: u64) -> Result<usize, usize> {
        let (Some((first, _)), Some((last, _))) = (self.0.front(), self.0.back()) else {
            return Err(0);
        };
        if id > *last {
            return Err(self.0.len());
        }
        // As ids are unique it cannot be behind this.
        let Some(most) = id.checked_sub(*first) else {
            return Err(0);
        };
        match usize::try_from(most).ok().and_then(|most| self.0.get(most)) {
            Some((there, _)) if *there == id => Ok(most as usize),
            _ => self.0.binary_search_by_key(&id, |(id, _)| *id),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_sorted_table(steps in prop::collection::vec((0..5, 1..40_u64), 1..200)) {
            let (mut window, mut table) = (Window::default(), BTreeMap::new());
            for (step, id) in steps {
                match step {
                    0 | 1 => {
                        window.insert(id, step);
                        table.insert(id, step);
                    }
                    2 => prop_assert_eq!(window.remove(id), table.remove(&id)),
                    3 => {
                        window.retain(|other, _| other % 7 != id % 7);
                        table.retain(|other, _| other % 7 != id % 7);
                    }
                    _ => {
                        let first = table.first_key_value().map(|(first, value)| (*first, *value));
                        let first = first.filter(|(first, _)| *first < id);
                        prop_assert_eq!(window.pop_below(id), first);
                        first.map(|(first, _)| table.remove(&first));
                    }
                }
                prop_assert!(window.iter().eq(table.iter().map(|(id, value)| (*id, value))));
                for id in 0..42 {
                    prop_assert_eq!(window.get(id), table.get(&id));
                    prop_assert_eq!(window.contains(id), table.contains_key(&id));
                }
            }
        }
    }
}
