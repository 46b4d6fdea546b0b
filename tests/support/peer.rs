//! The serving end of one connection, played by a test line by line.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::scripted::{
    BUSY, ERROR, Frame, HELLO, PING, REFUSED, REJECT, REQUEST, frame, pong, reply, u64_at, welcome,
    welcome_remembering,
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

/// `BUSY` with code 1: too many connections.
pub(crate) fn busy(retry_after_ms: u32, text: &str) -> Vec<u8> {
    frame(BUSY, &[&1u32.to_be_bytes(), &retry_after_ms.to_be_bytes(), text.as_bytes()])
}

pub(crate) fn reject(code: u32, text: &str) -> Vec<u8> {
    frame(REJECT, &[&code.to_be_bytes(), text.as_bytes()])
}

pub(crate) fn error(id: u64, code: u32, text: &str) -> Vec<u8> {
    frame(ERROR, &[&id.to_be_bytes(), &code.to_be_bytes(), text.as_bytes()])
}

/// `REFUSED` without a time.
pub(crate) fn refused(id: u64, code: u32) -> Vec<u8> {
    frame(REFUSED, &[&id.to_be_bytes(), &code.to_be_bytes(), &[0; 4]])
}

/// A listening socket, with its address as a pool wants it.
pub(crate) async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind((own_loopback(), 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
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

/// An address at which nobody listens, as long as the socket is kept: bound, so that nobody else can have the port.
pub(crate) fn dead_port() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((own_loopback(), 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// A loopback address of this call's own, where the system has more than one: then no port is taken by chance while
/// its server is down, and no client draws the very port that it dials.
pub(crate) fn own_loopback() -> std::net::Ipv4Addr {
    use std::sync::atomic::{AtomicU8, Ordering};
    static NEXT: AtomicU8 = AtomicU8::new(0);
    if !cfg!(any(target_os = "linux", windows)) {
        return std::net::Ipv4Addr::LOCALHOST;
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed) % 254 + 1;
    let [_, _, high, low] = std::process::id().to_be_bytes();
    std::net::Ipv4Addr::new(127, high | 1, low, number)
}
