//! What goes out with the next writes: frames behind one another, and long bodies that are not copied between them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;

use super::ID;

/// Bodies at least so long are not copied.
const SHARED: usize = 16 * 1024;
/// Pieces given to one write.
const PIECES: usize = 32;

#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// Long bodies, each behind so many of the `bytes`.
    long: Vec<(usize, Bytes)>,
    written: usize,
}

impl Batch {
    pub(super) fn push(&mut self, id: u32, body: &Bytes) {
        self.bytes.extend_from_slice(&((body.len() + ID) as u32).to_be_bytes());
        self.bytes.extend_from_slice(&id.to_be_bytes());
        if body.len() < SHARED {
            self.bytes.extend_from_slice(body);
        } else {
            self.long.push((self.bytes.len(), body.clone()));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn len(&self) -> usize {
        self.bytes.len() + self.long.iter().map(|(_, body)| body.len()).sum::<usize>()
    }

    /// Writes all of it, and is empty then.
    pub(super) fn poll_write(
        &mut self,
        stream: &mut TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let len = self.len();
        while self.written < len {
            let written = if self.long.is_empty() {
                Pin::new(&mut *stream).poll_write(cx, &self.bytes[self.written..])
            } else {
                let mut slices = [IoSlice::new(&[]); PIECES];
                let count = self.slices(&mut slices);
                Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..count])
            };
            self.written += ready!(written)?;
        }
        self.bytes.clear();
        self.long.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// The next pieces, and how many they are.
    fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let (mut skip, mut count, mut copied) = (self.written, 0, 0);
        let mut put = |piece: &'a [u8]| {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            if skipped < piece.len() && count < slices.len() {
                slices[count] = IoSlice::new(&piece[skipped..]);
                count += 1;
            }
        };
        for (behind, body) in &self.long {
            put(&self.bytes[copied..*behind]);
            put(body);
            copied = *behind;
        }
        put(&self.bytes[copied..]);
        count
    }
}
