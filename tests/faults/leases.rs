//! Connections that nobody uses when the server goes, and the leases that come after.

use std::time::{Duration, Instant};

use steadfast::{Pool, Reconnect};

use crate::support::lab::{Lab, SERVER};
use crate::support::loopback::own_loopback;
use crate::support::news::connected;
use crate::support::plain::{ask, ordered};
use crate::support::process::Process;
use crate::support::times::{best_of_three, ms};
use crate::support::waits::{soon, until};

const IDLE: usize = 32;
const EVERY: &str = "1000";
const GIVE_UP: &str = "2000";
const BOUND: Duration = ms(3000);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lease_fails_after_a_restart_of_the_server() {
    let listen = format!("{}:0", own_loopback());
    let mut server = Process::start(&[], "plain server", &[("LISTEN", &listen)]);
    let (_, address) = server.says("listening on ").await;
    let pool = Pool::builder(&*address)
        .protocol(ordered())
        .connections(IDLE)
        .reconnect(Reconnect::exponential(ms(20), ms(100)))
        .build()
        .unwrap();
    for _ in 0..3 {
        soon("connections", connected(&pool, IDLE)).await;
        server.kill();
        server.wait();
        until("the loss", || pool.status().ready == 0).await;
        // In the meantime too: who is served now has a connection that lives.
        let early = tokio::spawn({
            let pool = pool.clone();
            async move { futures::future::join_all((0..IDLE).map(|_| ask(&pool))).await }
        });
        server = Process::start(&[], "plain server", &[("LISTEN", &address)]);
        server.says("listening on ").await;
        let late = futures::future::join_all((0..IDLE).map(|_| ask(&pool)));
        for result in soon("the leases", late).await.into_iter().chain(early.await.unwrap()) {
            result.unwrap();
        }
    }
}

/// From the cut to the end of the first conversation that succeeds, with so many connections that nobody used.
async fn outage(lab: &Lab, idle: usize, ping: &[(&str, &str)], ports: u16) -> Duration {
    let (last, next) = (ports + 499, ports + 500);
    lab.use_ports(ports, last);
    let (to, idle) = (format!("{SERVER}:7000"), idle.to_string());
    let settings = [("TO", &*to), ("IDLE", &idle), ("EVERY", EVERY), ("GIVE_UP", GIVE_UP)];
    let mut client = lab.start("c", "lessee", &[&settings[..], ping].concat());
    client.says("ready").await;
    client.tell("lease");
    client.says("leased after 0").await;
    lab.use_ports(next, next + 499);
    lab.cut_ports(ports, last);
    let cut = Instant::now();
    client.tell("lease");
    let (leased, _) = client.says("leased after").await;
    leased - cut
}

#[tokio::test]
async fn a_black_hole_costs_one_bound_whatever_the_number_of_idle_connections() {
    let Some(lab) = Lab::up() else { return };
    let listen = format!("{SERVER}:7000");
    let mut server = lab.start("s", "plain server", &[("LISTEN", &listen)]);
    server.says("listening on ").await;
    let mut ports = 19_000;
    for ping in [&[("PING", "are you there?")][..], &[]] {
        for idle in [1, IDLE] {
            best_of_three(BOUND + ms(500), async || {
                ports += 1000;
                let took = outage(&lab, idle, ping, ports).await;
                println!("{idle} idle, heartbeat {ping:?}: {took:?}");
                took
            })
            .await;
        }
    }
}
