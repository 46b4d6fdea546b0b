//! Sent is what the operating system has accepted: sockets that take so many bytes and no more, each number of them.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use steadfast::{
    Connect, Connected, Connecting, Endpoint, Event, Outcome, Pool, Reconnect, Retry, Server,
    Subscription,
};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

use crate::journal::{Deed, Served, body, reply};
use crate::series::REQUEST;
use crate::support::news;
use crate::support::pipes::refused;
use crate::support::tampered::{Below, Tamper, Tampered};
use crate::support::times::ms;
use crate::support::waits::soon;

const PART: usize = 65_536;

/// Connects, and breaks its connections while they write.
#[derive(Debug, Clone, Default)]
struct Brittle(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    /// The connection that writes next breaks behind so many bytes.
    left: Option<usize>,
    then: Then,
    breaks: usize,
    /// Nobody can connect.
    closed: bool,
}

/// What comes behind a break.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Then {
    #[default]
    Reconnect,
    /// Nobody can connect until the test says so.
    StayDown,
}

impl Plan {
    fn broken(&mut self) {
        *self = Self {
            left: None,
            breaks: self.breaks + 1,
            closed: self.then == Then::StayDown,
            then: self.then,
        };
    }
}

impl Brittle {
    fn break_behind(&self, bytes: usize, then: Then) {
        let mut plan = self.plan();
        (plan.left, plan.then) = (Some(bytes), then);
    }

    fn open(&self) {
        self.plan().closed = false;
    }

    fn breaks(&self) -> usize {
        self.plan().breaks
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap()
    }
}

impl Connect for Brittle {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Connecting<'a> {
        Box::pin(async move {
            if self.plan().closed {
                return Err(refused());
            }
            let address = SocketAddr::new(endpoint.ip().unwrap(), endpoint.port());
            let stream = TcpStream::connect(address).await.map_err(|_| refused())?;
            stream.set_nodelay(true).unwrap();
            let line = Line { brittle: self.clone(), broken: false };
            Ok(Connected { transport: Tampered::with(line, Box::new(stream)), address: None })
        })
    }
}

struct Line {
    brittle: Brittle,
    broken: bool,
}

fn reset<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
}

impl Tamper for Line {
    fn poll_write(
        &mut self,
        below: &mut Below,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { brittle, broken } = self;
        let mut plan = brittle.plan();
        let mut written = 0;
        if plan.left != Some(0) && !*broken {
            let count = plan.left.unwrap_or(usize::MAX).min(bytes.len());
            let Poll::Ready(accepted) = Pin::new(below).poll_write(cx, &bytes[..count])? else {
                return Poll::Pending;
            };
            written = accepted;
            plan.left = plan.left.map(|left| left - accepted);
        }
        if plan.left == Some(0) {
            *broken = true;
            plan.broken();
        }
        if written > 0 { Poll::Ready(Ok(written)) } else { reset() }
    }

    fn poll_read(
        &mut self,
        below: &mut Below,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.broken {
            return reset();
        }
        Pin::new(below).poll_read(cx, buffer)
    }
}

/// A pool that never tries again but what has not left, over brittle lines.
struct Bench {
    server: Served,
    brittle: Brittle,
    pool: Pool,
    events: Subscription<Event>,
    keys: u64,
}

impl Bench {
    async fn new() -> Self {
        let server = Served::start(Server::builder()).await;
        let brittle = Brittle::default();
        let mut builder = Pool::builder(server.address.to_string())
            .connector(brittle.clone())
            .retry(Retry::never())
            .reconnect(Reconnect::exponential(ms(1), ms(1)));
        let mut events = builder.events();
        let pool = builder.build().unwrap();
        news::ready(&mut events).await;
        Self { server, brittle, pool, events, keys: 0 }
    }

    fn key(&mut self) -> u64 {
        self.keys += 1;
        self.keys
    }

    /// Lets the pool connect again.
    async fn reconnect(&mut self) {
        self.brittle.open();
        news::ready(&mut self.events).await;
    }
}

/// Each number of bytes of a call of so many; of a longer one those near where a frame ends, and some of the others.
fn bytes_of(length: usize) -> impl Iterator<Item = usize> {
    let is_near = move |byte: usize| (byte + 48) % PART < 128 || length - byte < 64;
    (0..=length).filter(move |byte| length < 1000 || is_near(*byte) || byte % 397 == 0)
}

/// The length of a call's frames, from that of its body. Each frame but the first costs 14 bytes.
fn framed(body: usize) -> usize {
    let more = body.div_ceil(PART) - 1;
    body + REQUEST + more * 14 + if more > 0 { 4 } else { 0 }
}

/// Bodies of a frame that is copied, of one that is not, of one frame and of several.
const LENGTHS: [usize; 6] = [40, 16_383, 16_384, PART, PART + 1, 2 * PART + 64];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_not_sent_until_its_last_byte_is_accepted_and_may_have_run_from_then_on() {
    let mut bench = Bench::new().await;
    let mut outcomes = Vec::new();
    for length in LENGTHS {
        let framed = framed(length);
        for byte in bytes_of(framed) {
            let key = bench.key();
            bench.brittle.break_behind(byte, Then::StayDown);
            let call = bench.pool.request(body(key, Deed::Answer, length, 40)).fail_fast();
            let error = soon("an outcome", call.send()).await.unwrap_err();
            let expected = if byte < framed { Outcome::NotSent } else { Outcome::Indeterminate };
            assert_eq!(error.outcome(), expected, "{byte} of {framed} bytes: {error}");
            outcomes.push((key, error.outcome()));
            bench.reconnect().await;
        }
    }
    let journal = bench.server.end().await;
    for (key, outcome) in outcomes {
        let most = u32::from(outcome == Outcome::Indeterminate);
        assert!(journal.runs(key) <= most, "{key} ran, and is said to be {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_last_byte_is_not_accepted_is_sent_again_and_runs_once() {
    let mut bench = Bench::new().await;
    for length in LENGTHS {
        for byte in bytes_of(framed(length) - 1) {
            let key = bench.key();
            bench.brittle.break_behind(byte, Then::Reconnect);
            let call = bench.pool.call(body(key, Deed::Answer, length, 40));
            let answer = soon("an answer", call).await;
            assert_eq!(answer.unwrap(), reply(key, 40), "behind {byte} bytes");
            news::ready(&mut bench.events).await;
        }
    }
    assert_eq!(bench.brittle.breaks() as u64, bench.keys);
    let journal = bench.server.end().await;
    for key in 1..=bench.keys {
        assert_eq!(journal.runs(key), 1, "{key}");
    }
}

#[tokio::test]
async fn of_calls_that_are_written_together_those_are_sent_whose_last_byte_is_accepted() {
    const CALLS: usize = 5;
    let mut bench = Bench::new().await;
    let framed = framed(40);
    let mut unrun = Vec::new();
    for byte in 0..=CALLS * framed {
        bench.brittle.break_behind(byte, Then::StayDown);
        let keys: Vec<_> = (0..CALLS).map(|_| bench.key()).collect();
        let calls = keys
            .iter()
            .map(|key| bench.pool.request(body(*key, Deed::Answer, 40, 40)).fail_fast().send());
        let answers = soon("the outcomes", futures::future::join_all(calls)).await;
        let outcomes = answers.iter().map(|answer| answer.as_ref().unwrap_err().outcome());
        let sent = outcomes.clone().filter(|outcome| *outcome == Outcome::Indeterminate).count();
        assert_eq!(sent, byte / framed, "behind {byte} bytes");
        let all = keys.into_iter().zip(outcomes);
        unrun.extend(all.filter(|(_, outcome)| *outcome == Outcome::NotSent).map(|(key, _)| key));
        bench.reconnect().await;
    }
    let journal = bench.server.end().await;
    for key in unrun {
        assert_eq!(journal.runs(key), 0, "{key} ran, and is said not to have been sent");
    }
}
