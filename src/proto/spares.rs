//! Memory of long messages that is used again for the next ones, because to get fresh memory from the operating system costs
//! about as much as to read a message from the socket.
//!
//! ```text
//!   a message ends ─► its body is handed out ─► it is dropped, wherever ─┐
//!        └► the empty handle to its memory stays here ───────────────────┴► alone: the next message begins there
//! ```
//!
//! A handle costs nothing as long as the body lives. After that it is memory that nobody uses; how much that is follows what
//! came lately: what is free beyond what begins is given back, and each piece of it soon after the last message that was in it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::proto::head::MAX_UNFINISHED;
use crate::proto::landing::{self, justified};

/// Memory smaller than this, in bytes, the allocator has at hand.
const LEAST: usize = 128 * 1024;
/// All that is kept has at most so many bytes.
const MOST: usize = 32 << 20;
/// Handles that are kept at most.
const HANDLES: usize = 32;
/// Of those that nobody uses, so many stay when a message begins: others may begin right behind it.
const FREE: usize = MAX_UNFINISHED;
/// Nothing is kept longer than this after the end of the last message that was in it.
const WARM: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Spares {
    /// The oldest first: its body is most likely gone.
    kept: VecDeque<Spare>,
    bytes: usize,
}

#[derive(Debug)]
struct Spare {
    handle: BytesMut,
    size: usize,
    /// `None` until the time is told.
    cools_at: Option<Instant>,
}

impl Spares {
    /// The beginning of a message of `total` bytes, and the size of its memory if that was used before.
    pub(crate) fn begin(&mut self, part: &[u8], total: usize) -> (BytesMut, usize) {
        let wanted = justified(part.len(), total);
        let (mut found, mut free) = (None, 0);
        let bytes = &mut self.bytes;
        self.kept.retain_mut(|spare| {
            // Smaller than it was for others, it might still be much more than the message counts for.
            if found.is_none() && spare.size <= 2 * wanted && spare.handle.try_reclaim(wanted) {
                *bytes -= spare.size;
                found = Some((std::mem::take(&mut spare.handle), spare.size));
                return false;
            }
            let is_free = spare.handle.try_reclaim(1);
            free += usize::from(is_free);
            let stays = !is_free || free <= FREE;
            *bytes -= if stays { 0 } else { spare.size };
            stays
        });
        match found {
            Some((mut handle, size)) => {
                handle.extend_from_slice(part);
                (handle, size)
            }
            None => (landing::begin(part, total), 0),
        }
    }

    /// A message is whole. `size` is that with which it began.
    pub(crate) fn freeze(&mut self, mut bytes: BytesMut, size: usize) -> Bytes {
        let size = size.max(bytes.capacity());
        if !(LEAST..=MOST).contains(&size) {
            return bytes.freeze();
        }
        let body = bytes.split().freeze();
        self.kept.push_back(Spare { handle: bytes, size, cools_at: None });
        self.bytes += size;
        while self.bytes > MOST || self.kept.len() > HANDLES {
            self.bytes -= self.kept.pop_front().map_or(0, |spare| spare.size);
        }
        body
    }

    /// Time has passed.
    pub(crate) fn cool(&mut self, now: Instant) {
        for fresh in self.kept.iter_mut().rev().take_while(|spare| spare.cools_at.is_none()) {
            fresh.cools_at = Some(now + WARM);
        }
        while self.cools_at().is_some_and(|at| now >= at) {
            self.bytes -= self.kept.pop_front().map_or(0, |spare| spare.size);
        }
    }

    /// When something is to be given back, if no message takes it before.
    pub(crate) fn cools_at(&self) -> Option<Instant> {
        self.kept.front()?.cools_at
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;
    const PART: usize = 64 * 1024;

    /// A message that came whole, and the memory in which it is.
    fn message(spares: &mut Spares, length: usize) -> (Bytes, *const u8) {
        let (mut bytes, size) = spares.begin(&vec![b'x'; PART.min(length)], length);
        let missing = length - bytes.len();
        landing::grow(&mut bytes, missing, length);
        bytes.resize(length, b'x');
        let body = spares.freeze(bytes, size);
        let place = body.as_ptr();
        (body, place)
    }

    #[test]
    fn memory_is_used_again_when_its_body_is_dropped_and_not_before() {
        let mut spares = Spares::default();
        let (first, place) = message(&mut spares, MIB);
        let (second, other) = message(&mut spares, MIB);
        assert_ne!(place, other);
        let part = first.slice(5..6);
        drop(first);
        let (third, another) = message(&mut spares, MIB);
        assert!(another != place && another != other);
        drop(part);
        let (fourth, again) = message(&mut spares, MIB);
        assert_eq!(again, place);
        for body in [second, third, fourth] {
            assert_eq!(body, vec![b'x'; MIB]);
        }
    }

    #[test]
    fn a_body_is_not_put_into_memory_much_larger_than_itself() {
        let mut spares = Spares::default();
        let place = message(&mut spares, 4 * MIB).1;
        assert_ne!(message(&mut spares, MIB).1, place);
        // Nor step by step.
        let mut spares = Spares::default();
        for length in [MIB, 3 * MIB / 4, MIB / 2 + PART, MIB / 4 + PART] {
            drop(message(&mut spares, length));
        }
        let sizes: Vec<_> = spares.kept.iter().map(|spare| spare.size).collect();
        assert!(sizes.iter().any(|size| *size < MIB / 2 + PART), "{sizes:?}");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut spares = Spares::default();
        let bodies: Vec<_> = (0..100).map(|_| message(&mut spares, MIB).0).collect();
        assert!(spares.kept.len() <= HANDLES && spares.bytes <= MOST);
        drop(bodies);
        // Of what nobody uses any more.
        let one = message(&mut spares, MIB);
        assert_eq!(spares.kept.len(), FREE + 1);
        assert_eq!(spares.bytes, spares.kept.iter().map(|spare| spare.size).sum::<usize>());
        drop(one);
        drop(message(&mut spares, MOST + 1));
        drop(message(&mut spares, LEAST / 2));
        assert!(spares.kept.len() <= FREE + 1);
    }

    /// Two messages of one byte a second are no reason to keep 32 MiB, and a shorter one none to keep what a longer one had.
    #[test]
    fn messages_that_use_none_of_it_keep_no_memory_warm() {
        for length in [1, LEAST] {
            let (mut spares, mut now) = (Spares::default(), Instant::now());
            let bodies: Vec<_> =
                (0..FREE).map(|_| message(&mut spares, 2 * MIB - PART).0).collect();
            drop(bodies);
            spares.cool(now);
            assert!(spares.bytes > MOST / 2);
            for _ in 0..5 {
                now += WARM / 2;
                drop(message(&mut spares, length));
                spares.cool(now);
            }
            assert!(spares.bytes < 2 * LEAST, "{} bytes", spares.bytes);
        }
    }

    #[test]
    fn nothing_is_kept_when_no_long_message_has_come_for_a_while() {
        let (mut spares, now) = (Spares::default(), Instant::now());
        drop(message(&mut spares, MIB));
        spares.cool(now);
        assert_eq!(spares.cools_at(), Some(now + WARM));
        spares.cool(now + WARM / 2);
        assert_eq!(spares.kept.len(), 1);
        spares.cool(now + WARM);
        assert_eq!((spares.kept.len(), spares.bytes, spares.cools_at()), (0, 0, None));
    }
}
