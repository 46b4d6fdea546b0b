//! What a payload means in `Native`, version 1. `docs/protocol.md` is the specification; this file is its codec
//! and holds no state.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::loss::GoAway;
use crate::error::violation::Violation;
use crate::proto::greeting::{
    Hello, Welcome, decode_hello, decode_welcome, encode_hello, encode_welcome,
};
use crate::proto::head::{
    Head, LAST, MORE, Position, REPEATABLE, RESENT, RequestHead, put_chunk_head,
};
use crate::proto::kind::{self, put_kind};

pub(crate) const VERSION: u16 = 1;
/// Set in the ids that a server gives to pushes, clear in those of clients.
pub(crate) const PUSH_BIT: u64 = 1 << 63;
const MAX_TEXT: usize = 1024;

/// Codes of `GOAWAY`.
pub(crate) mod goodbye {
    pub(crate) const CLOSING: u32 = 0;
    pub(crate) const IDLE: u32 = 1;
    pub(crate) const VIOLATION: u32 = 2;
}

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
        let too_short = |name| Violation::TooShort { name, length };
        let need = |name, least: usize, payload: &Bytes| {
            if payload.len() < least { Err(too_short(name)) } else { Ok(()) }
        };
        Ok(match kind {
            kind::REQUEST => {
                need("REQUEST", 21, &payload)?;
                let flags = payload.get_u8();
                let head = Head::Request(RequestHead {
                    id: payload.get_u64(),
                    repeatable: flags & REPEATABLE != 0,
                    resent: flags & RESENT != 0,
                    remaining: payload.get_u32(),
                    oldest: payload.get_u64(),
                });
                message(head, flags, payload).ok_or(too_short("REQUEST"))?
            }
            kind::REPLY | kind::NOTIFY | kind::PUSH => {
                let name = match kind {
                    kind::REPLY => "REPLY",
                    kind::NOTIFY => "NOTIFY",
                    _ => "PUSH",
                };
                need(name, 9, &payload)?;
                let flags = payload.get_u8();
                let id = payload.get_u64();
                let head = match kind {
                    kind::REPLY => Head::Reply { id },
                    kind::NOTIFY => Head::Notify { id },
                    _ => Head::Push { id },
                };
                message(head, flags, payload).ok_or(too_short(name))?
            }
            kind::CHUNK => {
                need("CHUNK", 9, &payload)?;
                let last = payload.get_u8() & LAST != 0;
                let position = if last { Position::Last } else { Position::Inner };
                Self::Chunk { id: payload.get_u64(), position, part: payload }
            }
            kind::ERROR => {
                need("ERROR", 12, &payload)?;
                let (id, code) = (payload.get_u64(), payload.get_u32());
                Self::Error { id, code, text: text(&payload) }
            }
            kind::REFUSED => {
                need("REFUSED", 16, &payload)?;
                let (id, code) = (payload.get_u64(), payload.get_u32());
                Self::Refused { id, code, retry_after: payload.get_u32() }
            }
            kind::CANCEL => {
                need("CANCEL", 8, &payload)?;
                Self::Cancel { id: payload.get_u64() }
            }
            kind::PING => {
                need("PING", 8, &payload)?;
                Self::Ping { nonce: payload.get_u64() }
            }
            kind::PONG => {
                need("PONG", 8, &payload)?;
                Self::Pong { nonce: payload.get_u64() }
            }
            kind::GOAWAY => {
                need("GOAWAY", 16, &payload)?;
                let (code, accepted) = (payload.get_u32(), payload.get_u64());
                let retry_after = after(payload.get_u32());
                Self::GoAway(GoAway { code, accepted, retry_after, text: text(&payload) })
            }
            kind::HELLO => Self::Hello(decode_hello(payload, length)?),
            kind::WELCOME => Self::Welcome(decode_welcome(payload, length)?),
            kind::BUSY => {
                need("BUSY", 8, &payload)?;
                let (code, retry_after) = (payload.get_u32(), payload.get_u32());
                Self::Busy { code, retry_after, text: text(&payload) }
            }
            kind::REJECT => {
                need("REJECT", 4, &payload)?;
                Self::Reject { code: payload.get_u32(), text: text(&payload) }
            }
            kind::FIRST_IGNORED.. => Self::Unknown { kind },
            _ => return Err(Violation::UnknownKind { kind }),
        })
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
                put_chunk_head(*id, *position, part.len(), out);
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

fn message(head: Head, flags: u8, mut rest: Bytes) -> Option<Frame> {
    let total = if flags & MORE == 0 {
        None
    } else if rest.len() < 4 {
        return None;
    } else {
        Some(rest.get_u32())
    };
    Some(Frame::Message { head, total, part: rest })
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
