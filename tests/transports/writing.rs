//! Writes that fail, or are to be made again.

use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll};

use steadfast::{Call, Outcome, Pool, Retry, Server};
use tokio::io::AsyncWrite as _;

use crate::support::layer::Layered;
use crate::support::local::start;
use crate::support::tampered::{Below, Tamper};
use crate::support::times::ms;

/// Each second write is interrupted, as by a signal.
struct Interrupted(bool);

impl Tamper for Interrupted {
    fn poll_write(
        &mut self,
        below: &mut Below,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.0 = !self.0;
        match self.0 {
            false => Poll::Ready(Err(ErrorKind::Interrupted.into())),
            true => Pin::new(below).poll_write(cx, bytes),
        }
    }
}

#[tokio::test]
async fn one_that_is_interrupted_is_made_again() {
    let address = start(Server::builder(), |call: Call| async move { Ok(call.into_body()) }).await;
    let pool = Pool::builder(address.to_string())
        .wrap_tcp(|tcp| Layered(tcp, || Interrupted(false)))
        .retry(Retry::never())
        .build()
        .unwrap();
    assert_eq!(pool.call("x").await.unwrap(), "x");
}

/// After the handshake nothing can be written any more, and nothing comes.
struct Broken {
    writes: u32,
}

impl Tamper for Broken {
    fn poll_write(
        &mut self,
        below: &mut Below,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.writes += 1;
        match self.writes {
            1 => Pin::new(below).poll_write(cx, bytes),
            _ => Poll::Ready(Err(ErrorKind::BrokenPipe.into())),
        }
    }
}

/// For a second yet the loss is not told, because the server may have said something.
#[tokio::test]
async fn a_call_whose_time_is_up_behind_one_that_failed_was_not_sent() {
    let address = start(Server::builder(), |call: Call| async move { Ok(call.into_body()) }).await;
    let pool = Pool::builder(address.to_string())
        .wrap_tcp(|tcp| Layered(tcp, || Broken { writes: 0 }))
        .build()
        .unwrap();
    pool.ready(ms(20_000)).await.unwrap();
    let error = pool.request("x").timeout(ms(300)).send().await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent, "{error}");
}
