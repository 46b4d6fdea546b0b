//! Puts long messages together from their parts.
//!
//! Memory grows with the bytes that have come (see [`landing`]), never with what a peer announced,
//! and at most [`MAX_UNFINISHED`] messages grow at a time.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::error::violation::Violation;
use crate::proto::head::{ChunkHead, Head, MAX_UNFINISHED, Position};
use crate::proto::landing::{self, Landing};
use crate::proto::spares::Spares;

#[derive(Debug, Default)]
pub(crate) struct Assembly {
    /// At most [`MAX_UNFINISHED`], so a linear search is the fastest.
    unfinished: Vec<Unfinished>,
    spares: Spares,
}

#[derive(Debug)]
struct Unfinished {
    head: Head,
    total: usize,
    /// How large its memory was before it was used again; 0 if it is new.
    size: usize,
    /// Empty while a part of it is landing.
    bytes: BytesMut,
}

/// What a chunk did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// No message is unfinished under its id.
    Stray,
    /// More are to come.
    Taken,
    /// That was the last.
    Completed(Head, Bytes),
}

impl Assembly {
    /// Takes the first part of a message of `total` bytes. Whoever calls has checked `total` against its limit.
    pub(crate) fn begin(&mut self, head: Head, total: u32, part: &Bytes) -> Result<(), Violation> {
        let total = total as usize;
        if part.is_empty() || part.len() >= total {
            return Err(wrong_total(total, part.len()));
        }
        if self.unfinished.len() == MAX_UNFINISHED {
            return Err(Violation::TooManyUnfinished { limit: MAX_UNFINISHED });
        }
        let (bytes, size) = self.spares.begin(part, total);
        self.unfinished.push(Unfinished { head, total, size, bytes });
        Ok(())
    }

    /// Takes the next part of the message `id`.
    pub(crate) fn add(
        &mut self,
        id: u64,
        position: Position,
        part: &Bytes,
    ) -> Result<Chunk, Violation> {
        let Some(at) = self.position(id) else {
            return Ok(Chunk::Stray);
        };
        let message = &mut self.unfinished[at];
        message.end_with(position, part.len())?;
        landing::grow(&mut message.bytes, part.len(), message.total);
        message.bytes.extend_from_slice(part);
        Ok(self.came(at, position))
    }

    /// Where the next part of a message is to land, of which nothing but the head need have come. `None` if its message is
    /// not unfinished.
    pub(crate) fn land(&mut self, chunk: ChunkHead) -> Result<Option<Landing>, Violation> {
        let ChunkHead { id, position, length } = chunk;
        let Some(at) = self.position(id) else {
            return Ok(None);
        };
        let message = &mut self.unfinished[at];
        let end = message.end_with(position, length)?;
        let (total, bytes) = (message.total, std::mem::take(&mut message.bytes));
        Ok(Some(Landing { id, position, total, end, bytes }))
    }

    /// Takes the part that has landed, to its last byte and no more.
    pub(crate) fn landed(&mut self, Landing { id, position, bytes, .. }: Landing) -> Chunk {
        let Some(at) = self.position(id) else {
            return Chunk::Stray;
        };
        self.unfinished[at].bytes = bytes;
        self.came(at, position)
    }

    /// The next part of a message has come.
    fn came(&mut self, at: usize, position: Position) -> Chunk {
        if position == Position::Inner {
            return Chunk::Taken;
        }
        let Unfinished { head, size, bytes, .. } = self.unfinished.swap_remove(at);
        Chunk::Completed(head, self.spares.freeze(bytes, size))
    }

    /// Forgets the message `id`, if it is unfinished.
    pub(crate) fn forget(&mut self, id: u64) {
        if let Some(at) = self.position(id) {
            self.unfinished.swap_remove(at);
        }
    }

    /// Time has passed.
    pub(crate) fn cool(&mut self, now: Instant) {
        self.spares.cool(now);
    }

    /// When memory is to be given back, if nothing comes.
    pub(crate) fn cools_at(&self) -> Option<Instant> {
        self.spares.cools_at()
    }

    pub(crate) fn contains(&self, id: u64) -> bool {
        self.position(id).is_some()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.unfinished.is_empty()
    }

    fn position(&self, id: u64) -> Option<usize> {
        self.unfinished.iter().position(|message| message.head.id() == id)
    }
}

impl Unfinished {
    /// Its length with the next part, if that fits there.
    fn end_with(&self, position: Position, part: usize) -> Result<usize, Violation> {
        let end = self.bytes.len() + part;
        let expected = if end == self.total { Position::Last } else { Position::Inner };
        if part == 0 || end > self.total || position != expected {
            return Err(wrong_total(self.total, end));
        }
        Ok(end)
    }
}

fn wrong_total(announced: usize, came: usize) -> Violation {
    Violation::WrongTotal { announced: announced as u64, came: came as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head = Head::Reply { id: 1 };

    fn part(length: usize) -> Bytes {
        vec![b'x'; length].into()
    }

    #[test]
    fn parts_add_up_to_the_message() {
        let mut assembly = Assembly::default();
        assembly.begin(HEAD, 6, &Bytes::from_static(b"ab")).unwrap();
        assert_eq!(assembly.add(1, Position::Inner, &Bytes::from_static(b"cd")), Ok(Chunk::Taken));
        let whole = Chunk::Completed(HEAD, Bytes::from_static(b"abcdef"));
        assert_eq!(assembly.add(1, Position::Last, &Bytes::from_static(b"ef")), Ok(whole));
        assert!(!assembly.contains(1));
    }

    #[test]
    fn parts_that_do_not_add_up_are_violations() {
        let wrong = |announced, came| Violation::WrongTotal { announced, came };
        let begun = || {
            let mut assembly = Assembly::default();
            assembly.begin(HEAD, 6, &part(2)).unwrap();
            assembly
        };
        assert_eq!(Assembly::default().begin(HEAD, 2, &part(2)), Err(wrong(2, 2)));
        assert_eq!(Assembly::default().begin(HEAD, 2, &part(0)), Err(wrong(2, 0)));
        assert_eq!(begun().add(1, Position::Inner, &part(5)), Err(wrong(6, 7)));
        assert_eq!(begun().add(1, Position::Last, &part(3)), Err(wrong(6, 5)));
        assert_eq!(begun().add(1, Position::Inner, &part(4)), Err(wrong(6, 6)));
        assert_eq!(begun().add(1, Position::Inner, &part(0)), Err(wrong(6, 2)));
    }

    #[test]
    fn a_seventeenth_unfinished_message_is_a_violation() {
        let mut assembly = Assembly::default();
        for id in 0..16 {
            assembly.begin(Head::Reply { id }, 2, &part(1)).unwrap();
        }
        assert_eq!(
            assembly.begin(Head::Reply { id: 16 }, 2, &part(1)),
            Err(Violation::TooManyUnfinished { limit: 16 })
        );
        assembly.forget(3);
        assert_eq!(assembly.begin(Head::Reply { id: 16 }, 2, &part(1)), Ok(()));
    }

    #[test]
    fn memory_follows_what_came_not_what_was_announced() {
        let mut assembly = Assembly::default();
        assembly.begin(HEAD, u32::MAX, &part(100)).unwrap();
        assert!(assembly.unfinished[0].bytes.capacity() < 2000);
    }
}
