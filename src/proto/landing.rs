//! A part of a long message that has begun to come: the rest of it is read to where it belongs, behind what the message
//! has already, and not copied there.
//!
//! ```text
//!   the message:  came before │ came of this part │ missing │ read ahead: the head of the next frame
//!                                                 └──── one read at most ────┘
//! ```
//!
//! Which message that is, and what becomes of it, is [`assembly`](crate::proto::assembly)'s business.

use bytes::buf::Limit;
use bytes::{Buf as _, BufMut as _, BytesMut};

use crate::proto::head::Position;

/// So much is read behind a part, in bytes: enough for the head of the next, which can land then, too.
const READ_AHEAD: usize = 32;
/// For a byte that has come, so many are reserved at most: a message of the usual parts moves once or never while it grows.
const AHEAD_OF_WHAT_CAME: usize = 16;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Landing {
    pub(crate) id: u64,
    pub(crate) position: Position,
    /// The length of the whole message.
    pub(crate) total: usize,
    /// The length of the message up to the end of this part.
    pub(crate) end: usize,
    pub(crate) bytes: BytesMut,
}

impl Landing {
    /// Whether all of it is there.
    pub(crate) fn is_whole(&self) -> bool {
        self.bytes.len() >= self.end
    }

    /// Where the rest of it is to be read to. There is some.
    pub(crate) fn room(&mut self) -> Limit<&mut BytesMut> {
        let wanted = self.end + READ_AHEAD - self.bytes.len();
        grow(&mut self.bytes, wanted, self.total);
        (&mut self.bytes).limit(wanted)
    }

    /// Takes what `input` has of it.
    pub(crate) fn take_from(&mut self, input: &mut BytesMut) {
        let count = self.end.saturating_sub(self.bytes.len()).min(input.len());
        grow(&mut self.bytes, count, self.total);
        self.bytes.extend_from_slice(&input[..count]);
        input.advance(count);
    }

    /// Gives what was read behind it to `input`. Nothing is in front of that: as long as a part is landing, `input` is empty.
    pub(crate) fn give_back(&mut self, input: &mut BytesMut) {
        input.extend_from_slice(&self.bytes[self.end..]);
        self.bytes.truncate(self.end);
    }
}

/// The beginning of a message of `total` bytes.
pub(crate) fn begin(part: &[u8], total: usize) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(justified(part.len(), total));
    bytes.extend_from_slice(part);
    bytes
}

/// Makes room for `wanted` more bytes of a message, and for more of its `total`, as far as what has come justifies it.
pub(crate) fn grow(bytes: &mut BytesMut, wanted: usize, total: usize) {
    let came = bytes.len();
    if bytes.capacity() - came < wanted {
        bytes.reserve(wanted.max(justified(came, total).saturating_sub(came)));
    }
}

/// How much a message of `total` bytes may reserve when so many have come.
pub(crate) fn justified(came: usize, total: usize) -> usize {
    total.min(came.saturating_mul(AHEAD_OF_WHAT_CAME)) + READ_AHEAD
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PART: usize = 65_536;

    fn landing(part: usize, came: usize, total: usize) -> Landing {
        let bytes = begin(&vec![b'x'; came], total);
        Landing { id: 1, position: Position::Inner, total, end: came + part, bytes }
    }

    #[test]
    fn a_mebibyte_in_parts_of_the_usual_size_never_moves() {
        let mut bytes = begin(&[0; PART], 16 * PART);
        let place = bytes.as_ptr();
        for _ in 1..16 {
            grow(&mut bytes, PART + READ_AHEAD, 16 * PART);
            bytes.extend_from_slice(&[0; PART]);
        }
        assert_eq!((bytes.len(), bytes.as_ptr()), (16 * PART, place));
    }

    #[test]
    fn no_more_is_read_than_the_part_and_the_head_behind_it() {
        let mut landing = landing(100, 50, 1000);
        assert_eq!(landing.room().remaining_mut(), 100 + READ_AHEAD);
        landing.room().put_slice(b"12345678");
        assert_eq!(landing.room().remaining_mut(), 92 + READ_AHEAD);
        assert!(!landing.is_whole());
        landing.room().put_slice(&[b'x'; 92]);
        landing.room().put_slice(b"behind");
        assert!(landing.is_whole());
        let mut input = BytesMut::new();
        landing.give_back(&mut input);
        assert_eq!((&input[..], landing.bytes.len()), (&b"behind"[..], 150));
    }

    proptest! {
        #[test]
        fn memory_follows_what_came_not_what_was_announced(
            total in 1usize..1 << 32,
            parts in prop::collection::vec(1usize..=PART, 1..20),
        ) {
            let mut landing = landing(0, 1, total);
            let mut before = 1;
            for part in parts {
                landing.end += part;
                prop_assert!(landing.room().remaining_mut() > 0);
                let bound = before * AHEAD_OF_WHAT_CAME + part + 2 * READ_AHEAD;
                prop_assert!(landing.bytes.capacity() <= bound, "{} > {bound}", landing.bytes.capacity());
                landing.room().put_bytes(0, part);
                before += part;
            }
        }
    }
}
