//! What a payload means in `Native`, version 1. `docs/protocol.md` is the specification; this file is its codec
//! and holds no state.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};

use crate::error::loss::GoAway;
use crate::error::violation::Violation;
use crate::proto::greeting::{
    Hello, Welcome, decode_hello, decode_welcome, encode_hello, encode_welcome,
};
use crate::proto::head::{ChunkHead, Head, MORE, Position, REPEATABLE, RESENT, RequestHead};
use crate::proto::kind::{self, put_kind};

pub(crate) const VERSION: u16 = 1;
/// Set in the ids that a server gives to pushes, clear in those of clients.
pub(crate) const PUSH_BIT: u64 = 1 << 63;
const MAX_TEXT: usize = 1024;

/// One frame, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    Hello(Hello),
    Welcome(Welcome),
    Busy {
        code: u32,
        retry_after: u32,
        text: Arc<str>,
    },
    Reject {
        code: u32,
        text: Arc<str>,
    },
    /// A message, or the beginning of one that has `total` bytes.
    Message {
        head: Head,
        total: Option<u32>,
        part: Bytes,
    },
    Chunk {
        id: u64,
        position: Position,
        part: Bytes,
    },
    Error {
        id: u64,
        code: u32,
        text: Arc<str>,
    },
    Refused {
        id: u64,
        code: u32,
        retry_after: u32,
    },
    Cancel {
        id: u64,
    },
    Ping {
        nonce: u64,
    },
    Pong {
        nonce: u64,
    },
    GoAway(GoAway),
    /// Of a later version, to be ignored.
    Unknown {
        kind: u8,
    },
}

impl Frame {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "HELLO",
            Self::Welcome(_) => "WELCOME",
            Self::Busy { .. } => "BUSY",
            Self::Reject { .. } => "REJECT",
            Self::Message { head, .. } => head.name(),
            Self::Chunk { .. } => "CHUNK",
            Self::Error { .. } => "ERROR",
            Self::Refused { .. } => "REFUSED",
            Self::Cancel { .. } => "CANCEL",
            Self::Ping { .. } => "PING",
            Self::Pong { .. } => "PONG",
            Self::GoAway(_) => "GOAWAY",
            Self::Unknown { .. } => "unknown kind",
        }
    }

    /// Takes a payload apart. The payload is not empty, see [`next_payload`](crate::proto::frame::next_payload).
    pub(crate) fn decode(mut payload: Bytes) -> Result<Self, Violation> {
        let length = payload.len();
        let kind = payload.get_u8();
        let too_short = |name| move |_| Violation::TooShort { name, length };
        match kind {
            kind::HELLO => decode_hello(payload, length).map(Self::Hello),
            kind::WELCOME => decode_welcome(payload, length).map(Self::Welcome),
            kind::BUSY => busy(payload).map_err(too_short("BUSY")),
            kind::REJECT => reject(payload).map_err(too_short("REJECT")),
            kind::REQUEST => request(payload).map_err(too_short("REQUEST")),
            kind::REPLY => message(|id| Head::Reply { id }, payload).map_err(too_short("REPLY")),
            kind::NOTIFY => message(|id| Head::Notify { id }, payload).map_err(too_short("NOTIFY")),
            kind::PUSH => message(|id| Head::Push { id }, payload).map_err(too_short("PUSH")),
            kind::CHUNK => chunk(payload).map_err(too_short("CHUNK")),
            kind::ERROR => error(payload).map_err(too_short("ERROR")),
            kind::REFUSED => refused(payload).map_err(too_short("REFUSED")),
            kind::CANCEL => number(|id| Self::Cancel { id }, payload).map_err(too_short("CANCEL")),
            kind::PING => number(|nonce| Self::Ping { nonce }, payload).map_err(too_short("PING")),
            kind::PONG => number(|nonce| Self::Pong { nonce }, payload).map_err(too_short("PONG")),
            kind::GOAWAY => go_away(payload).map_err(too_short("GOAWAY")),
            kind::FIRST_IGNORED.. => Ok(Self::Unknown { kind }),
            _ => Err(Violation::UnknownKind { kind }),
        }
    }

    /// Writes the whole frame, its length prefix included. `Unknown` writes a frame without content.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Hello(hello) => encode_hello(hello, out),
            Self::Welcome(welcome) => encode_welcome(welcome, out),
            Self::Busy { code, retry_after, text } => {
                let text = cut(text);
                put_kind(9 + text.len(), kind::BUSY, out);
                out.put_u32(*code);
                out.put_u32(*retry_after);
                out.put_slice(text);
            }
            Self::Reject { code, text } => {
                let text = cut(text);
                put_kind(5 + text.len(), kind::REJECT, out);
                out.put_u32(*code);
                out.put_slice(text);
            }
            Self::Message { head, total, part } => {
                head.put(*total, part.len(), out);
                out.put_slice(part);
            }
            Self::Chunk { id, position, part } => {
                ChunkHead { id: *id, position: *position, length: part.len() }.put(out);
                out.put_slice(part);
            }
            Self::Error { id, code, text } => {
                let text = cut(text);
                put_kind(13 + text.len(), kind::ERROR, out);
                out.put_u64(*id);
                out.put_u32(*code);
                out.put_slice(text);
            }
            Self::Refused { id, code, retry_after } => {
                put_kind(17, kind::REFUSED, out);
                out.put_u64(*id);
                out.put_u32(*code);
                out.put_u32(*retry_after);
            }
            Self::Cancel { id } => put_number(kind::CANCEL, *id, out),
            Self::Ping { nonce } => put_number(kind::PING, *nonce, out),
            Self::Pong { nonce } => put_number(kind::PONG, *nonce, out),
            Self::GoAway(goodbye) => {
                let text = cut(&goodbye.text);
                put_kind(17 + text.len(), kind::GOAWAY, out);
                out.put_u32(goodbye.code);
                out.put_u64(goodbye.accepted);
                out.put_u32(goodbye.retry_after.map_or(0, millis));
                out.put_slice(text);
            }
            Self::Unknown { kind } => put_kind(1, *kind, out),
        }
    }
}

fn put_number(kind: u8, number: u64, out: &mut BytesMut) {
    put_kind(9, kind, out);
    out.put_u64(number);
}

// What comes behind the kind. An error says that it ends before its fixed fields do.

fn busy(mut rest: Bytes) -> Result<Frame, TryGetError> {
    let (code, retry_after) = (rest.try_get_u32()?, rest.try_get_u32()?);
    Ok(Frame::Busy { code, retry_after, text: text(&rest) })
}

fn reject(mut rest: Bytes) -> Result<Frame, TryGetError> {
    let code = rest.try_get_u32()?;
    Ok(Frame::Reject { code, text: text(&rest) })
}

fn request(mut rest: Bytes) -> Result<Frame, TryGetError> {
    let flags = rest.try_get_u8()?;
    let head = RequestHead {
        id: rest.try_get_u64()?,
        repeatable: flags & REPEATABLE != 0,
        resent: flags & RESENT != 0,
        remaining: rest.try_get_u32()?,
        oldest: rest.try_get_u64()?,
    };
    let total = total(flags, &mut rest)?;
    Ok(Frame::Message { head: Head::Request(head), total, part: rest })
}

fn message(head: impl FnOnce(u64) -> Head, mut rest: Bytes) -> Result<Frame, TryGetError> {
    let (flags, id) = (rest.try_get_u8()?, rest.try_get_u64()?);
    let total = total(flags, &mut rest)?;
    Ok(Frame::Message { head: head(id), total, part: rest })
}

/// The length of a message that goes on in other frames.
fn total(flags: u8, rest: &mut Bytes) -> Result<Option<u32>, TryGetError> {
    if flags & MORE == 0 { Ok(None) } else { rest.try_get_u32().map(Some) }
}

fn chunk(mut rest: Bytes) -> Result<Frame, TryGetError> {
    let (flags, id) = (rest.try_get_u8()?, rest.try_get_u64()?);
    let position = Position::of(flags);
    Ok(Frame::Chunk { id, position, part: rest })
}

fn error(mut rest: Bytes) -> Result<Frame, TryGetError> {
    let (id, code) = (rest.try_get_u64()?, rest.try_get_u32()?);
    Ok(Frame::Error { id, code, text: text(&rest) })
}

fn refused(mut rest: Bytes) -> Result<Frame, TryGetError> {
    let (id, code) = (rest.try_get_u64()?, rest.try_get_u32()?);
    Ok(Frame::Refused { id, code, retry_after: rest.try_get_u32()? })
}

fn number(frame: impl FnOnce(u64) -> Frame, mut rest: Bytes) -> Result<Frame, TryGetError> {
    rest.try_get_u64().map(frame)
}

fn go_away(mut rest: Bytes) -> Result<Frame, TryGetError> {
    let (code, accepted) = (rest.try_get_u32()?, rest.try_get_u64()?);
    let retry_after = after(rest.try_get_u32()?);
    Ok(Frame::GoAway(GoAway { code, accepted, retry_after, text: text(&rest) }))
}

/// What a peer wrote for people: bounded, and readable whatever the bytes are.
fn text(bytes: &[u8]) -> Arc<str> {
    String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_TEXT)]).into()
}

/// As much of a text as may be sent, cut between two characters.
fn cut(text: &str) -> &[u8] {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text.as_bytes()[..end]
}

/// A duration as the wire has it: whole milliseconds, rounded up, at most what fits.
pub(crate) fn millis(duration: Duration) -> u32 {
    duration.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(u32::MAX)
}

/// A bound as the wire has it: at most what fits.
pub(crate) fn wire(bound: usize) -> u32 {
    bound.try_into().unwrap_or(u32::MAX)
}

/// A time of the wire in which 0 means that there is none.
pub(crate) fn after(millis: u32) -> Option<Duration> {
    (millis > 0).then(|| Duration::from_millis(millis.into()))
}

#[cfg(test)]
mod vectors;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::frame::{MAX_PAYLOAD, PREFIX, next_payload};
    use crate::proto::head::MAX_PART;

    proptest! {
        #[test]
        fn any_payload_is_decoded_or_refused_without_a_panic(
            payload in prop::collection::vec(any::<u8>(), 1..200),
        ) {
            let _ = Frame::decode(payload.into());
        }

        #[test]
        fn what_decodes_encodes_to_a_frame_that_decodes_to_the_same(
            payload in prop::collection::vec(any::<u8>(), 0..100),
            kind in prop::sample::select(vec![1u8, 2, 3, 4, 16, 17, 18, 19, 20, 21, 22, 23, 32, 33, 34]),
        ) {
            let payload: Bytes = std::iter::once(kind).chain(payload).collect();
            if let Ok(frame) = Frame::decode(payload) {
                let mut out = BytesMut::new();
                frame.encode(&mut out);
                let again = next_payload(&mut out).unwrap().unwrap();
                prop_assert_eq!(Frame::decode(again).unwrap(), frame);
            }
        }
    }

    #[test]
    fn the_longest_part_with_the_longest_head_fits_a_frame() {
        let head = RequestHead { id: 1, repeatable: true, resent: true, remaining: 1, oldest: 1 };
        let mut out = BytesMut::new();
        Head::Request(head).put(Some(u32::MAX), MAX_PART, &mut out);
        assert!(out.len() - PREFIX + MAX_PART <= MAX_PAYLOAD);
    }

    #[test]
    fn a_small_call_costs_26_bytes_and_its_reply_14() {
        let head = RequestHead { id: 1, repeatable: false, resent: false, remaining: 1, oldest: 1 };
        let mut out = BytesMut::new();
        Head::Request(head).put(None, 0, &mut out);
        assert_eq!(out.len(), 26);
        out.clear();
        Head::Reply { id: 1 }.put(None, 0, &mut out);
        assert_eq!(out.len(), 14);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "ä".repeat(600);
        assert_eq!(cut(&text).len(), 1024);
        let text = format!("x{text}");
        assert_eq!(cut(&text).len(), 1023);
    }
}
