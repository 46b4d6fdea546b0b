//! Two servers behind one name, restarted one after the other under load.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use steadfast::{Connect, Connected, Connecting, Endpoint, Event, Pool, Server, Subscription};
use tokio::net::TcpStream;

use crate::journal::{Journal, Served};
use crate::load::Load;
use crate::support::loopback::own_loopback;
use crate::support::pipes::refused;

const CALLERS: usize = 32;
const CONNECTIONS: usize = 4;
/// How often each server is restarted, and the calls that succeed between two restarts.
const ROUNDS: usize = 8;
const CALLS_BETWEEN: u64 = 300;

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
    let load = Load::on(&pool, CALLERS);
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
    let account = load.end().await;
    pool.close(Duration::from_secs(5)).await.unwrap();
    for server in servers {
        server.end().await;
    }
    let goodbyes = goodbyes.await.unwrap();
    println!("{} calls, {goodbyes} goodbyes", account.calls);
    account.assert_all_answered_and_run_once(&journal);
    assert!(goodbyes >= 2 * ROUNDS, "only {goodbyes} connections were sent away");
}
