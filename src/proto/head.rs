//! What stands before the bytes of a message, and of each further part of a long one.

use bytes::{Buf as _, BufMut, BytesMut};

use crate::proto::frame::PREFIX;
use crate::proto::kind::{self, put_kind};

/// The longest part of a message in one frame, in bytes.
pub(crate) const MAX_PART: usize = 65_536;
/// Long messages in transit at once, in each direction of a connection.
pub(crate) const MAX_UNFINISHED: usize = 16;
/// What stands before the bytes of a request that is whole, the kind included, in bytes.
const REQUEST: usize = 22;
/// The same for other messages.
const OTHER: usize = 10;
/// The longest head, the length prefix included, in bytes.
pub(crate) const MAX_HEAD: usize = PREFIX + REQUEST + 4;
pub(crate) const MORE: u8 = 0x01;
const LAST: u8 = 0x01;
pub(crate) const REPEATABLE: u8 = 0x02;
pub(crate) const RESENT: u8 = 0x04;

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

    /// The id, if it is a request's.
    pub(crate) fn request_id(&self) -> Option<u64> {
        match *self {
            Self::Request(RequestHead { id, .. }) => Some(id),
            Self::Reply { .. } | Self::Notify { .. } | Self::Push { .. } => None,
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
        let rest = part + if total.is_some() { 4 } else { 0 };
        // Each put together first, because it goes out in front of every call.
        match *self {
            Self::Request(head) => {
                let flags = more
                    | if head.repeatable { REPEATABLE } else { 0 }
                    | if head.resent { RESENT } else { 0 };
                let mut bytes = [0; PREFIX + REQUEST];
                let mut to = &mut bytes[..];
                put_kind(REQUEST + rest, kind::REQUEST, &mut to);
                to.put_u8(flags);
                to.put_u64(head.id);
                to.put_u32(head.remaining);
                to.put_u64(head.oldest);
                out.put_slice(&bytes);
            }
            Self::Reply { id } | Self::Notify { id } | Self::Push { id } => {
                let mut bytes = [0; PREFIX + OTHER];
                let mut to = &mut bytes[..];
                put_kind(OTHER + rest, self.kind(), &mut to);
                to.put_u8(more);
                to.put_u64(id);
                out.put_slice(&bytes);
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

/// Where a `CHUNK` stands in its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// Others come behind it.
    Inner,
    Last,
}

impl Position {
    pub(crate) fn of(flags: u8) -> Self {
        if flags & LAST == 0 { Self::Inner } else { Self::Last }
    }
}

/// What stands before the bytes of a `CHUNK`, and how many of those there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkHead {
    pub(crate) id: u64,
    pub(crate) position: Position,
    pub(crate) length: usize,
}

impl ChunkHead {
    /// In bytes, the length prefix included.
    pub(crate) const LENGTH: usize = PREFIX + OTHER;

    /// Of the frame that `input` begins with, if that is a `CHUNK` and its head has come.
    pub(crate) fn peek(input: &[u8]) -> Option<Self> {
        let mut head = &input.first_chunk::<{ Self::LENGTH }>()?[..];
        let length = (head.get_u32() as usize).checked_sub(OTHER)?;
        let is_chunk = head.get_u8() == kind::CHUNK;
        let position = Position::of(head.get_u8());
        is_chunk.then(|| Self { id: head.get_u64(), position, length })
    }

    /// Writes everything that comes before the bytes, the length prefix included.
    pub(crate) fn put(&self, out: &mut BytesMut) {
        put_kind(OTHER + self.length, kind::CHUNK, out);
        out.put_u8(match self.position {
            Position::Inner => 0,
            Position::Last => LAST,
        });
        out.put_u64(self.id);
    }
}
