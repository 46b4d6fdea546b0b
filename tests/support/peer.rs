//! The serving end of one connection, played by a test line by line.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::scripted::{
    Frame, HELLO, PING, REQUEST, pong, reply, u64_at, welcome, welcome_remembering,
};

/// How long a peer waits for what must come. Also bounds tests whose clock is paused.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Peer<S> {
    pub(crate) stream: S,
    input: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, input: BytesMut::new() }
    }

    /// Reads `HELLO`, says `WELCOME` as the instance 1.
    pub(crate) async fn greet(stream: S) -> Self {
        Self::greet_as(stream, 1).await
    }

    pub(crate) async fn greet_as(stream: S, instance: u8) -> Self {
        let mut peer = Self::new(stream);
        peer.hello().await;
        peer.say(welcome(instance, 16 << 20, 10_000)).await;
        peer
    }

    /// Says `WELCOME` as a server process that keeps replies. Also returns the number of the connection, and of that which
    /// it replaces.
    pub(crate) async fn greet_remembering(stream: S, instance: u8) -> (Self, u64, u64) {
        let mut peer = Self::new(stream);
        let hello = peer.frame().await.expect("HELLO");
        assert_eq!(hello.kind, HELLO);
        peer.say(welcome_remembering(instance)).await;
        (peer, u64_at(&hello.rest, 28), u64_at(&hello.rest, 36))
    }

    /// Reads `HELLO`, and says nothing.
    pub(crate) async fn hello(&mut self) {
        assert_eq!(self.frame().await.expect("HELLO").kind, HELLO);
    }

    /// The next frame; `None` when the client has closed.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        let waiting = async {
            loop {
                if let Some(frame) = take(&mut self.input) {
                    return Some(frame);
                }
                match self.stream.read_buf(&mut self.input).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the client sends something")
    }

    /// The next request; pings on the way are answered. `None` when the client has closed.
    pub(crate) async fn request(&mut self) -> Option<Request> {
        loop {
            let frame = self.frame().await?;
            match frame.kind {
                REQUEST => return Some(Request::from(frame)),
                PING => self.say(pong(&frame)).await,
                _ => {}
            }
        }
    }

    /// The next ping, whatever comes before it.
    pub(crate) async fn ping(&mut self) -> Option<Frame> {
        loop {
            let frame = self.frame().await?;
            if frame.kind == PING {
                return Some(frame);
            }
        }
    }

    /// Sends. That the client is gone is found out by reading.
    pub(crate) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Answers each request with its own body until the client closes.
    pub(crate) async fn echo(mut self) {
        while let Some(Request { id, body, .. }) = self.request().await {
            self.say(reply(id, &body)).await;
        }
    }
}

/// A request in one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) repeatable: bool,
    pub(crate) resent: bool,
    pub(crate) body: Bytes,
}

impl From<Frame> for Request {
    fn from(frame: Frame) -> Self {
        let (id, flags) = (frame.id(), frame.rest[0]);
        let body = Bytes::copy_from_slice(frame.body());
        Self { id, repeatable: flags & 2 != 0, resent: flags & 4 != 0, body }
    }
}

/// Takes the first frame off the input; `None` if it is not complete.
fn take(input: &mut BytesMut) -> Option<Frame> {
    let length = u32::from_be_bytes(*input.first_chunk()?) as usize;
    if input.len() < 4 + length {
        return None;
    }
    input.advance(4);
    let kind = input.get_u8();
    Some(Frame { kind, rest: input.split_to(length - 1).into() })
}

pub(crate) async fn accept(listener: &TcpListener) -> TcpStream {
    let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
    accepted.expect("the client connects").unwrap().0
}

/// Serves every connection as an echo, until it is dropped.
pub(crate) async fn echo_all(listener: TcpListener) {
    loop {
        let stream = accept(&listener).await;
        tokio::spawn(async move { Peer::greet(stream).await.echo().await });
    }
}
