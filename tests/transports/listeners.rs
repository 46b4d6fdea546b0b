//! Listeners that never wait, and some that panic.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use steadfast::{Accepting, Call, Incoming, Listen, Server, ServerHandle};
use tokio::io::AsyncWriteExt as _;

use crate::memory::{InMemory, NOWHERE, in_memory};
use crate::support::scripted::{REPLY, WELCOME, expect, hello, request};
use crate::support::times::ms;
use crate::support::waits::soon;

/// When it gives in, so that a test which fails also ends.
const ENOUGH: usize = 100_000;

/// Always has something, and asks the server to shut down at the first chance.
struct Restless {
    handle: Arc<OnceLock<ServerHandle>>,
    asked: Arc<AtomicUsize>,
    next: fn() -> io::Result<Incoming>,
}

impl Listen for Restless {
    fn accept(&mut self) -> Accepting<'_> {
        Box::pin(async {
            if let Some(handle) = self.handle.get() {
                handle.shutdown(Duration::ZERO);
            }
            if self.asked.fetch_add(1, Ordering::SeqCst) >= ENOUGH {
                std::future::pending::<()>().await;
            }
            (self.next)()
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(NOWHERE)
    }
}

fn aborted() -> io::Result<Incoming> {
    Err(io::ErrorKind::ConnectionAborted.into())
}

fn ended() -> io::Result<Incoming> {
    Ok(Incoming { transport: Box::new(tokio::io::empty()), peer: NOWHERE })
}

/// How often it is asked for a connection by a server that is to shut down.
async fn asked(next: fn() -> io::Result<Incoming>) -> usize {
    let (handle, asked) = (Arc::<OnceLock<_>>::default(), Arc::<AtomicUsize>::default());
    let restless = Restless { handle: handle.clone(), asked: asked.clone(), next };
    let server = Server::builder().listen_on(restless).unwrap();
    handle.set(server.handle()).unwrap();
    let echo = |call: Call| async move { Ok(call.into_body()) };
    let _ = soon("the server's end", server.serve(echo)).await;
    asked.load(Ordering::SeqCst)
}

#[tokio::test]
async fn a_listener_whose_connections_are_all_aborted_does_not_keep_the_server_from_shutting_down()
{
    assert!(asked(aborted).await < ENOUGH, "nothing else had a turn");
}

#[tokio::test]
async fn a_listener_that_always_has_a_connection_does_not_keep_the_server_from_shutting_down() {
    assert!(asked(ended).await < ENOUGH, "nothing else had a turn");
}

/// Panics the first time that it is asked.
struct Panicking {
    was_asked: bool,
    listener: InMemory,
}

impl Listen for Panicking {
    fn accept(&mut self) -> Accepting<'_> {
        assert!(std::mem::replace(&mut self.was_asked, true), "a listener's own bug");
        self.listener.accept()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(NOWHERE)
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_panics_is_asked_again_later() {
    let (line, listener) = in_memory();
    let server = Server::builder().listen_on(Panicking { was_asked: false, listener }).unwrap();
    tokio::spawn(server.serve(|call: Call| async move { Ok(call.into_body()) }));
    let mut client = line.dial(4096);
    client.write_all(&hello(0)).await.unwrap();
    expect(&mut client, &[WELCOME]).await;
}

/// Panics in each drop that a server makes.
struct Bomb(InMemory);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a listener's own bug, in its drop");
    }
}

impl Listen for Bomb {
    fn accept(&mut self) -> Accepting<'_> {
        let other = in_memory().1;
        Box::pin(async move {
            let other = Self(other);
            let accepted = self.0.accept().await;
            std::mem::forget(other);
            accepted
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(NOWHERE)
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_whose_drop_panics_cuts_no_call_off() {
    let (line, listener) = in_memory();
    let server = Server::builder().listen_on(Bomb(listener)).unwrap();
    let handle = server.handle();
    let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
    let served = tokio::spawn(server.serve(move |call: Call| {
        started.send(()).unwrap();
        async move {
            tokio::time::sleep(ms(100)).await;
            Ok(call.into_body())
        }
    }));
    let mut client = line.dial(4096);
    client.write_all(&[hello(0), request(1, 0, b"hello")].concat()).await.unwrap();
    expect(&mut client, &[WELCOME]).await;
    soon("the call", starts.recv()).await.unwrap();
    handle.shutdown(ms(1000));
    assert_eq!(expect(&mut client, &[REPLY]).await.body(), b"hello");
    drop(client);
    soon("the server's end", served).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_listener_whose_connections_are_all_aborted_is_not_asked_without_a_pause() {
    let asked = Arc::<AtomicUsize>::default();
    let restless = Restless { handle: Arc::default(), asked: asked.clone(), next: aborted };
    let server = Server::builder().listen_on(restless).unwrap();
    let served = server.serve(|call: Call| async move { Ok(call.into_body()) });
    assert!(tokio::time::timeout(ms(1050), served).await.is_err());
    // At once a few times, then each 100 ms.
    let asked = asked.load(Ordering::SeqCst);
    assert!((60..100).contains(&asked), "{asked}");
}
