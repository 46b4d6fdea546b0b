//! A layer that has to be flushed: what is written counts as written, and is in its memory at first.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use steadfast::{
    Accepting, Connect, Connected, Connecting, Endpoint, Incoming, Listen, Transport,
};
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

pub(crate) struct Layer<T> {
    transport: T,
    kept: Vec<u8>,
    habit: Habit,
}

impl<T: Transport> Layer<T> {
    pub(crate) fn new(transport: T, habit: Habit) -> Self {
        Self { transport, kept: Vec::new(), habit }
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let count = ready!(Pin::new(&mut self.transport).poll_write(cx, &self.kept))?;
            self.kept.drain(..count);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> AsyncRead for Layer<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_read(cx, buffer)
    }
}

impl<T: Transport> AsyncWrite for Layer<T> {
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

/// Over what another one connects.
pub(crate) struct Layered<T>(pub(crate) T, pub(crate) Habit);

impl<C: Connect> Connect for Layered<C> {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Connecting<'a> {
        Box::pin(async move {
            let Connected { transport, address } = self.0.connect(endpoint).await?;
            Ok(Connected { transport: Box::new(Layer::new(transport, self.1)), address })
        })
    }
}

impl<L: Listen> Listen for Layered<L> {
    fn accept(&mut self) -> Accepting<'_> {
        Box::pin(async {
            let Incoming { transport, peer } = self.0.accept().await?;
            Ok(Incoming { transport: Box::new(Layer::new(transport, self.1)), peer })
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
