//! The first byte of each payload. `docs/protocol.md` has the table.

use bytes::BufMut;

pub(crate) const HELLO: u8 = 0x01;
pub(crate) const WELCOME: u8 = 0x02;
pub(crate) const BUSY: u8 = 0x03;
pub(crate) const REJECT: u8 = 0x04;
pub(crate) const REQUEST: u8 = 0x10;
pub(crate) const REPLY: u8 = 0x11;
pub(crate) const ERROR: u8 = 0x12;
pub(crate) const REFUSED: u8 = 0x13;
pub(crate) const CHUNK: u8 = 0x14;
pub(crate) const CANCEL: u8 = 0x15;
pub(crate) const NOTIFY: u8 = 0x16;
pub(crate) const PUSH: u8 = 0x17;
pub(crate) const PING: u8 = 0x20;
pub(crate) const PONG: u8 = 0x21;
pub(crate) const GOAWAY: u8 = 0x22;
pub(crate) const FIRST_IGNORED: u8 = 0x80;

/// Writes the length prefix of a payload of so many bytes, and its kind.
pub(crate) fn put_kind(payload: usize, kind: u8, out: &mut impl BufMut) {
    out.put_u32(payload as u32);
    out.put_u8(kind);
}
