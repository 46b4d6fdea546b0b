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
        _ => Err(Violation::FrameTooLong { length: length as u64, limit: MAX_PAYLOAD as u64 }),
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
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let (piece, tail) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                rest = tail;
                input.extend_from_slice(piece);
                while let Some(payload) = next_payload(&mut input).unwrap() {
                    seen.push(payload.to_vec());
                }
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
            Err(Violation::FrameTooLong { length: 0xffff_ffff, limit: 65_600 })
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
