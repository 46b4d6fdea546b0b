//! A thousand clients, each with a call that waits, after half a minute without a server: how they come back.

use std::cell::Cell;
use std::time::Duration;

use fastrand::Rng;
use steadfast::{Call, Pool, Server};
use turmoil::Builder;
use turmoil::net::TcpListener;

use crate::books::Books;
use crate::network::{Dialer, Socket};
use crate::plan::SERVER;
use crate::support::times::ms;

const CLIENTS: usize = 1000;
/// Pools of one host share its runtime, which is only to save time.
const HOSTS: usize = 10;
const OUTAGE: Duration = Duration::from_secs(30);
const BIN: Duration = Duration::from_millis(100);

/// How the server goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outage {
    /// Its host is back at once, and refuses until the server process is.
    Refused,
    /// Nothing gets to it.
    Partition,
}

#[test]
fn a_thousand_clients_come_back_from_refusals_without_a_storm() {
    come_back(Outage::Refused, 1);
}

#[test]
fn a_thousand_clients_come_back_from_a_partition_without_a_storm() {
    come_back(Outage::Partition, 2);
}

/// No 100 ms see more than three times as many connections as the mean of the time in which they come back.
fn come_back(outage: Outage, seed: u64) {
    let (back, accepted) = accepted_after(outage, seed);
    let after: Vec<_> = accepted.iter().filter_map(|at| at.checked_sub(back)).collect();
    let last = *after.iter().max().expect("they come back");
    assert!(after.len() >= CLIENTS, "{} came back", after.len());
    let bins = (last.as_millis() / BIN.as_millis()) as usize + 1;
    let mut counts = vec![0; bins];
    for at in &after {
        counts[(at.as_millis() / BIN.as_millis()) as usize] += 1;
    }
    let (most, mean) = (*counts.iter().max().unwrap(), after.len() as f64 / bins as f64);
    eprintln!(
        "{outage:?}: {} connections in {last:?}, mean {mean:.1}, most {most}: {counts:?}",
        after.len()
    );
    assert!(most as f64 <= 3.0 * mean, "{outage:?}: mean {mean}, {counts:?}");
}

/// When the server can be reached again, and when connections were accepted.
fn accepted_after(outage: Outage, seed: u64) -> (Duration, Vec<Duration>) {
    let mut random = Rng::with_seed(seed);
    let mut builder = Builder::new();
    builder
        .rng_seed(random.u64(..))
        .simulation_duration(Duration::from_secs(120))
        .tick_duration(ms(1))
        .max_message_latency(ms(2))
        .tcp_capacity(100_000);
    let mut sim = builder.build();
    let books = Books::default();
    let of_server = books.clone();
    let is_first = Cell::new(true);
    sim.host(SERVER, move || {
        let after = if is_first.replace(false) { Duration::ZERO } else { OUTAGE };
        serve(of_server.clone(), after)
    });
    let hosts: Vec<_> = (0..HOSTS).map(|host| format!("host-{host}")).collect();
    for host in &hosts {
        let seeds: Vec<_> = (0..CLIENTS / HOSTS).map(|_| random.u64(..)).collect();
        sim.client(host.clone(), async move {
            futures::future::join_all(seeds.into_iter().map(client)).await;
            Ok(())
        });
    }
    while sim.elapsed() < CALL_AT {
        sim.step().unwrap();
    }
    match outage {
        Outage::Refused => {
            sim.crash(SERVER);
            sim.bounce(SERVER);
        }
        Outage::Partition => hosts.iter().for_each(|host| sim.partition(host.as_str(), SERVER)),
    }
    while sim.elapsed() < CALL_AT + OUTAGE {
        sim.step().unwrap();
    }
    let back = sim.elapsed();
    match outage {
        Outage::Refused => {}
        Outage::Partition => hosts.iter().for_each(|host| sim.repair(host.as_str(), SERVER)),
    }
    sim.run().unwrap();
    (back, books.accepted())
}

/// By then all are connected. The call is made somewhat later, when they know that they are not.
const CALL_AT: Duration = Duration::from_secs(8);

async fn client(seed: u64) {
    let builder = Pool::builder(format!("{SERVER}:7000")).connector(Dialer).seed(seed);
    let pool = builder.build().expect("the settings are good");
    pool.ready(CALL_AT).await.expect("the server is there");
    tokio::time::sleep_until(tokio::time::Instant::now() + CALL_AT + ms(500)).await;
    let answer = pool.request("hello").timeout(Duration::from_secs(100)).send().await;
    assert_eq!(answer.expect("it waits for the server"), "hello");
}

/// Nobody listens before `after`.
async fn serve(books: Books, after: Duration) -> turmoil::Result {
    tokio::time::sleep(after).await;
    let listener = TcpListener::bind(("0.0.0.0", 7000)).await?;
    let server = Server::builder().listen_on(Socket(listener, move || books.accept()))?;
    Ok(server.serve(|call: Call| async move { Ok(call.into_body()) }).await?)
}
