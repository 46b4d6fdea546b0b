//! A transport that has to be flushed: what is written counts as written, and is in its memory at first.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite as _;

use crate::support::tampered::{Below, Tamper};

/// So much it keeps at most, as TLS does.
const ROOM: usize = 64 * 1024;

/// What happens to bytes that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    /// They go out as far as the transport takes them at once, the rest when it is flushed: rustls.
    Eager,
    /// All wait to be flushed, or for many more: a buffered writer.
    Lazy,
}

pub(crate) struct Buffer {
    kept: Vec<u8>,
    habit: Habit,
}

impl Buffer {
    pub(crate) fn new(habit: Habit) -> Self {
        Self { kept: Vec::new(), habit }
    }
}

impl Tamper for Buffer {
    fn poll_write(
        &mut self,
        below: &mut Below,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.kept.len() >= ROOM {
            ready!(self.poll_flush(below, cx))?;
        }
        self.kept.extend_from_slice(bytes);
        if self.habit == Habit::Eager {
            let _: Poll<()> = self.poll_flush(below, cx)?.map(drop);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(&mut self, below: &mut Below, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let count = ready!(Pin::new(&mut *below).poll_write(cx, &self.kept))?;
            self.kept.drain(..count);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, below: &mut Below, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(below, cx))?;
        Pin::new(below).poll_shutdown(cx)
    }
}
