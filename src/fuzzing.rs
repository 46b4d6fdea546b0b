//! What the fuzzers in `fuzz/` feed: the pure cores, with any bytes and any times. Compiled with `--cfg fuzzing` only, and no part
//! of the library.
//!
//! The bytes of a fuzzer are a script: each says what comes next, so that what it finds by chance it can build upon.

#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

use bytes::{Bytes, BytesMut};

use crate::proto::frame::next_payload;
use crate::proto::native::Frame;

mod callers;
mod client_session;
mod end;
mod foreign_session;
mod script;
mod server_session;
mod splits;

pub use client_session::client_session;
pub use foreign_session::foreign_session;
pub use server_session::server_session;
pub use splits::splits;

/// What can be read is written so that it reads as the same. A text that was no UTF-8 has become one, which may be longer than is
/// written: it is compared from then on.
pub fn frame(data: &[u8]) {
    // An empty payload never comes this far.
    if data.is_empty() {
        return;
    }
    let Ok(frame) = Frame::decode(Bytes::copy_from_slice(data)) else { return };
    let once = again(&frame);
    assert_eq!(again(&once), once);
    assert_eq!(once.name(), frame.name());
}

fn again(frame: &Frame) -> Frame {
    let mut out = BytesMut::new();
    frame.encode(&mut out);
    let payload = next_payload(&mut out).unwrap().expect("a whole frame");
    assert!(out.is_empty());
    Frame::decode(payload).unwrap()
}
