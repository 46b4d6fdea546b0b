//! What somebody's own code holds, with a bug: its drop panics.

use steadfast::Bytes;

#[derive(Debug)]
pub(crate) struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bug of the user's, in a drop");
    }
}

struct Body {
    bytes: Vec<u8>,
    _bomb: Bomb,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A body of so many bytes.
pub(crate) fn bomb(length: usize) -> Bytes {
    Bytes::from_owner(Body { bytes: vec![7; length], _bomb: Bomb })
}
