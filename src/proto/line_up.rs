//! What stands in a line, in the order of its tickets. Who joins stands last, or where they stood before; most who leave
//! stand near the front. It keeps its memory: in a steady state it allocates nothing.

use std::collections::VecDeque;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

#[derive(Debug)]
pub(crate) struct LineUp<T>(VecDeque<(Ticket, T)>);

impl<T> Default for LineUp<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> LineUp<T> {
    pub(crate) fn insert(&mut self, ticket: Ticket, value: T) {
        match self.0.back() {
            Some((last, _)) if *last > ticket => {
                let at = self.0.partition_point(|(before, _)| *before < ticket);
                self.0.insert(at, (ticket, value));
            }
            _ => self.0.push_back((ticket, value)),
        }
    }

    pub(crate) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut T> {
        let at = self.place_of(ticket)?;
        self.0.get_mut(at).map(|(_, value)| value)
    }

    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let at = self.place_of(ticket)?;
        self.0.remove(at).map(|(_, value)| value)
    }

    pub(crate) fn first(&self) -> Option<&T> {
        self.0.front().map(|(_, value)| value)
    }

    pub(crate) fn pop_first(&mut self) -> Option<(Ticket, T)> {
        self.0.pop_front()
    }

    pub(crate) fn contains(&self, ticket: Ticket) -> bool {
        self.place_of(ticket).is_some()
    }

    /// Those who are not kept leave.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&mut T) -> bool) {
        self.0.retain_mut(|(_, value)| keep(value));
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, value)| value)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn place_of(&self, ticket: Ticket) -> Option<usize> {
        let is_its = |stands: &(Ticket, T)| stands.0 == ticket;
        if self.0.front().is_some_and(is_its) {
            return Some(0);
        }
        if self.0.back().is_some_and(is_its) {
            return Some(self.0.len() - 1);
        }
        self.0.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()
    }
}
