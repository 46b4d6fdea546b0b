//! A transport that has to be flushed: what is written counts as written, and is in its memory at first.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use steadfast::Transport;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

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

pub(crate) struct Buffer<T> {
    transport: T,
    kept: Vec<u8>,
    habit: Habit,
}

/// Around a transport.
pub(crate) fn buffered<T: Transport>(habit: Habit) -> impl Fn(T) -> Buffer<T> {
    move |transport| Buffer { transport, kept: Vec::new(), habit }
}

impl<T: Transport> Buffer<T> {
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let count = ready!(Pin::new(&mut self.transport).poll_write(cx, &self.kept))?;
            self.kept.drain(..count);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> AsyncRead for Buffer<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_read(cx, buffer)
    }
}

impl<T: Transport> AsyncWrite for Buffer<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.kept.len() >= ROOM {
            ready!(self.poll_out(cx))?;
        }
        self.kept.extend_from_slice(bytes);
        if self.habit == Habit::Eager {
            let _: Poll<()> = self.poll_out(cx)?.map(drop);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_out(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx))?;
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}
