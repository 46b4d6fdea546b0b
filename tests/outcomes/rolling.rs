//! Two servers behind one name, restarted one after the other under load.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use steadfast::{
    CallError, Connect, Connected, Connecting, Endpoint, Event, Pool, Server, Subscription,
};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::journal::{Deed, Journal, Served, body, reply};
use crate::support::peer::own_loopback;
use crate::support::pipes::refused;
use crate::support::scripted::{soon, until};

const CALLERS: usize = 32;
const CONNECTIONS: usize = 4;
/// How often each server is restarted, and the calls that succeed between two restarts.
const ROUNDS: usize = 8;
const CALLS_BETWEEN: u64 = 300;
/// Of the bodies. Some are so long that servers go away in the middle of them.
const LENGTH: usize = 40;
const LONG: usize = 200_000;

/// One name with several addresses. Each attempt begins with the next one, and takes the first that answers.
#[derive(Debug)]
struct OneName {
    addresses: Vec<SocketAddr>,
    turn: AtomicUsize,
}

impl Connect for OneName {
    fn connect<'a>(&'a self, _: &'a Endpoint) -> Connecting<'a> {
        Box::pin(async move {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let count = self.addresses.len();
            for address in self.addresses.iter().cycle().skip(turn % count).take(count) {
                if let Ok(stream) = TcpStream::connect(address).await {
                    stream.set_nodelay(true).unwrap();
                    return Ok(Connected { transport: Box::new(stream), address: Some(*address) });
                }
            }
            Err(refused())
        })
    }
}

/// Callers in closed loops, with the default policy: nothing is marked idempotent.
#[derive(Debug)]
struct Load {
    begun: Arc<AtomicU64>,
    settled: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    callers: JoinSet<Vec<(u64, CallError)>>,
}

impl Load {
    fn on(pool: &Pool) -> Self {
        let (begun, settled) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (ended, mut callers) = (Arc::<AtomicBool>::default(), JoinSet::new());
        for _ in 0..CALLERS {
            let (pool, ended) = (pool.clone(), ended.clone());
            let (begun, settled) = (begun.clone(), settled.clone());
            callers.spawn(async move {
                let mut failures = Vec::new();
                while !ended.load(Ordering::Relaxed) {
                    let key = begun.fetch_add(1, Ordering::Relaxed) + 1;
                    let length = if key % 16 == 0 { LONG } else { LENGTH };
                    let answer = pool.call(body(key, Deed::Dawdle, length, LENGTH)).await;
                    settled.fetch_add(1, Ordering::Relaxed);
                    match answer {
                        Ok(answer) => assert_eq!(answer, reply(key, LENGTH)),
                        Err(error) => failures.push((key, error)),
                    }
                }
                failures
            });
        }
        Self { begun, settled, ended, callers }
    }

    /// Lets so many more calls be made.
    async fn make(&self, calls: u64) {
        let enough = self.settled.load(Ordering::Relaxed) + calls;
        until("calls", || self.settled.load(Ordering::Relaxed) >= enough).await;
    }

    /// How many calls were made, and those that failed.
    async fn end(mut self) -> (u64, Vec<(u64, CallError)>) {
        self.ended.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        while let Some(caller) = soon("the callers", self.callers.join_next()).await {
            failures.extend(caller.unwrap());
        }
        (self.begun.load(Ordering::Relaxed), failures)
    }
}

/// Counts the goodbyes until the pool ends.
async fn goodbyes(mut events: Subscription<Event>) -> usize {
    let mut seen = 0;
    while let Some(event) = events.next().await {
        seen += usize::from(matches!(event, Event::GoingAway { .. }));
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_two_servers_behind_one_name_costs_no_call() {
    let journal = Journal::new();
    let mut servers = Vec::new();
    for _ in 0..2 {
        let address = (own_loopback(), 0).into();
        servers.push(Served::start_at(Server::builder(), address, journal.clone()).await);
    }
    let addresses = servers.iter().map(|server| server.address).collect();
    let mut builder = Pool::builder("servers:1")
        .connector(OneName { addresses, turn: AtomicUsize::new(0) })
        .connections(CONNECTIONS);
    let goodbyes = tokio::spawn(goodbyes(builder.events()));
    let pool = builder.build().unwrap();
    let load = Load::on(&pool);
    for _ in 0..ROUNDS {
        for turn in 0..2 {
            load.make(CALLS_BETWEEN).await;
            let old = servers.remove(0);
            let address = old.address;
            old.end().await;
            // It is back at once, or the other one is alone for a while.
            load.make(CALLS_BETWEEN * turn).await;
            servers.push(Served::start_at(Server::builder(), address, journal.clone()).await);
        }
    }
    load.make(CALLS_BETWEEN).await;
    let (calls, failures) = load.end().await;
    pool.close(Duration::from_secs(5)).await.unwrap();
    for server in servers {
        server.end().await;
    }
    let goodbyes = goodbyes.await.unwrap();
    println!("{calls} calls, {goodbyes} goodbyes");
    assert!(failures.is_empty(), "{} of {calls} failed: {:#?}", failures.len(), failures[0]);
    for key in 1..=calls {
        assert_eq!(journal.runs(key), 1, "{key}");
    }
    assert!(goodbyes >= 2 * ROUNDS, "only {goodbyes} connections were sent away");
}
