//! The first frame of either side, and the ids in them.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::instance::InstanceId;
use crate::error::violation::Violation;
use crate::proto::kind::{self, put_kind};

const MAGIC: [u8; 8] = *b"STEADFST";

/// A client's life, named by 16 random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ClientId(pub(crate) [u8; 16]);

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
    /// The smallest id that no call has been given yet.
    pub(crate) next_id: u64,
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
    /// Grows in the life of a process, each time that it begins to remember the client anew; 0 if it is not told.
    pub(crate) memory: u64,
}

/// Takes a `HELLO` apart, without its kind; `length` is that of the whole payload.
pub(crate) fn decode_hello(mut payload: Bytes, length: usize) -> Result<Hello, Violation> {
    if !payload.starts_with(&MAGIC) {
        return Err(Violation::NotHello);
    }
    if payload.len() < 64 {
        return Err(Violation::TooShort { name: "HELLO", length });
    }
    payload.advance(MAGIC.len());
    Ok(Hello {
        min_version: payload.get_u16(),
        max_version: payload.get_u16(),
        client: ClientId(payload.get_u128().to_be_bytes()),
        connection: payload.get_u64(),
        replaces: payload.get_u64(),
        max_message: payload.get_u32(),
        every: payload.get_u32(),
        give_up_after: payload.get_u32(),
        next_id: payload.get_u64(),
    })
}

pub(crate) fn encode_hello(hello: &Hello, out: &mut BytesMut) {
    put_kind(65, kind::HELLO, out);
    out.put_slice(&MAGIC);
    out.put_u16(hello.min_version);
    out.put_u16(hello.max_version);
    out.put_slice(&hello.client.0);
    out.put_u64(hello.connection);
    out.put_u64(hello.replaces);
    out.put_u32(hello.max_message);
    out.put_u32(hello.every);
    out.put_u32(hello.give_up_after);
    out.put_u64(hello.next_id);
}

/// Takes a `WELCOME` apart, without its kind; `length` is that of the whole payload.
pub(crate) fn decode_welcome(mut payload: Bytes, length: usize) -> Result<Welcome, Violation> {
    if payload.len() < 50 {
        return Err(Violation::TooShort { name: "WELCOME", length });
    }
    Ok(Welcome {
        version: payload.get_u16(),
        instance: InstanceId(payload.get_u128().to_be_bytes()),
        max_message: payload.get_u32(),
        max_in_flight: payload.get_u32(),
        idle_limit: payload.get_u32(),
        every: payload.get_u32(),
        cached_calls: payload.get_u32(),
        cached_bytes: payload.get_u64(),
        cache_age: payload.get_u32(),
        memory: payload.try_get_u64().unwrap_or_default(),
    })
}

pub(crate) fn encode_welcome(welcome: &Welcome, out: &mut BytesMut) {
    put_kind(if welcome.memory == 0 { 51 } else { 59 }, kind::WELCOME, out);
    out.put_u16(welcome.version);
    out.put_slice(&welcome.instance.0);
    out.put_u32(welcome.max_message);
    out.put_u32(welcome.max_in_flight);
    out.put_u32(welcome.idle_limit);
    out.put_u32(welcome.every);
    out.put_u32(welcome.cached_calls);
    out.put_u64(welcome.cached_bytes);
    out.put_u32(welcome.cache_age);
    if welcome.memory != 0 {
        out.put_u64(welcome.memory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_welcome_may_end_before_the_memory_and_what_follows_it_is_ignored() {
        let welcome = Welcome {
            version: 1,
            instance: InstanceId([7; 16]),
            max_message: 1,
            max_in_flight: 2,
            idle_limit: 3,
            every: 4,
            cached_calls: 5,
            cached_bytes: 6,
            cache_age: 7,
            memory: 8,
        };
        let mut frame = BytesMut::new();
        encode_welcome(&welcome, &mut frame);
        frame.put_slice(b"more");
        // Without the length and the kind.
        let payload = frame.freeze().slice(5..);
        let decode = |length| decode_welcome(payload.slice(..length), length + 1).unwrap();
        assert_eq!((decode(payload.len()), decode(58)), (welcome.clone(), welcome.clone()));
        for length in [50, 57] {
            assert_eq!(decode(length), Welcome { memory: 0, ..welcome.clone() });
        }
    }
}
