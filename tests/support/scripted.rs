//! The wire by hand: frames, a server and a client that follow a script, written from `docs/protocol.md` and without
//! any of steadfast's own code.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::waits::soon;

pub(crate) const HELLO: u8 = 0x01;
pub(crate) const WELCOME: u8 = 0x02;
pub(crate) const BUSY: u8 = 0x03;
pub(crate) const REJECT: u8 = 0x04;
pub(crate) const REQUEST: u8 = 0x10;
pub(crate) const REPLY: u8 = 0x11;
pub(crate) const ERROR: u8 = 0x12;
pub(crate) const REFUSED: u8 = 0x13;
pub(crate) const CHUNK: u8 = 0x14;
pub(crate) const CANCEL: u8 = 0x15;
pub(crate) const NOTIFY: u8 = 0x16;
pub(crate) const PUSH: u8 = 0x17;
pub(crate) const PING: u8 = 0x20;
pub(crate) const PONG: u8 = 0x21;
pub(crate) const GOAWAY: u8 = 0x22;

/// The longest part of a message in one frame, in bytes.
pub(crate) const MAX_PART: usize = 65_536;
/// The longest body that these peers take, in bytes. That of the test vectors.
pub(crate) const MAX_MESSAGE: u32 = 1_048_576;

/// One frame, cut but not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    /// What comes after the kind.
    pub(crate) rest: Vec<u8>,
}

impl Frame {
    /// The id of a frame that has one.
    pub(crate) fn id(&self) -> u64 {
        let at = usize::from(matches!(self.kind, REQUEST | REPLY | CHUNK | NOTIFY | PUSH));
        u64_at(&self.rest, at)
    }

    /// Whether the flag `MORE`, or `LAST` in a `CHUNK`, is set.
    pub(crate) fn is_flagged(&self) -> bool {
        self.rest[0] & 1 != 0
    }

    /// The code of a frame that has one.
    pub(crate) fn code(&self) -> u32 {
        let at = if matches!(self.kind, ERROR | REFUSED) { 8 } else { 0 };
        u32_at(&self.rest, at)
    }

    /// The bytes of a message in this frame, or the text.
    pub(crate) fn body(&self) -> &[u8] {
        let more = matches!(self.kind, REQUEST | REPLY | NOTIFY | PUSH) && self.is_flagged();
        let head = match self.kind {
            REQUEST => 21,
            REPLY | NOTIFY | PUSH | CHUNK => 9,
            ERROR => 12,
            BUSY => 8,
            REJECT => 4,
            GOAWAY => 16,
            kind => panic!("kind {kind:#04x} has no body"),
        };
        &self.rest[head + 4 * usize::from(more)..]
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(self.body()).unwrap()
    }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// A frame with any payload.
pub(crate) fn frame(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    let length = 1 + fields.iter().map(|field| field.len()).sum::<usize>();
    let mut bytes = (length as u32).to_be_bytes().to_vec();
    bytes.push(kind);
    bytes.extend(fields.concat());
    bytes
}

/// `HELLO` of a client that pings every `every_ms`; 0: never. Each is another client.
pub(crate) fn hello(every_ms: u32) -> Vec<u8> {
    static CLIENTS: AtomicU64 = AtomicU64::new(0);
    hello_of(
        Coming { client: CLIENTS.fetch_add(1, Ordering::Relaxed), ..Coming::default() },
        every_ms,
    )
}

/// One connection of a client that may have others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coming {
    pub(crate) client: u64,
    pub(crate) connection: u64,
    pub(crate) replaces: u64,
    pub(crate) next_id: u64,
}

impl Default for Coming {
    fn default() -> Self {
        Self { client: 0, connection: 1, replaces: 0, next_id: 1 }
    }
}

pub(crate) fn hello_of(coming: Coming, every_ms: u32) -> Vec<u8> {
    let Coming { client, connection, replaces, next_id } = coming;
    let version = 1u16.to_be_bytes();
    let client = [client.to_be_bytes(), [7; 8]].concat();
    let numbers = [connection.to_be_bytes(), replaces.to_be_bytes()].concat();
    let times = [every_ms.to_be_bytes(), (2 * every_ms).to_be_bytes()].concat();
    let (max, next_id) = (MAX_MESSAGE.to_be_bytes(), next_id.to_be_bytes());
    let fields = [&client[..], &numbers, &max, &times, &next_id].concat();
    frame(HELLO, &[b"STEADFST", &version, &version, &fields])
}

/// `WELCOME` of a server without heartbeat, idle limit and cache.
pub(crate) fn welcome(instance: u8, max_message: u32, max_in_flight: u32) -> Vec<u8> {
    let limits = [max_message.to_be_bytes(), max_in_flight.to_be_bytes()].concat();
    frame(WELCOME, &[&1u16.to_be_bytes(), &[instance; 16], &limits, &[0; 4 + 4 + 4 + 8 + 4]])
}

/// `WELCOME` of a server that keeps 1,024 replies.
pub(crate) fn welcome_remembering(instance: u8) -> Vec<u8> {
    welcome_remembering_few(instance, 1000)
}

/// The same of one that takes so many calls at a time.
pub(crate) fn welcome_remembering_few(instance: u8, max_in_flight: u32) -> Vec<u8> {
    let limits = [MAX_MESSAGE.to_be_bytes(), max_in_flight.to_be_bytes(), [0; 4], [0; 4]].concat();
    let cache = [&1024u32.to_be_bytes()[..], &(8u64 << 20).to_be_bytes(), &60_000u32.to_be_bytes()];
    frame(WELCOME, &[&1u16.to_be_bytes(), &[instance; 16], &limits, &cache.concat()])
}

/// A whole `REQUEST`; `remaining_ms` 0: no deadline.
pub(crate) fn request(id: u64, remaining_ms: u32, body: &[u8]) -> Vec<u8> {
    let oldest = 1u64.to_be_bytes();
    frame(REQUEST, &[&[0], &id.to_be_bytes(), &remaining_ms.to_be_bytes(), &oldest, body])
}

/// A whole `REQUEST` that may be run twice, without a deadline.
pub(crate) fn repeatable(id: u64, body: &[u8]) -> Vec<u8> {
    let (id, none, oldest) = (id.to_be_bytes(), [0; 4], 1u64.to_be_bytes());
    frame(REQUEST, &[&[2], &id, &none, &oldest, body])
}

/// The first frame of a `REQUEST` of `total` bytes.
pub(crate) fn long_request(id: u64, total: u32, part: &[u8]) -> Vec<u8> {
    let (id, none, oldest) = (id.to_be_bytes(), [0; 4], 1u64.to_be_bytes());
    frame(REQUEST, &[&[1], &id, &none, &oldest, &total.to_be_bytes(), part])
}

/// A `REPLY`, `NOTIFY` or `PUSH` in as many frames as it takes.
pub(crate) fn message(kind: u8, id: u64, body: &[u8]) -> Vec<u8> {
    let id = id.to_be_bytes();
    if body.len() <= MAX_PART {
        return frame(kind, &[&[0], &id, body]);
    }
    let (total, (first, rest)) = ((body.len() as u32).to_be_bytes(), body.split_at(MAX_PART));
    let mut bytes = frame(kind, &[&[1], &id, &total, first]);
    let last = rest.len().div_ceil(MAX_PART) - 1;
    for (number, part) in rest.chunks(MAX_PART).enumerate() {
        bytes.extend(frame(CHUNK, &[&[u8::from(number == last)], &id, part]));
    }
    bytes
}

pub(crate) fn reply(id: u64, body: &[u8]) -> Vec<u8> {
    message(REPLY, id, body)
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
    refused_for(id, code, 0)
}

pub(crate) fn refused_for(id: u64, code: u32, retry_after_ms: u32) -> Vec<u8> {
    let (code, wait) = (code.to_be_bytes(), retry_after_ms.to_be_bytes());
    frame(REFUSED, &[&id.to_be_bytes(), &code, &wait])
}

pub(crate) fn cancel(id: u64) -> Vec<u8> {
    frame(CANCEL, &[&id.to_be_bytes()])
}

pub(crate) fn ping(nonce: u64) -> Vec<u8> {
    frame(PING, &[&nonce.to_be_bytes()])
}

pub(crate) fn pong(ping: &Frame) -> Vec<u8> {
    frame(PONG, &[&ping.rest])
}

pub(crate) fn go_away(code: u32, accepted: u64, retry_after_ms: u32, text: &str) -> Vec<u8> {
    let (code, wait) = (code.to_be_bytes(), retry_after_ms.to_be_bytes());
    frame(GOAWAY, &[&code, &accepted.to_be_bytes(), &wait, text.as_bytes()])
}

/// The next frame; `None` at an end of file between two frames.
pub(crate) async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Frame>> {
    let mut length = [0; 4];
    match from.read(&mut length[..1]).await? {
        0 => return Ok(None),
        _ => from.read_exact(&mut length[1..]).await?,
    };
    let mut payload = vec![0; u32::from_be_bytes(length) as usize];
    from.read_exact(&mut payload).await?;
    Ok(Some(Frame { kind: payload.remove(0), rest: payload }))
}

/// The next frame of one of these kinds, which must come; heartbeats and what else comes before it are skipped.
pub(crate) async fn expect(from: &mut (impl AsyncRead + Unpin), kinds: &[u8]) -> Frame {
    soon(&format!("a frame of {kinds:02x?}"), async {
        loop {
            let frame = read_frame(from).await.expect("no error before the frame");
            let frame = frame.expect("no end of file before the frame");
            if kinds.contains(&frame.kind) {
                return frame;
            }
        }
    })
    .await
}

/// Reads to the peer's FIN. An RST is an error, and so a failure.
pub(crate) async fn expect_fin(from: &mut (impl AsyncRead + Unpin)) {
    let mut rest = Vec::new();
    soon("the peer's FIN", from.read_to_end(&mut rest)).await.expect("FIN, not RST");
}

/// A client's connection, before its `HELLO`.
pub(crate) async fn connect(to: SocketAddr) -> TcpStream {
    let stream = soon("a connection", TcpStream::connect(to)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A client's connection after the handshake.
pub(crate) async fn join(to: SocketAddr) -> TcpStream {
    let mut stream = connect(to).await;
    stream.write_all(&hello(0)).await.unwrap();
    expect(&mut stream, &[WELCOME]).await;
    stream
}

/// A server that does only what its test does.
pub(crate) struct Script {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

impl Script {
    pub(crate) async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    /// The next connection, after the client's `HELLO` and before any answer.
    pub(crate) async fn accept(&self) -> TcpStream {
        let (mut stream, _) = soon("a client", self.listener.accept()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        assert_eq!(expect(&mut stream, &[HELLO]).await.rest.len(), 64);
        stream
    }

    /// The next connection, after the handshake.
    pub(crate) async fn welcome(&self) -> TcpStream {
        let mut stream = self.accept().await;
        stream.write_all(&welcome(1, MAX_MESSAGE, 1000)).await.unwrap();
        stream
    }
}
