//! A transport that always has bytes and always takes some, and has no part in tokio's budget.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use steadfast::{Accepting, Call, Incoming, Listen, Server};
use tokio::io::{AsyncRead, AsyncWriteExt as _, ReadBuf, join, sink};

use crate::memory::{InMemory, NOWHERE, in_memory};
use crate::support::scripted::{REPLY, WELCOME, expect, hello, ping, request};

/// When it gives in, so that a test which fails also ends.
const ENOUGH: usize = 1_000_000;

/// Its beginning, and then pings.
struct Hose {
    beginning: Vec<u8>,
    pings: Arc<AtomicUsize>,
}

impl AsyncRead for Hose {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.beginning.is_empty() {
            buffer.put_slice(&std::mem::take(&mut self.beginning));
        } else if self.pings.fetch_add(1, Ordering::SeqCst) < ENOUGH {
            buffer.put_slice(&ping(7));
        }
        Poll::Ready(Ok(()))
    }
}

/// Gives the hose first.
struct WithHose {
    hose: Option<Hose>,
    listener: InMemory,
}

impl Listen for WithHose {
    fn accept(&mut self) -> Accepting<'_> {
        match self.hose.take() {
            Some(hose) => {
                let incoming = Incoming { transport: Box::new(join(hose, sink())), peer: NOWHERE };
                Box::pin(std::future::ready(Ok(incoming)))
            }
            None => self.listener.accept(),
        }
    }

    fn local_addr(&self) -> io::Result<std::net::SocketAddr> {
        Ok(NOWHERE)
    }
}

/// On one thread, beside a client that begins so.
async fn others_have_their_turn(beginning: Vec<u8>) {
    let (line, listener) = in_memory();
    let pings = Arc::<AtomicUsize>::default();
    let hose = Some(Hose { beginning, pings: pings.clone() });
    let server = Server::builder().listen_on(WithHose { hose, listener }).unwrap();
    tokio::spawn(server.serve(|call: Call| async move { Ok(call.into_body()) }));
    while pings.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let mut client = line.dial(4096);
    client.write_all(&[hello(0), request(1, 0, b"hello")].concat()).await.unwrap();
    expect(&mut client, &[WELCOME]).await;
    assert_eq!(expect(&mut client, &[REPLY]).await.body(), b"hello");
    let pings = pings.load(Ordering::SeqCst);
    assert!(pings < ENOUGH, "nobody else had a turn before it gave in");
}

#[tokio::test]
async fn a_transport_that_always_has_bytes_leaves_others_their_turn() {
    others_have_their_turn(hello(0)).await;
}

#[tokio::test]
async fn one_that_is_turned_away_leaves_others_their_turn() {
    others_have_their_turn(b"GET / HTTP/1.1\r\n".to_vec()).await;
}
