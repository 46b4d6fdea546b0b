//! A network that swallows everything, without a word: the pulled cable, the firewall that forgot the flow.

use std::time::{Duration, Instant};

use crate::support::lab::{Lab, SERVER, SERVER_TOO};
use crate::support::process::Process;
use crate::support::times::ms;

const EVERY: &str = "300";
const GIVE_UP: &str = "700";
const GIVE_UP_AFTER: Duration = ms(700);
/// The promise, with a tenth more for the machine.
const BOUND: Duration = ms(1100);

async fn server(lab: &Lab, address: &str) -> Process {
    let listen = format!("{address}:7000");
    let mut server = lab.start("s", "server", &[("LISTEN", &listen)]);
    server.says("listening on ").await;
    server
}

#[tokio::test]
async fn a_black_hole_is_noticed_within_the_bound_both_idle_and_under_constant_sending() {
    let Some(lab) = Lab::up() else { return };
    let _server = server(&lab, SERVER).await;
    let to = format!("{SERVER}:7000");
    let heartbeat = [("TO", &*to), ("EVERY", EVERY), ("GIVE_UP", GIVE_UP)];
    let mut idle = lab.start("c", "client", &heartbeat);
    let busy = [&heartbeat[..], &[("BUSY", "yes")]].concat();
    let mut busy = lab.start("c", "client", &busy);
    idle.says("ready").await;
    busy.says("answered").await;

    // The best of three: the bound is ours, the delays of a busy machine are not.
    let mut best = [Duration::MAX; 2];
    for _ in 0..3 {
        let cutting = Instant::now();
        lab.cut(SERVER);
        let cut = Instant::now();
        for (at, client) in [&mut idle, &mut busy].into_iter().enumerate() {
            let (noticed, cause) = client.says("lost ").await;
            // Under constant sending the kernel gives up at about the same time, and says so in its own way.
            let causes = if at == 0 { vec!["silent"] } else { vec!["silent", "ETIMEDOUT"] };
            assert!(causes.contains(&&*cause), "{cause}");
            assert!(noticed - cutting >= GIVE_UP_AFTER, "{:?}", noticed - cutting);
            best[at] = best[at].min(noticed.saturating_duration_since(cut));
            // Dialing into it fails as well, within its own time-out.
            client.says("failed Connect no answer within 300ms").await;
        }
        lab.heal();
        idle.says("ready").await;
        busy.says("ready").await;
        busy.says("answered").await;
        if best.iter().all(|noticed| *noticed <= BOUND) {
            break;
        }
    }
    assert!(best.iter().all(|noticed| *noticed <= BOUND), "idle and busy: {best:?}");
    idle.tell("call");
    idle.says("answered").await;
}

/// Without a heartbeat frame there is only TCP: keepalive when idle, `TCP_USER_TIMEOUT` when something is under way. They
/// count in seconds.
#[tokio::test]
async fn a_black_hole_before_a_server_that_cannot_be_asked_is_noticed_by_tcp_within_the_bound() {
    let Some(lab) = Lab::up() else { return };
    let listen = format!("{SERVER}:7000");
    let mut server = lab.start("s", "old server", &[("LISTEN", &listen)]);
    server.says("listening on ").await;
    let bound = ms(3000);
    let plain = [("TO", &*listen), ("EVERY", "1000"), ("GIVE_UP", "2000"), ("PLAIN", "yes")];
    let mut idle = lab.start("c", "client", &plain);
    let busy = [&plain[..], &[("BUSY", "yes")]].concat();
    let mut busy = lab.start("c", "client", &busy);
    idle.says("ready").await;
    busy.says("answered").await;

    let cutting = Instant::now();
    lab.cut(SERVER);
    let cut = Instant::now();
    for (client, what) in [(&mut idle, "idle"), (&mut busy, "busy")] {
        let (noticed, cause) = client.says("lost ").await;
        assert_eq!(cause, "ETIMEDOUT", "{what}");
        assert!(noticed - cutting >= ms(1000), "{what}: {:?}", noticed - cutting);
        // A probe's time more, for the one that is under way when the bound is reached.
        let took = noticed.saturating_duration_since(cut);
        assert!(took <= bound + ms(1100), "{what}: {took:?}");
    }
    lab.heal();
    for client in [&mut idle, &mut busy] {
        client.says("ready").await;
    }
    busy.says("answered").await;
    idle.tell("call");
    idle.says("answered").await;
}

#[tokio::test]
async fn an_address_that_swallows_everything_does_not_hold_up_the_next_one() {
    let Some(lab) = Lab::up() else { return };
    let _server = server(&lab, SERVER).await;
    let hosts = format!("{SERVER_TOO} twins\n{SERVER} twins\n");
    lab.etc("c", "hosts", &hosts);
    lab.cut(SERVER_TOO);
    let mut client = lab.start("c", "client", &[("TO", "twins:7000")]);
    // The time-out of the phase is 300 ms over all addresses, and the second is tried after 250 ms.
    client.says("ready 1").await;
}

#[tokio::test]
async fn an_address_family_without_a_listener_does_not_hold_up_the_other() {
    let Some(lab) = Lab::up() else { return };
    let mut server = lab.start("c", "server", &[("LISTEN", "127.0.0.1:7000")]);
    server.says("listening on ").await;
    lab.etc("c", "hosts", "::1 both\n127.0.0.1 both\n");
    let mut client = lab.start("c", "client", &[("TO", "both:7000")]);
    client.says("ready 1").await;
}

#[tokio::test]
async fn a_resolver_that_hangs_is_given_up_after_its_own_time_out() {
    let Some(lab) = Lab::up() else { return };
    lab.etc("c", "resolv.conf", &format!("nameserver {SERVER}\n"));
    lab.etc("c", "hosts", "127.0.0.1 localhost\n");
    lab.cut(SERVER);
    let mut client = lab.start("c", "client", &[("TO", "orders.intranet:7000")]);
    let (_, took) = client.says("failed Resolve no answer within 300ms, after ").await;
    let took: u64 = took.trim_end_matches(" ms").parse().unwrap();
    // A busy machine may wake it late. Without a time-out of its own it would be 5 s.
    assert!((300..2300).contains(&took), "{took} ms");
}

#[tokio::test]
async fn a_dead_port_that_the_client_draws_for_itself_is_refused_and_never_talked_to() {
    let Some(lab) = Lab::up() else { return };
    // The one port there is to draw is the one that is dialed: the kernel connects the socket to itself.
    lab.set("c", "net/ipv4/ip_local_port_range", "50001 50001").unwrap();
    let mut client = lab.start("c", "client", &[("TO", "127.0.0.1:50001")]);
    // Several times: no attempt leaves anything behind that keeps the port busy.
    for _ in 0..3 {
        let (_, failure) = client.says("failed ").await;
        assert!(failure.starts_with("Connect ECONNREFUSED,"), "{failure}");
    }
}
