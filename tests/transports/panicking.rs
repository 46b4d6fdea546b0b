//! A transport that panics ends its connection, and nothing else.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use steadfast::{Call, ConnectCause, LossCause, OsError, Phase, Pool, Server};
use tokio::io::{AsyncRead as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};

use crate::layer::Layered;
use crate::memory::in_memory;
use crate::support::news::{self, ms};
use crate::support::peer::Peer;
use crate::support::pipes::pipes;
use crate::support::scripted::*;
use crate::support::tampered::{Below, Tamper};

/// Panics in what is asked of it next, once it is set.
#[derive(Debug, Clone, Default)]
struct Fuse(Arc<AtomicBool>);

impl Fuse {
    fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// What makes the like of it for each transport.
    fn copies(&self) -> impl Fn() -> Self + use<> {
        let fuse = self.clone();
        move || fuse.clone()
    }

    fn burn(&self) {
        assert!(!self.0.swap(false, Ordering::SeqCst), "a transport's own bug");
    }
}

impl Tamper for Fuse {
    fn poll_read(
        &mut self,
        below: &mut Below,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.burn();
        Pin::new(below).poll_read(cx, buffer)
    }

    fn poll_write(
        &mut self,
        below: &mut Below,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.burn();
        Pin::new(below).poll_write(cx, bytes)
    }

    fn poll_flush(&mut self, below: &mut Below, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.burn();
        Pin::new(below).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, below: &mut Below, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.burn();
        Pin::new(below).poll_shutdown(cx)
    }
}

fn panicked() -> OsError {
    io::Error::other("the transport panicked").into()
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_panics_in_the_handshake_is_a_failed_attempt() {
    let (connector, mut switch) = pipes(4096);
    let fuse = Fuse::default();
    fuse.set();
    let pool =
        Pool::builder("peer:1").connector(Layered(connector, fuse.copies())).build().unwrap();
    let mut events = pool.events();
    let (error, _) = news::dial_failed(&mut events).await;
    assert_eq!((error.phase, &error.cause), (Phase::Handshake, &ConnectCause::Os(panicked())));
    let mut next = loop {
        // The first is gone.
        let mut stream = switch.accept().await;
        if read_frame(&mut stream).await.unwrap().is_some() {
            break stream;
        }
    };
    next.write_all(&welcome(1, MAX_MESSAGE, 10)).await.unwrap();
    news::connected(&pool, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_panics_later_costs_its_connection_only() {
    let (connector, mut switch) = pipes(4096);
    let fuse = Fuse::default();
    let pool =
        Pool::builder("peer:1").connector(Layered(connector, fuse.copies())).build().unwrap();
    let mut events = pool.events();
    let mut calls = Vec::new();
    for round in 1..=3 {
        let _peer = Peer::greet(switch.accept().await).await;
        assert_eq!(news::ready(&mut events).await, round);
        fuse.set();
        let pool = pool.clone();
        calls.push(tokio::spawn(async move { pool.request("hello").idempotent().send().await }));
        let loss = news::lost(&mut events).await;
        assert_eq!(loss.cause, LossCause::Os(panicked()));
    }
    let mut peer = Peer::greet(switch.accept().await).await;
    for _ in &calls {
        let request = peer.request().await.unwrap();
        peer.say(reply(request.id, b"done")).await;
    }
    for call in calls {
        assert_eq!(soon("an answer", call).await.unwrap().unwrap(), "done");
    }
}

#[tokio::test(start_paused = true)]
async fn a_servers_transport_that_panics_costs_its_connection_only() {
    let (line, listener) = in_memory();
    let fuse = Fuse::default();
    let server = Server::builder().listen_on(Layered(listener, fuse.copies())).unwrap();
    let handle = server.handle();
    let served = tokio::spawn(server.serve(|call: Call| async move { Ok(call.into_body()) }));
    let join = async || {
        let mut peer = line.dial(4096);
        peer.write_all(&hello(0)).await.unwrap();
        expect(&mut peer, &[WELCOME]).await;
        peer
    };
    let (mut first, mut second) = (join().await, join().await);
    fuse.set();
    first.write_all(&request(1, 0, b"hello")).await.unwrap();
    expect_fin(&mut first).await;
    second.write_all(&request(1, 0, b"hello")).await.unwrap();
    assert_eq!(expect(&mut second, &[REPLY]).await.body(), b"hello");
    drop((first, second));
    handle.shutdown(ms(1000));
    soon("the server's end", served).await.unwrap().unwrap();
}
