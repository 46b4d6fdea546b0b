//! The task that reads and writes the socket.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;

use super::batch::Batch;
use super::{HEAD, ID, Shared, Slot, State};

/// Room for what is read at a time.
const INPUT: usize = 256 * 1024;

pub(super) struct Owner {
    shared: Arc<Shared>,
    stream: TcpStream,
    writing: Batch,
    input: Vec<u8>,
    /// What of the input has come and is not taken apart.
    start: usize,
    end: usize,
    long: Option<Long>,
    /// To be woken when the lock is released.
    wake: Vec<Waker>,
    /// Whether callers had a turn to add their bytes since the last write.
    gathered: bool,
}

/// A reply longer than the input has room for, read straight to where the caller wants it.
struct Long {
    slot: u32,
    buffer: Vec<u8>,
    filled: usize,
}

impl Owner {
    pub(super) fn new(shared: Arc<Shared>, stream: TcpStream) -> Self {
        let input = vec![0; INPUT];
        let (writing, wake) = (Batch::default(), Vec::new());
        Self { shared, stream, writing, input, start: 0, end: 0, long: None, wake, gathered: false }
    }

    /// Runs until the connection is dead.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match self.poll_turn(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(error),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.poll_read(cx)?.is_ready() {}
        loop {
            if self.writing.is_empty() {
                let mut state = self.shared.lock();
                if state.out.is_empty() {
                    state.sleeping = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                // Who is alone has nobody to wait for.
                if !self.gathered && state.in_flight() > 1 {
                    self.gathered = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                std::mem::swap(&mut state.out, &mut self.writing);
            }
            self.gathered = false;
            ready!(self.writing.poll_write(&mut self.stream, cx))?;
        }
    }

    /// Reads once.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(long) = &mut self.long {
            let mut room = ReadBuf::new(&mut long.buffer[long.filled..]);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room))?;
            let count = room.filled().len();
            long.filled += count;
            self.finish_long();
            return Poll::Ready(some(count));
        }
        let mut room = ReadBuf::new(&mut self.input[self.end..]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room))?;
        let count = room.filled().len();
        self.end += count;
        self.settle();
        Poll::Ready(some(count))
    }

    /// Gives the callers what has come.
    fn settle(&mut self) {
        let mut state = self.shared.lock();
        while let Some(head) = self.input[self.start..self.end].first_chunk::<HEAD>() {
            let number = |at: usize| {
                u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
            };
            let (length, slot) = (number(0) as usize - ID, number(4));
            let body = self.start + HEAD..self.start + HEAD + length;
            if body.end <= self.end {
                self.wake.extend(state.fill(slot, &self.input[body.clone()]));
                self.start = body.end;
            } else if body.len() + HEAD > INPUT / 2 {
                self.long = Some(state.fill_long(slot, length, &self.input[body.start..self.end]));
                self.start = self.end;
                break;
            } else {
                break;
            }
        }
        drop(state);
        self.wake.drain(..).for_each(Waker::wake);
        self.input.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
    }

    fn finish_long(&mut self) {
        let Some(long) = self.long.take_if(|long| long.filled == long.buffer.len()) else {
            return;
        };
        let mut state = self.shared.lock();
        let slot = &mut state.slots[long.slot as usize];
        let before = std::mem::replace(slot, Slot::Done(long.buffer));
        drop(state);
        if let Slot::Filling { waker } = before {
            waker.wake();
        }
    }

    pub(super) fn end(&mut self) {
        let mut state = self.shared.lock();
        state.gone = true;
        let slots = std::mem::take(&mut state.slots);
        state.slots.resize_with(slots.len(), Slot::default);
        drop(state);
        for slot in slots {
            if let Slot::Waiting { waker, .. } | Slot::Filling { waker } = slot {
                waker.wake();
            }
        }
    }
}

impl State {
    fn fill(&mut self, slot: u32, body: &[u8]) -> Option<Waker> {
        let slot = &mut self.slots[slot as usize];
        let Slot::Waiting { waker, mut buffer } = std::mem::take(slot) else {
            return None;
        };
        buffer.clear();
        buffer.extend_from_slice(body);
        *slot = Slot::Done(buffer);
        Some(waker)
    }

    /// The beginning of a long reply, which goes on into the caller's buffer.
    fn fill_long(&mut self, slot: u32, length: usize, begun: &[u8]) -> Long {
        let place = &mut self.slots[slot as usize];
        let mut buffer = Vec::new();
        if let Slot::Waiting { waker, buffer: waiting } = std::mem::take(place) {
            *place = Slot::Filling { waker };
            buffer = waiting;
        }
        buffer.resize(length, 0);
        buffer[..begun.len()].copy_from_slice(begun);
        Long { slot, buffer, filled: begun.len() }
    }
}

/// Nothing is the end of the stream.
fn some(count: usize) -> io::Result<()> {
    if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}
