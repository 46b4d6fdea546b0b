//! Writes that fail, or are to be made again.

use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll};

use steadfast::{Call, Heartbeat, LossCause, Outcome, Pool, Retry, Server};
use tokio::io::AsyncWrite as _;

use crate::support::layer::Layered;
use crate::support::local::start;
use crate::support::news;
use crate::support::tampered::{Below, Tamper};
use crate::support::times::ms;
use crate::support::waits::soon;

/// Some of its writes fail, of which this is told how many there have been.
struct Fails {
    writes: u32,
    by: fn(u32) -> Option<ErrorKind>,
}

impl Tamper for Fails {
    fn poll_write(
        &mut self,
        below: &mut Below,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.writes += 1;
        match (self.by)(self.writes) {
            Some(kind) => Poll::Ready(Err(kind.into())),
            None => Pin::new(below).poll_write(cx, bytes),
        }
    }
}

/// A pool over such a line, to a server that echoes.
async fn pool(by: fn(u32) -> Option<ErrorKind>) -> Pool {
    let address = start(Server::builder(), |call: Call| async move { Ok(call.into_body()) }).await;
    let builder = Pool::builder(address.to_string());
    builder.wrap_tcp(move |tcp| Layered(tcp, move || Fails { writes: 0, by })).build().unwrap()
}

#[tokio::test]
async fn one_that_is_interrupted_is_made_again() {
    // As by a signal: the first one is that of the handshake.
    let pool = pool(|write| (write % 2 == 1).then_some(ErrorKind::Interrupted)).await;
    let answer = pool.request("x").retry(Retry::never()).send().await;
    assert_eq!(answer.unwrap(), "x");
}

/// For a second yet the loss is not told, because the server may have said something.
#[tokio::test]
async fn a_call_whose_time_is_up_behind_one_that_failed_was_not_sent() {
    // After the handshake nothing can be written any more, and nothing comes.
    let pool = pool(|write| (write > 1).then_some(ErrorKind::BrokenPipe)).await;
    pool.ready(ms(20_000)).await.unwrap();
    let error = pool.request("x").timeout(ms(300)).send().await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent, "{error}");
}

/// What was written is accepted, and cannot be seen off.
struct KeepsBack {
    flushes: u32,
}

impl Tamper for KeepsBack {
    fn poll_flush(&mut self, below: &mut Below, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.flushes += 1;
        match self.flushes {
            1 => Pin::new(below).poll_flush(cx),
            _ => Poll::Ready(Err(ErrorKind::BrokenPipe.into())),
        }
    }
}

/// Nobody waits for anything.
#[tokio::test]
async fn a_ping_that_could_not_be_seen_off_is_the_end_of_its_connection_and_told_as_that() {
    let address = start(Server::builder(), |call: Call| async move { Ok(call.into_body()) }).await;
    let heartbeat = Heartbeat::every(ms(20)).give_up_after(ms(60_000));
    let mut builder = Pool::builder(address.to_string())
        .heartbeat(heartbeat)
        .wrap_tcp(|tcp| Layered(tcp, || KeepsBack { flushes: 0 }));
    let mut events = builder.events();
    let _pool = builder.build().unwrap();
    let loss = soon("a loss", news::lost(&mut events)).await;
    assert_eq!(loss.cause, LossCause::Os(ErrorKind::BrokenPipe.into()));
}
