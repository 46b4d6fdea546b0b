//! Frames of a foreign server over real sockets on loopback: glued, cut into single bytes, and as its own code has it.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{SinkExt, StreamExt};
use steadfast::{Bytes, ConfigError, Framing, Unframeable, Violation};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::codec::{Decoder, Encoder, FramedRead, FramedWrite};

use support::waits::soon;

const MESSAGES: usize = 65_536;

/// A foreign protocol: its framing, and how its own code makes a frame of a body.
struct Foreign {
    framing: Framing,
    frame: fn(&[u8]) -> Frame,
}

/// A frame as it is on the wire, and as a user sees it.
type Frame = (Vec<u8>, Vec<u8>);

const FOREIGN: [Foreign; 3] = [
    Foreign {
        framing: Framing::u32_le(),
        frame: |body| ([&(body.len() as u32).to_le_bytes(), body].concat(), body.to_vec()),
    },
    Foreign {
        framing: Framing::u16_be().magic(b"\xab\xcd").counts_everything(),
        frame: |body| {
            let length = (body.len() as u16 + 4).to_be_bytes();
            ([b"\xab\xcd", &length[..], body].concat(), body.to_vec())
        },
    },
    // memcached's.
    Foreign {
        framing: Framing::u32_be().offset(8).counts_from(24).keep_header(),
        frame: |body| {
            let length = (body.len() as u32).to_be_bytes();
            let frame = [&b"\x80\x09\0\0\0\0\0\0"[..], &length, b"opaqueandcas", body].concat();
            (frame.clone(), frame)
        },
    },
];

/// Bodies of 0 to 12 bytes: the end of what names them.
fn bodies() -> impl Iterator<Item = Vec<u8>> {
    (0..MESSAGES).map(|number| format!("m{number:011}").into_bytes()[12 - number % 13..].to_vec())
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    (client, server)
}

/// A socket that tells how many bytes have been read from it, and counts the reads.
struct Watched {
    socket: TcpStream,
    read: watch::Sender<usize>,
    reads: usize,
}

impl Watched {
    fn new(socket: TcpStream) -> Self {
        Self { socket, read: watch::Sender::default(), reads: 0 }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buffer);
        let came = buffer.filled().len() - before;
        if came > 0 {
            self.reads += 1;
            self.read.send_modify(|read| *read += came);
        }
        polled
    }
}

#[tokio::test]
async fn messages_that_are_glued_together_arrive_as_they_were() {
    for Foreign { framing, frame } in FOREIGN {
        let (wires, seen): (Vec<_>, Vec<_>) = bodies().map(|body| frame(&body)).unzip();
        let (mut peer, socket) = sockets().await;
        let mut frames = FramedRead::new(Watched::new(socket), framing);
        let writing = tokio::spawn(async move {
            peer.write_all(&wires.concat()).await.unwrap();
            peer
        });
        for (number, expected) in seen.iter().enumerate() {
            let frame = soon("a frame", frames.next()).await.unwrap().unwrap();
            assert_eq!(frame, expected, "{framing:?}, {number}");
        }
        drop(writing.await.unwrap());
        assert!(soon("the end", frames.next()).await.is_none());
        let reads = frames.get_ref().reads;
        assert!(reads * 10 < MESSAGES, "{reads} reads, so they were not glued");
    }
}

#[tokio::test]
async fn a_message_that_is_cut_into_single_bytes_arrives_as_it_was() {
    for Foreign { framing, frame } in FOREIGN {
        let (wire, expected) = frame(b"one message and nothing more");
        let (mut peer, socket) = sockets().await;
        let mut frames = FramedRead::new(Watched::new(socket), framing);
        let mut read = frames.get_ref().read.subscribe();
        let bytes = wire.clone();
        let writing = tokio::spawn(async move {
            for (place, byte) in bytes.iter().enumerate() {
                assert_eq!(peer.write(&[*byte]).await.unwrap(), 1);
                read.wait_for(|read| *read == place + 1).await.unwrap();
            }
            peer
        });
        assert_eq!(soon("the frame", frames.next()).await.unwrap().unwrap(), expected);
        drop(writing.await.unwrap());
        assert!(soon("the end", frames.next()).await.is_none());
        assert_eq!(frames.get_ref().reads, wire.len(), "every byte came alone");
    }
}

#[tokio::test]
async fn what_is_sent_is_what_the_foreign_servers_own_code_would_send() {
    for Foreign { framing, frame } in FOREIGN {
        let (wires, given): (Vec<_>, Vec<_>) = bodies().map(|body| frame(&body)).unzip();
        let (socket, mut peer) = sockets().await;
        let writing = tokio::spawn(async move {
            let mut frames = FramedWrite::new(socket, framing);
            for frame in given {
                frames.feed(Bytes::from(frame)).await.unwrap();
            }
            frames.close().await.unwrap();
        });
        let mut came = Vec::new();
        soon("all of it", peer.read_to_end(&mut came)).await.unwrap();
        writing.await.unwrap();
        assert!(came == wires.concat(), "{framing:?}");
    }
}

#[tokio::test]
async fn a_frame_that_the_peer_left_half_sent_is_an_error() {
    let (mut peer, socket) = sockets().await;
    let mut frames = FramedRead::new(socket, Framing::u32_be());
    peer.write_all(b"\0\0\0\x05hell").await.unwrap();
    drop(peer);
    assert!(soon("the end", frames.next()).await.unwrap().is_err());
}

#[test]
fn the_codecs_errors_have_the_cause_in_them() {
    fn cause<E: std::error::Error + 'static>(error: &io::Error) -> &E {
        error.get_ref().unwrap().downcast_ref().unwrap()
    }
    let mut framing = Framing::u8().limit(3);
    let error = framing.decode(&mut "\u{5}hello".into()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let Violation::FrameTooLong { length: 5, limit: 3, came } = cause(&error) else {
        panic!("{error}")
    };
    assert_eq!(came.as_bytes(), b"\x05hello");

    let mut out = "before".into();
    let error = framing.encode("hello".into(), &mut out).unwrap_err();
    assert_eq!((error.kind(), &out[..]), (io::ErrorKind::InvalidInput, &b"before"[..]));
    assert_eq!(cause::<Unframeable>(&error), &Unframeable::TooLong { length: 5, limit: 3 });

    let mut senseless = Framing::u8().offset(2);
    let decoded = senseless.decode(&mut out).unwrap_err();
    let encoded = senseless.encode("hello".into(), &mut out).unwrap_err();
    for error in [decoded, encoded] {
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(
            cause::<ConfigError>(&error),
            &ConfigError::UnknownHeader { offset: 2, known: 0 }
        );
    }
}
