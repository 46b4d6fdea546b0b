//! An echo behind pipes, with a record of which connections came and went. Making a connection takes a chosen time, and can
//! be made to fail.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use steadfast::{
    Connect, Connected, Connecting, Endpoint, Limits, Pool, PoolBuilder, Reconnect, State,
};
use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::support::peer::{Peer, Request};
use crate::support::pipes::refused;
use crate::support::scripted::reply;
use crate::support::waits::within;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// What a server sees of its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Came(usize),
    /// The client said FIN.
    Went(usize),
}

/// What a client says of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) connection: u64,
    pub(crate) replaces: u64,
}

/// The far end.
#[derive(Debug, Clone)]
pub(crate) struct Bench(Arc<Far>);

#[derive(Debug)]
struct Far {
    /// From the beginning of an attempt to its connection.
    dialing: Duration,
    /// From a request to its reply.
    working: Duration,
    open: AtomicBool,
    /// Attempts that were begun, and those that are under way.
    dials: AtomicUsize,
    under_way: AtomicUsize,
    came: AtomicUsize,
    seen: Mutex<Vec<(Instant, Seen)>>,
    said: Mutex<Vec<Said>>,
    /// The connections that are to end.
    cut: watch::Sender<Vec<usize>>,
}

impl Bench {
    pub(crate) fn new(dialing: Duration, working: Duration) -> Self {
        Self(Arc::new(Far {
            dialing,
            working,
            open: AtomicBool::new(true),
            dials: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            came: AtomicUsize::new(0),
            seen: Mutex::new(Vec::new()),
            said: Mutex::new(Vec::new()),
            cut: watch::Sender::new(Vec::new()),
        }))
    }

    /// A pool to this end, with one call on a connection at a time, so that each call needs one of its own.
    pub(crate) fn pool(&self) -> PoolBuilder {
        Pool::builder("peer:1")
            .connector(self.clone())
            .limits(Limits::default().in_flight(1))
            .reconnect(Reconnect::exponential(SECOND / 10, SECOND * 5))
            .call_timeout(HOUR)
    }

    /// Attempts succeed, or are refused after the time that they take.
    pub(crate) fn open(&self, open: bool) {
        self.0.open.store(open, Ordering::SeqCst);
    }

    /// All connections that have come so far end.
    pub(crate) fn cut(&self) {
        self.0.cut.send_replace((0..self.came()).collect());
    }

    /// This one ends.
    pub(crate) fn cut_one(&self, number: usize) {
        self.0.cut.send_modify(|cut| cut.push(number));
    }

    pub(crate) fn dials(&self) -> usize {
        self.0.dials.load(Ordering::SeqCst)
    }

    pub(crate) fn dials_under_way(&self) -> usize {
        self.0.under_way.load(Ordering::SeqCst)
    }

    pub(crate) fn came(&self) -> usize {
        self.0.came.load(Ordering::SeqCst)
    }

    pub(crate) fn seen(&self) -> Vec<(Instant, Seen)> {
        self.0.seen.lock().unwrap().clone()
    }

    pub(crate) fn said(&self) -> Vec<Said> {
        self.0.said.lock().unwrap().clone()
    }

    pub(crate) fn went(&self) -> usize {
        self.seen().iter().filter(|(_, seen)| matches!(seen, Seen::Went(_))).count()
    }

    fn note(&self, seen: Seen) {
        self.0.seen.lock().unwrap().push((Instant::now(), seen));
    }

    async fn serve(&self, number: usize, stream: DuplexStream) {
        let (mut peer, connection, replaces) = Peer::greet_remembering(stream, 1).await;
        self.0.said.lock().unwrap().push(Said { connection, replaces });
        self.note(Seen::Came(number));
        let mut cut = self.0.cut.subscribe();
        let mut working = FuturesUnordered::new();
        let answering = async {
            loop {
                tokio::select! {
                    request = peer.request() => match request {
                        Some(Request { id, body, .. }) => working.push(async move {
                            sleep(self.0.working).await;
                            reply(id, &body)
                        }),
                        None => break self.note(Seen::Went(number)),
                    },
                    Some(reply) = working.next() => peer.say(reply).await,
                }
            }
        };
        tokio::select! {
            () = answering => {}
            _ = cut.wait_for(|cut| cut.contains(&number)) => {}
        }
    }
}

/// Counts an attempt while it is under way, also if it is given up.
struct UnderWay(Bench);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Connect for Bench {
    fn connect<'a>(&'a self, _: &'a Endpoint) -> Connecting<'a> {
        Box::pin(async move {
            self.0.dials.fetch_add(1, Ordering::SeqCst);
            self.0.under_way.fetch_add(1, Ordering::SeqCst);
            let _under_way = UnderWay(self.clone());
            sleep(self.0.dialing).await;
            if !self.0.open.load(Ordering::SeqCst) {
                return Err(refused());
            }
            let (near, far) = tokio::io::duplex(4096);
            let number = self.0.came.fetch_add(1, Ordering::SeqCst);
            let bench = self.clone();
            tokio::spawn(async move { bench.serve(number, far).await });
            Ok(Connected { transport: Box::new(near), address: None })
        })
    }
}

/// So many calls at once, each answered with its own body.
pub(crate) async fn call_at_once(pool: &Pool, calls: usize) {
    let calls = (0..calls).map(|number| async move {
        let body = number.to_string();
        assert_eq!(pool.call(body.clone()).await.unwrap(), body);
    });
    futures::future::join_all(calls).await;
}

pub(crate) async fn state(pool: &Pool, wanted: State) {
    let mut states = pool.watch();
    let waiting = states.wait_for(|state| state == wanted);
    within(HOUR, "the state", waiting).await.unwrap();
}
