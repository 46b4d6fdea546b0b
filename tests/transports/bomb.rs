//! What somebody's own code holds, with a bug: its drop panics.

use steadfast::Bytes;

#[derive(Debug)]
pub(crate) struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bug of the user's, in a drop");
    }
}

struct Body<B> {
    bytes: Vec<u8>,
    _bomb: B,
}

impl<B> AsRef<[u8]> for Body<B> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A body of so many bytes.
pub(crate) fn bomb(length: usize) -> Bytes {
    body_with(length, Bomb)
}

/// One that is the last owner of somebody else's bomb.
pub(crate) fn body_with<B: Send + 'static>(length: usize, bomb: B) -> Bytes {
    Bytes::from_owner(Body { bytes: vec![7; length], _bomb: bomb })
}
