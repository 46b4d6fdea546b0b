//! What has arrived and is not taken apart yet, and how much is read at a time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio_util::io::poll_read_buf;

use crate::proto::input::Input;
use crate::transport::Transport;

/// How much is read at a time: little at first, because idle connections should cost little; but what is read at a time is allocated
/// at a time, in pieces of which callers keep each a little.
const READ_LEAST: usize = 3 * 1024;
const READ_MOST: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Inflow {
    pub(super) arrived: Input,
    /// Whether there are bytes that came behind the handshake, which the session has not seen.
    fresh: bool,
    read_size: usize,
    /// The buffer is of a time when more came: the next one, when this is empty, is smaller.
    outgrown: bool,
}

impl Inflow {
    /// `bytes` came behind the handshake.
    pub(super) fn new(bytes: BytesMut) -> Self {
        let fresh = !bytes.is_empty();
        Self { fresh, arrived: bytes.into(), read_size: READ_LEAST, outgrown: false }
    }

    /// Whether bytes came behind the handshake, the first time that it is asked.
    pub(super) fn take_fresh(&mut self) -> bool {
        std::mem::take(&mut self.fresh)
    }

    /// Reads once, and returns what came; nothing at the end of file.
    pub(super) fn poll_read(
        &mut self,
        transport: &mut dyn Transport,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<&[u8]>> {
        let Self { arrived: Input { bytes: input, landing, .. }, read_size, outgrown, .. } = self;
        if let Some(landing) = landing {
            let count = ready!(poll_read_buf(Pin::new(transport), cx, &mut landing.room()))?;
            return Poll::Ready(Ok(&landing.bytes[landing.bytes.len() - count..]));
        }
        if *outgrown && input.is_empty() {
            (*outgrown, *input) = (false, BytesMut::new());
        }
        // Not for every read: as long as somebody keeps a piece of the buffer, reserving means another buffer.
        if input.capacity() - input.len() < *read_size / 4 {
            input.reserve(*read_size);
        }
        let room = input.capacity() - input.len();
        let count = ready!(poll_read_buf(Pin::new(transport), cx, input))?;
        if count == room {
            *read_size = (*read_size * 2).min(READ_MOST);
        } else if count > 0 && count < *read_size / 8 && *read_size > READ_LEAST {
            *read_size = (*read_size / 2).max(READ_LEAST);
            *outgrown = true;
        }
        Poll::Ready(Ok(&input[input.len() - count..]))
    }
}
