//! Where one frame ends: a `u32` big-endian length, then so many bytes.
//!
//! ```text
//!  0               4
//!  +---------------+------------------ - -
//!  | length  u32   | payload
//!  +---------------+------------------ - -
//! ```
//!
//! What a payload means is [`native`](crate::proto::native)'s business.

use bytes::{Buf, Bytes, BytesMut};

use crate::error::opening::Opening;
use crate::error::violation::Violation;

/// The length prefix, in bytes.
pub(crate) const PREFIX: usize = 4;
/// The longest payload, in bytes: one part of a message and the longest head.
pub(crate) const MAX_PAYLOAD: usize = 65_600;

/// Cuts the next payload off the front of `input`; `None` until it is whole.
///
/// Nothing is reserved here: the length is judged as soon as its four bytes are there.
pub(crate) fn next_payload(input: &mut BytesMut) -> Result<Option<Bytes>, Violation> {
    let Some(prefix) = input.first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*prefix) as usize;
    match length {
        0 => Err(Violation::EmptyFrame),
        1..=MAX_PAYLOAD if input.len() < PREFIX + length => Ok(None),
        1..=MAX_PAYLOAD => {
            input.advance(PREFIX);
            Ok(Some(input.split_to(length).freeze()))
        }
        _ => Err(Violation::FrameTooLong {
            length: length as u64,
            limit: MAX_PAYLOAD as u64,
            came: Opening::of(input),
        }),
    }
}

/// Counts the frames in a stream of bytes, however it is cut. It looks at nothing but the lengths.
#[derive(Debug, Default)]
pub(crate) struct FrameCount {
    whole: u64,
    prefix: [u8; PREFIX],
    /// How much of the prefix has come.
    begun: usize,
    /// How much of the payload has not.
    missing: usize,
}

impl FrameCount {
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.begun == 0 {
                bytes = self.skip_whole(bytes);
            }
            let taken = if self.missing > 0 {
                let taken = self.missing.min(bytes.len());
                self.missing -= taken;
                taken
            } else {
                let taken = (PREFIX - self.begun).min(bytes.len());
                self.prefix[self.begun..self.begun + taken].copy_from_slice(&bytes[..taken]);
                self.begun += taken;
                if self.begun == PREFIX {
                    self.missing = u32::from_be_bytes(self.prefix) as usize;
                }
                taken
            };
            bytes = &bytes[taken..];
            if self.begun == PREFIX && self.missing == 0 {
                self.whole += 1;
                self.begun = 0;
            }
        }
    }

    /// Most bytes pass as whole frames: counts those, and returns the rest.
    fn skip_whole<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        while let Some(prefix) = bytes.first_chunk::<PREFIX>() {
            let length = u32::from_be_bytes(*prefix) as usize;
            let Some(rest) = bytes[PREFIX..].get(length..) else {
                break;
            };
            self.whole += 1;
            bytes = rest;
        }
        bytes
    }

    /// Frames that have passed to their last byte.
    pub(crate) fn whole(&self) -> u64 {
        self.whole
    }

    /// Whether a part of another one has passed.
    pub(crate) fn is_in_the_middle(&self) -> bool {
        self.begun > 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for payload in payloads {
            bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
            bytes.extend_from_slice(payload);
        }
        bytes
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_payloads(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 1..20),
            cuts in prop::collection::vec(1usize..100, 1..200),
        ) {
            let bytes = framed(&payloads);
            let (mut input, mut seen, mut rest) = (BytesMut::new(), Vec::new(), &bytes[..]);
            let mut count = FrameCount::default();
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let (piece, tail) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                rest = tail;
                input.extend_from_slice(piece);
                count.pass(piece);
                while let Some(payload) = next_payload(&mut input).unwrap() {
                    seen.push(payload.to_vec());
                }
                prop_assert_eq!(count.whole(), seen.len() as u64);
                prop_assert_eq!(count.is_in_the_middle(), !input.is_empty());
            }
            prop_assert_eq!(seen, payloads);
            prop_assert!(input.is_empty());
        }
    }

    #[test]
    fn a_hostile_length_is_refused_before_anything_is_reserved() {
        let mut input = BytesMut::from(&[0xff, 0xff, 0xff, 0xff][..]);
        let capacity = input.capacity();
        assert_eq!(
            next_payload(&mut input),
            Err(Violation::FrameTooLong {
                length: 0xffff_ffff,
                limit: 65_600,
                came: Opening::of(&[0xff; 4])
            })
        );
        assert_eq!(input.capacity(), capacity);
    }

    #[test]
    fn the_longest_payload_passes_and_one_more_byte_does_not() {
        let mut input = BytesMut::from(&framed(&[vec![7; MAX_PAYLOAD]])[..]);
        assert_eq!(next_payload(&mut input).unwrap().unwrap().len(), MAX_PAYLOAD);
        let mut input = BytesMut::from(&framed(&[vec![7; MAX_PAYLOAD + 1]])[..]);
        assert!(next_payload(&mut input).is_err());
    }

    #[test]
    fn an_empty_frame_is_a_violation() {
        assert_eq!(next_payload(&mut BytesMut::from(&[0; 4][..])), Err(Violation::EmptyFrame));
    }
}
