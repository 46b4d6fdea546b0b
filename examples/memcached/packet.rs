//! A packet of memcached's binary protocol, as <https://docs.memcached.org/protocols/binary/> has it.
//!
//! ```text
//!  0       1        2            4               5           6        8        12       16     24
//!  magic   opcode   length of    length of the   data type   status   length   opaque   CAS    extras, key, value
//!                   the key      extras          (0)         (*)      of these
//! ```
//!
//! (*) Of a response; 0 in a request. The opaque comes back as it was sent: it is the call's id.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// The length of what stands before the extras.
pub(crate) const HEADER: usize = 24;

const REQUEST: u8 = 0x80;
const RESPONSE: u8 = 0x81;

pub(crate) const GET: u8 = 0x00;
pub(crate) const SET: u8 = 0x01;
pub(crate) const DELETE: u8 = 0x04;
pub(crate) const NOOP: u8 = 0x0a;
pub(crate) const STAT: u8 = 0x10;

/// The status of a response that is no error.
pub(crate) const OK: u16 = 0;
pub(crate) const NOT_FOUND: u16 = 1;
/// Servers that speak the protocol of memcached, and are busier than it, say these before they have done anything.
pub(crate) const BUSY: u16 = 0x85;
pub(crate) const TEMPORARY_FAILURE: u16 = 0x86;

/// A request. Its opaque, and the length of what follows the header, are filled in when it is sent.
pub(crate) fn request(opcode: u8, extras: &[u8], key: &str, value: &[u8]) -> Bytes {
    let mut packet = BytesMut::with_capacity(HEADER + extras.len() + key.len() + value.len());
    packet.put_u8(REQUEST);
    packet.put_u8(opcode);
    // A key that does not fit is far too long for memcached as well, and the dialect says so.
    packet.put_u16(u16::try_from(key.len()).unwrap_or(u16::MAX));
    packet.put_u8(extras.len() as u8);
    packet.put_bytes(0, HEADER - 5);
    packet.put_slice(extras);
    packet.put_slice(key.as_bytes());
    packet.put_slice(value);
    packet.freeze()
}

/// The same with this opaque.
pub(crate) fn with_opaque(packet: &[u8], opaque: u32, out: &mut BytesMut) {
    out.put_slice(&packet[..12]);
    out.put_u32(opaque);
    out.put_slice(&packet[16..]);
}

/// The length that a packet says its key has.
pub(crate) fn key_length(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[2], packet[3]])
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) opcode: u8,
    pub(crate) status: u16,
    pub(crate) opaque: u32,
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
}

impl Response {
    /// `None` if it is none.
    pub(crate) fn parse(mut packet: Bytes) -> Option<Self> {
        let mut header = packet.split_to(packet.len().min(HEADER));
        if header.len() < HEADER || header.get_u8() != RESPONSE {
            return None;
        }
        let opcode = header.get_u8();
        let key_length = usize::from(header.get_u16());
        let extras_length = usize::from(header.get_u8());
        header.advance(1);
        let status = header.get_u16();
        header.advance(4);
        let opaque = header.get_u32();
        if extras_length + key_length > packet.len() {
            return None;
        }
        packet.advance(extras_length);
        let key = packet.split_to(key_length);
        Some(Self { opcode, status, opaque, key, value: packet })
    }
}
