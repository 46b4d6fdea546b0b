//! What a payload means in `Native`, version 1. `docs/protocol.md` is the specification; this file is its codec
//! and holds no state.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::loss::GoAway;
use crate::error::violation::Violation;
use crate::proto::frame::PREFIX;

pub(crate) const VERSION: u16 = 1;
/// The longest part of a message in one frame, in bytes.
pub(crate) const MAX_PART: usize = 65_536;
/// Long messages in transit at once, in each direction of a connection.
pub(crate) const MAX_UNFINISHED: usize = 16;
/// Set in the ids that a server gives to pushes, clear in those of clients.
pub(crate) const PUSH_BIT: u64 = 1 << 63;
const MAGIC: [u8; 8] = *b"STEADFST";
const MAX_TEXT: usize = 1024;
const MORE: u8 = 0x01;
const LAST: u8 = 0x01;
const REPEATABLE: u8 = 0x02;
const RESENT: u8 = 0x04;

/// Codes of `GOAWAY`.
pub(crate) mod goodbye {
    pub(crate) const CLOSING: u32 = 0;
    pub(crate) const IDLE: u32 = 1;
    pub(crate) const VIOLATION: u32 = 2;
}

/// A client's life, named by 16 random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ClientId(pub(crate) [u8; 16]);

/// One run of a server process, named by 16 random bytes that it draws when it starts.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct InstanceId(pub(crate) [u8; 16]);

impl InstanceId {
    /// The bytes as they are on the wire.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl std::fmt::Display for InstanceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// The client's first frame. Times in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) min_version: u16,
    pub(crate) max_version: u16,
    pub(crate) client: ClientId,
    pub(crate) connection: u64,
    pub(crate) replaces: u64,
    pub(crate) max_message: u32,
    pub(crate) every: u32,
    pub(crate) give_up_after: u32,
}

/// The server's first frame. Times in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Welcome {
    pub(crate) version: u16,
    pub(crate) instance: InstanceId,
    pub(crate) max_message: u32,
    pub(crate) max_in_flight: u32,
    pub(crate) idle_limit: u32,
    pub(crate) every: u32,
    pub(crate) cached_calls: u32,
    pub(crate) cached_bytes: u64,
    pub(crate) cache_age: u32,
}

/// What stands before a message's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    Request(RequestHead),
    Reply { id: u64 },
    Notify { id: u64 },
    Push { id: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestHead {
    pub(crate) id: u64,
    pub(crate) repeatable: bool,
    pub(crate) resent: bool,
    /// Milliseconds; 0: no deadline.
    pub(crate) remaining: u32,
    pub(crate) oldest: u64,
}

impl Head {
    pub(crate) fn id(&self) -> u64 {
        match *self {
            Self::Request(RequestHead { id, .. }) => id,
            Self::Reply { id } | Self::Notify { id } | Self::Push { id } => id,
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Request(_) => "REQUEST",
            Self::Reply { .. } => "REPLY",
            Self::Notify { .. } => "NOTIFY",
            Self::Push { .. } => "PUSH",
        }
    }

    /// Writes everything that comes before `part` bytes of the message, the length prefix included.
    pub(crate) fn put(&self, total: Option<u32>, part: usize, out: &mut BytesMut) {
        let more = if total.is_some() { MORE } else { 0 };
        let total_length = if total.is_some() { 4 } else { 0 };
        match *self {
            Self::Request(head) => {
                put_kind(22 + total_length + part, kind::REQUEST, out);
                let mut flags = more;
                flags |= if head.repeatable { REPEATABLE } else { 0 };
                flags |= if head.resent { RESENT } else { 0 };
                out.put_u8(flags);
                out.put_u64(head.id);
                out.put_u32(head.remaining);
                out.put_u64(head.oldest);
            }
            Self::Reply { id } | Self::Notify { id } | Self::Push { id } => {
                put_kind(10 + total_length + part, self.kind(), out);
                out.put_u8(more);
                out.put_u64(id);
            }
        }
        if let Some(total) = total {
            out.put_u32(total);
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Request(_) => kind::REQUEST,
            Self::Reply { .. } => kind::REPLY,
            Self::Notify { .. } => kind::NOTIFY,
            Self::Push { .. } => kind::PUSH,
        }
    }
}

/// Writes what comes before the bytes of a `CHUNK`.
pub(crate) fn put_chunk_head(id: u64, last: bool, part: usize, out: &mut BytesMut) {
    put_kind(10 + part, kind::CHUNK, out);
    out.put_u8(if last { LAST } else { 0 });
    out.put_u64(id);
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
        last: bool,
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

mod kind {
    pub(super) const HELLO: u8 = 0x01;
    pub(super) const WELCOME: u8 = 0x02;
    pub(super) const BUSY: u8 = 0x03;
    pub(super) const REJECT: u8 = 0x04;
    pub(super) const REQUEST: u8 = 0x10;
    pub(super) const REPLY: u8 = 0x11;
    pub(super) const ERROR: u8 = 0x12;
    pub(super) const REFUSED: u8 = 0x13;
    pub(super) const CHUNK: u8 = 0x14;
    pub(super) const CANCEL: u8 = 0x15;
    pub(super) const NOTIFY: u8 = 0x16;
    pub(super) const PUSH: u8 = 0x17;
    pub(super) const PING: u8 = 0x20;
    pub(super) const PONG: u8 = 0x21;
    pub(super) const GOAWAY: u8 = 0x22;
    pub(super) const FIRST_IGNORED: u8 = 0x80;
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
                Self::Chunk { id: payload.get_u64(), last, part: payload }
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
            kind::HELLO => decode_hello(payload, length)?,
            kind::WELCOME => {
                need("WELCOME", 50, &payload)?;
                decode_welcome(payload)
            }
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
            Self::Chunk { id, last, part } => {
                put_chunk_head(*id, *last, part.len(), out);
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

fn put_kind(payload: usize, kind: u8, out: &mut BytesMut) {
    out.reserve(PREFIX + payload);
    out.put_u32(payload as u32);
    out.put_u8(kind);
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

fn decode_hello(mut payload: Bytes, length: usize) -> Result<Frame, Violation> {
    if !payload.starts_with(&MAGIC) {
        return Err(Violation::NotHello);
    }
    if payload.len() < 56 {
        return Err(Violation::TooShort { name: "HELLO", length });
    }
    payload.advance(MAGIC.len());
    Ok(Frame::Hello(Hello {
        min_version: payload.get_u16(),
        max_version: payload.get_u16(),
        client: ClientId(payload.get_u128().to_be_bytes()),
        connection: payload.get_u64(),
        replaces: payload.get_u64(),
        max_message: payload.get_u32(),
        every: payload.get_u32(),
        give_up_after: payload.get_u32(),
    }))
}

fn encode_hello(hello: &Hello, out: &mut BytesMut) {
    put_kind(57, kind::HELLO, out);
    out.put_slice(&MAGIC);
    out.put_u16(hello.min_version);
    out.put_u16(hello.max_version);
    out.put_slice(&hello.client.0);
    out.put_u64(hello.connection);
    out.put_u64(hello.replaces);
    out.put_u32(hello.max_message);
    out.put_u32(hello.every);
    out.put_u32(hello.give_up_after);
}

fn decode_welcome(mut payload: Bytes) -> Frame {
    Frame::Welcome(Welcome {
        version: payload.get_u16(),
        instance: InstanceId(payload.get_u128().to_be_bytes()),
        max_message: payload.get_u32(),
        max_in_flight: payload.get_u32(),
        idle_limit: payload.get_u32(),
        every: payload.get_u32(),
        cached_calls: payload.get_u32(),
        cached_bytes: payload.get_u64(),
        cache_age: payload.get_u32(),
    })
}

fn encode_welcome(welcome: &Welcome, out: &mut BytesMut) {
    put_kind(51, kind::WELCOME, out);
    out.put_u16(welcome.version);
    out.put_slice(&welcome.instance.0);
    out.put_u32(welcome.max_message);
    out.put_u32(welcome.max_in_flight);
    out.put_u32(welcome.idle_limit);
    out.put_u32(welcome.every);
    out.put_u32(welcome.cached_calls);
    out.put_u64(welcome.cached_bytes);
    out.put_u32(welcome.cache_age);
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
    use crate::proto::frame::{MAX_PAYLOAD, next_payload};

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
