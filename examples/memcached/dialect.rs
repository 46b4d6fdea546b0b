//! What steadfast must know of memcached's binary protocol: all of it is here.

use bytes::{BufMut as _, BytesMut};
use steadfast::{
    BoxError, Busy, Bytes, Dialect, ErrorReply, Frames, Framing, Matching, Meaning, Protocol,
    Refusal, To, Unsendable, Violation,
};

use crate::packet::{self, HEADER, Response};

/// Longer keys make memcached close the connection, and with it all other calls on it.
const LONGEST_KEY: u16 = 250;
/// Its values have at most 1 MiB unless it is told otherwise, with `-I`. Beside the value a packet holds little.
const LONGEST_PACKET: usize = (1 << 20) + 4096;

/// A call's body is a whole [request](packet::request), its reply the value of the response; of statistics, a line
/// `name value` for each.
#[derive(Debug, Clone)]
pub(crate) struct Memcached;

impl Dialect for Memcached {
    fn framing(&self) -> Framing {
        Framing::u32_be().offset(8).counts_from(HEADER).keep_header().limit(LONGEST_PACKET)
    }

    fn matching(&self) -> Matching {
        Matching::ById { min: 0, max: u32::MAX.into() }
    }

    fn request(&self, id: u64, body: Bytes, head: &mut BytesMut) -> Result<Bytes, Unsendable> {
        if body.len() < HEADER {
            return Err(Unsendable::Refused { why: "not a request of memcached's" });
        }
        if packet::key_length(&body) > LONGEST_KEY {
            return Err(Unsendable::Refused { why: "memcached's keys have at most 250 bytes" });
        }
        packet::with_opaque(&body[..HEADER], id as u32, head);
        Ok(body.slice(HEADER..))
    }

    fn received(&self, frame: Bytes) -> Result<Meaning, Violation> {
        let Some(response) = Response::parse(frame) else {
            return Err(Violation::Malformed { what: "it is no response of memcached's" });
        };
        let to = To::Id(response.opaque.into());
        Ok(match response {
            Response { status: packet::OK, opcode: packet::STAT, key, value, .. }
                if !key.is_empty() =>
            {
                Meaning::Part { to, body: line(&key, &value) }
            }
            Response { status: packet::OK, value, .. } => Meaning::Reply { to, body: value },
            Response { status: packet::BUSY | packet::TEMPORARY_FAILURE, .. } => {
                Meaning::Refused { to, refusal: Refusal::new(Refusal::OVERLOADED) }
            }
            Response { status, value, .. } => {
                let text = String::from_utf8_lossy(&value).into_owned();
                Meaning::Error { to, error: ErrorReply::new(status.into(), text) }
            }
        })
    }

    fn ping(&self, id: u64) -> Option<Bytes> {
        let mut noop = BytesMut::with_capacity(HEADER);
        packet::with_opaque(&packet::request(packet::NOOP, &[], "", &[]), id as u32, &mut noop);
        Some(noop.freeze())
    }
}

impl Protocol for Memcached {
    /// Asks for a sign of life: a memcached that has no room for a connection accepts it, says so in the words of its
    /// other protocol, whichever the client speaks, and closes.
    async fn open(&mut self, frames: &mut Frames<'_>) -> Result<(), BoxError> {
        frames.send(packet::request(packet::NOOP, &[], "", &[])).await?;
        match frames.recv().await {
            Ok(_) => Ok(()),
            Err(_) if frames.unread().starts_with(b"ERROR ") => {
                let text = String::from_utf8_lossy(frames.unread()).trim_end().to_owned();
                Err(Busy::new(text).into())
            }
            Err(cause) => Err(cause.into()),
        }
    }
}

fn line(name: &[u8], value: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(name.len() + value.len() + 2);
    line.put_slice(name);
    line.put_u8(b' ');
    line.put_slice(value);
    line.put_u8(b'\n');
    line.freeze()
}
