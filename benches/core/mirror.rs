//! A transport that is its own server: what is written is answered at once, and nothing leaves the process.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use steadfast::{Connect, Connected, Connecting, Endpoint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::bytes::{Buf as _, BufMut as _, BytesMut};

/// Connects to a mirror.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mirrors {
    /// It answers every request of `docs/protocol.md` with its own body. No body may need `CHUNK`s.
    Native,
    /// It gives back all bytes as they are.
    Frames,
}

impl Connect for Mirrors {
    fn connect<'a>(&'a self, _: &'a Endpoint) -> Connecting<'a> {
        let mirror = Mirror {
            kind: *self,
            written: BytesMut::new(),
            answers: BytesMut::new(),
            reader: None,
        };
        Box::pin(async { Ok(Connected { transport: Box::new(mirror), address: None }) })
    }
}

struct Mirror {
    kind: Mirrors,
    /// The beginning of a frame.
    written: BytesMut,
    answers: BytesMut,
    reader: Option<Waker>,
}

const HELLO: u8 = 0x01;
const WELCOME: u8 = 0x02;
const REQUEST: u8 = 0x10;
const REPLY: u8 = 0x11;
const PING: u8 = 0x20;
const PONG: u8 = 0x21;
/// In front of a request's body: kind, flags, id, remaining time, oldest unfinished id.
const REQUEST_HEAD: usize = 1 + 1 + 8 + 4 + 8;
/// In front of a reply's: kind, flags, id.
const REPLY_HEAD: usize = 1 + 1 + 8;

impl Mirror {
    fn answer_all(&mut self) {
        while let Some(length) = self.written.first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            if self.written.len() < 4 + length {
                return;
            }
            answer(&self.written[4..4 + length], &mut self.answers);
            self.written.advance(4 + length);
        }
    }
}

fn answer(payload: &[u8], out: &mut BytesMut) {
    match payload[0] {
        HELLO => welcome(out),
        REQUEST => {
            let body = &payload[REQUEST_HEAD..];
            out.put_u32((REPLY_HEAD + body.len()) as u32);
            out.put_u8(REPLY);
            out.put_u8(0);
            // The id.
            out.put_slice(&payload[2..10]);
            out.put_slice(body);
        }
        PING => {
            out.put_u32(payload.len() as u32);
            out.put_u8(PONG);
            out.put_slice(&payload[1..]);
        }
        _ => {}
    }
}

/// Version 1, no idle limit, no heartbeat of its own, no reply cache.
fn welcome(out: &mut BytesMut) {
    out.put_u32(1 + 2 + 16 + 5 * 4 + 8 + 4);
    out.put_u8(WELCOME);
    out.put_u16(1);
    out.put_slice(&[7; 16]);
    [16 << 20, 16_384, 0, 0, 0].into_iter().for_each(|number| out.put_u32(number));
    out.put_u64(0);
    out.put_u32(0);
}

impl AsyncWrite for Mirror {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.kind {
            Mirrors::Frames => self.answers.put_slice(bytes),
            Mirrors::Native => {
                self.written.put_slice(bytes);
                self.answer_all();
            }
        }
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Mirror {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.answers.is_empty() {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = room.remaining().min(self.answers.len());
        room.put_slice(&self.answers[..count]);
        self.answers.advance(count);
        Poll::Ready(Ok(()))
    }
}
