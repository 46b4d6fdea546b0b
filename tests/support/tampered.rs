//! A layer above a transport that does something else for some of what it is asked, and the usual for the rest.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use steadfast::Transport;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) type Below = Box<dyn Transport>;

pub(crate) trait Tamper: Send + Unpin + 'static {
    /// Before whatever it is asked.
    fn asked(&mut self) {}

    fn poll_read(
        &mut self,
        below: &mut Below,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(below).poll_read(cx, buffer)
    }

    fn poll_write(
        &mut self,
        below: &mut Below,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(below).poll_write(cx, bytes)
    }

    fn poll_flush(&mut self, below: &mut Below, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(below).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, below: &mut Below, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(below).poll_shutdown(cx)
    }
}

pub(crate) struct Tampered<T> {
    below: Below,
    tamper: T,
}

impl<T: Tamper> Tampered<T> {
    pub(crate) fn with(tamper: T, below: Below) -> Below {
        Box::new(Self { below, tamper })
    }
}

impl<T: Tamper> AsyncRead for Tampered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { below, tamper } = &mut *self;
        tamper.asked();
        tamper.poll_read(below, cx, buffer)
    }
}

impl<T: Tamper> AsyncWrite for Tampered<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { below, tamper } = &mut *self;
        tamper.asked();
        tamper.poll_write(below, cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { below, tamper } = &mut *self;
        tamper.asked();
        tamper.poll_flush(below, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { below, tamper } = &mut *self;
        tamper.asked();
        tamper.poll_shutdown(below, cx)
    }
}
