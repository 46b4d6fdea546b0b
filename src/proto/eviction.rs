//! In which order kept answers make room: first those that have probably arrived, because the connection on which they
//! went out has shown life since; last those that may be the very ones that a silent line has swallowed.
//!
//! ```text
//!  kept ──► in order of age ── its turn has come ──┬── life since ──► evicted
//!                ▲                                 └── none ──► doubtful ── nothing else is left ──► evicted
//!                └─────────────── life since ────────────────────┘
//! ```
//!
//! Only a preference: what a client has settled, it says itself.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// Connections whose last sign of life is remembered; the longest silent are forgotten first.
const MAX_CONNECTIONS: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    by_age: VecDeque<Entry>,
    doubtful: VecDeque<Entry>,
    /// When each connection was heard last.
    heard: BTreeMap<u64, u64>,
    /// Counts what happens.
    tick: u64,
    /// When the doubtful ones were looked through.
    looked: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    id: u64,
    kept: Instant,
    connection: u64,
    tick: u64,
}

impl Queue {
    /// A request has come on a connection.
    pub(crate) fn heard(&mut self, connection: u64) {
        self.tick += 1;
        self.heard.insert(connection, self.tick);
        if self.heard.len() > MAX_CONNECTIONS {
            let silent =
                self.heard.iter().min_by_key(|(_, tick)| **tick).map(|(number, _)| *number);
            silent.map(|number| self.heard.remove(&number));
        }
    }

    /// An answer is kept that goes out on a connection.
    pub(crate) fn push(&mut self, now: Instant, id: u64, connection: u64) {
        self.by_age.push_back(Entry { id, kept: now, connection, tick: self.tick });
    }

    /// Entries, also of answers that have gone since.
    pub(crate) fn len(&self) -> usize {
        self.by_age.len() + self.doubtful.len()
    }

    pub(crate) fn retain(&mut self, is_kept: impl Fn(u64) -> bool) {
        self.by_age.retain(|entry| is_kept(entry.id));
        self.doubtful.retain(|entry| is_kept(entry.id));
    }

    /// Whether an answer is among those that may not have arrived.
    pub(crate) fn doubtful(&self) -> impl Iterator<Item = u64> + '_ {
        self.doubtful.iter().map(|entry| entry.id)
    }

    /// The next to make room.
    pub(crate) fn pop(&mut self) -> Option<u64> {
        // Not each time: then all of them are doubtful, and stay so for a while.
        if self.by_age.is_empty() && self.tick >= self.looked + self.doubtful.len() as u64 / 4 {
            self.looked = self.tick;
            let all = std::mem::take(&mut self.doubtful);
            let (arrived, doubtful) = all.into_iter().partition(|entry| self.has_arrived(entry));
            (self.by_age, self.doubtful) = (arrived, doubtful);
        }
        while let Some(entry) = self.by_age.pop_front() {
            if self.has_arrived(&entry) {
                return Some(entry.id);
            }
            self.doubtful.push_back(entry);
        }
        self.doubtful.pop_front().map(|entry| entry.id)
    }

    /// The oldest, if it was kept at that time or before.
    pub(crate) fn pop_kept_by(&mut self, time: Instant) -> Option<u64> {
        for queue in [&mut self.doubtful, &mut self.by_age] {
            if queue.front().is_some_and(|entry| entry.kept <= time) {
                return queue.pop_front().map(|entry| entry.id);
            }
        }
        None
    }

    fn has_arrived(&self, entry: &Entry) -> bool {
        self.heard.get(&entry.connection).is_some_and(|tick| *tick > entry.tick)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]

    use std::time::Duration;

    use super::*;

    fn pops(queue: &mut Queue) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn answers_on_a_silent_connection_make_room_last() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        (1..=6).for_each(|id| queue.heard(id % 2));
        (1..=6).for_each(|id| queue.push(now, id, id % 2));
        queue.heard(0);
        assert_eq!(pops(&mut queue), [2, 4, 6, 1, 3, 5]);
    }

    #[test]
    fn without_any_sign_of_life_the_oldest_make_room_first() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        (1..=4).for_each(|id| queue.push(now, id, 1));
        assert_eq!(pops(&mut queue), [1, 2, 3, 4]);
    }

    #[test]
    fn what_was_doubtful_is_so_no_more_when_its_connection_is_heard() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for id in 1..=4 {
            queue.push(now, id, id % 2);
        }
        assert_eq!(queue.pop(), Some(1));
        queue.heard(0);
        assert_eq!(queue.pop(), Some(2));
        assert_eq!(queue.pop(), Some(4));
        assert_eq!(queue.pop(), Some(3));
    }

    #[test]
    fn the_old_ones_leave_by_their_age_wherever_they_are() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        for id in 1..=4 {
            queue.push(start + Duration::from_secs(id), id, 1);
        }
        assert_eq!(queue.pop(), Some(1));
        queue.push(start + Duration::from_secs(5), 5, 1);
        let at = start + Duration::from_secs(3);
        let old: Vec<_> = std::iter::from_fn(|| queue.pop_kept_by(at)).collect();
        assert_eq!(old, [2, 3]);
    }
}
