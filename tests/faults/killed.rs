//! A server process that is killed with something unread: TCP resets the connection, callers are told so by the platform's
//! own code, and the next process is found.
//!
//! On Windows, too, where that code is the famous 10054: so nothing here needs signals that only Unix has.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use steadfast::{CallCause, CallError, Heartbeat, LossCause, Outcome, Pool, Reconnect, Retry};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::task::JoinHandle;

use crate::support::layer::Layered;
use crate::support::loopback::own_loopback;
use crate::support::news;
use crate::support::process::Process;
use crate::support::tampered::{Below, Tamper};
use crate::support::times::ms;
use crate::support::waits::soon;

/// ECONNRESET of Windows, of Linux, of the others.
const RESET: i32 = match (cfg!(windows), cfg!(target_os = "linux")) {
    (true, _) => 10054,
    (_, true) => 104,
    _ => 54,
};

/// Believes in an end of file when a write has failed. Under Wine a reset reads as an end, and only writing tells what it
/// was; elsewhere reading tells it, which passes.
#[derive(Default)]
struct Doubt {
    write_failed: bool,
}

impl Tamper for Doubt {
    fn poll_read(
        &mut self,
        below: &mut Below,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(below).poll_read(cx, buffer);
        let is_end = matches!(read, Poll::Ready(Ok(()))) && buffer.filled().len() == before;
        // Whoever writes reads again behind it.
        if is_end && !self.write_failed { Poll::Pending } else { read }
    }

    fn poll_write(
        &mut self,
        below: &mut Below,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(below).poll_write(cx, bytes);
        self.write_failed |= matches!(written, Poll::Ready(Err(_)));
        written
    }
}

/// Silence is not what ends these connections.
fn pool(address: &str) -> Pool {
    Pool::builder(address)
        .heartbeat(Heartbeat::every(ms(60_000)))
        .reconnect(Reconnect::exponential(ms(10), ms(50)))
        .wrap_tcp(|tcp| Layered(tcp, Doubt::default))
        .build()
        .unwrap()
}

async fn started(role: &str, address: &str) -> (Process, String) {
    let mut process = Process::start(&[], role, &[("LISTEN", address), ("REQUESTS", "2")]);
    let (_, address) = process.says("listening on ").await;
    (process, address)
}

/// Writes until it is settled.
async fn written_behind<T>(pool: &Pool, call: JoinHandle<T>) -> T {
    let writing = async {
        loop {
            let _ = pool.notify("is anybody there?").await;
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        settled = soon("the call is settled", call) => settled.unwrap(),
        () = writing => unreachable!(),
    }
}

fn is_told_of_the_reset(error: &CallError) {
    assert_eq!(error.outcome(), Outcome::Indeterminate, "{error}");
    let CallCause::Lost(loss) = error.cause() else { panic!("{error}") };
    let LossCause::Os(cause) = &loss.cause else { panic!("{error}") };
    assert_eq!((cause.code(), cause.name()), (Some(RESET), Some("ECONNRESET")));
    for told in ["was reset by the peer", "(ECONNRESET 104, WSAECONNRESET 10054)"] {
        assert!(error.to_string().contains(told), "{error}");
    }
    assert!(!loss.fin_seen, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_flight_at_a_killed_server_names_the_reset_and_the_next_server_is_found() {
    let (mut killed, address) = started("deaf server", &format!("{}:0", own_loopback())).await;
    let pool = pool(&address);
    let call = |what: &'static str, retry: Retry| {
        let pool = pool.clone();
        tokio::spawn(
            async move { pool.request(what).retry(retry).timeout(ms(60_000)).send().await },
        )
    };
    news::connected(&pool, 1).await;
    let once = call("once", Retry::never());
    let again = call("again", Retry::default().idempotent());
    killed.says("requests came").await;
    pool.notify("unread").await.unwrap();
    killed.says("something is unread").await;
    killed.kill();
    killed.wait();

    let settled = written_behind(&pool, once).await;
    is_told_of_the_reset(&settled.unwrap_err());
    // While nobody is there.
    let next = call("next", Retry::never());
    let (_echo, _) = started("server", &address).await;
    for (call, answer) in [(again, "again"), (next, "next")] {
        assert_eq!(soon("an answer", call).await.unwrap().unwrap(), answer);
    }
}
