//! What the session has handed over to be written, and how much of it the operating system has accepted.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};

use crate::panics::discard;
use crate::transport::Transport;

/// Pieces given to one write.
const PIECES: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Outflow {
    pub(super) pieces: VecDeque<Bytes>,
    /// Accepted by `write`, not yet reported to the session.
    accepted: usize,
    /// The transport may hold bytes back until it is flushed, as TLS does.
    is_held_back: bool,
}

impl Outflow {
    /// Bytes that were accepted since this was asked last.
    pub(super) fn take_accepted(&mut self) -> usize {
        std::mem::take(&mut self.accepted)
    }

    /// Whether nothing is to be written or flushed.
    pub(super) fn is_done(&self) -> bool {
        self.pieces.is_empty() && !self.is_held_back
    }

    /// What was not accepted must not be written any more.
    pub(super) fn withdraw(&mut self) {
        self.pieces.drain(..).for_each(discard);
    }

    /// Nothing can be written any more.
    pub(super) fn give_up(&mut self) {
        self.withdraw();
        self.is_held_back = false;
    }

    /// Sees off what was accepted.
    pub(super) fn poll_flush(
        &mut self,
        transport: &mut dyn Transport,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(transport).poll_flush(cx))?;
        self.is_held_back = false;
        Poll::Ready(Ok(()))
    }

    /// Writes once, what there is, and shows `went` the bytes that were accepted. There must be some.
    pub(super) fn poll_write(
        &mut self,
        transport: &mut dyn Transport,
        cx: &mut Context<'_>,
        went: impl FnMut(&[u8]),
    ) -> Poll<io::Result<()>> {
        match ready!(self.poll_write_pieces(Pin::new(transport), cx))? {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            bytes => {
                self.accepted += bytes;
                self.is_held_back = true;
                self.advance(bytes, went);
                Poll::Ready(Ok(()))
            }
        }
    }

    fn poll_write_pieces(
        &self,
        transport: Pin<&mut dyn Transport>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.pieces.len() == 1 || !transport.is_write_vectored() {
            return transport.poll_write(cx, &self.pieces[0]);
        }
        let mut slices = [IoSlice::new(&[]); PIECES];
        let count = self.pieces.len().min(PIECES);
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
        }
        transport.poll_write_vectored(cx, &slices[..count])
    }

    /// Takes off what was accepted.
    fn advance(&mut self, mut bytes: usize, mut went: impl FnMut(&[u8])) {
        while let Some(first) = self.pieces.front_mut() {
            if bytes < first.len() {
                went(&first[..bytes]);
                first.advance(bytes);
                return;
            }
            bytes -= first.len();
            went(first);
            self.pieces.pop_front();
        }
    }
}
