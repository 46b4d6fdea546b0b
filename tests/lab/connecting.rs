//! No connection comes about: refused, unreachable, swallowed, unanswered, or for want of ports and descriptors.

use std::time::{Duration, Instant};

use crate::page::{row, thrice};
use crate::scene::{Scene, Stage};
use crate::support::lab::SERVER;
use crate::support::process::Process;
use crate::support::times::ms;

/// The limits of the phases are 1 s unless something else is said.
const DEFAULTS: [(&str, &str); 0] = [];

#[tokio::test]
async fn row_11_nobody_listens() {
    thrice(async || {
        let Some(stage) = Stage::empty() else { return Ok(()) };
        let began = Instant::now();
        let mut scene = stage.client(&DEFAULTS);
        scene.tells(&row("11 port"), began).await?;
        scene.start_server(SERVER).await;
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_11_nobody_has_the_address() {
    thrice(async || {
        let Some(stage) = Stage::empty() else { return Ok(()) };
        stage.lab.remove_address("s", SERVER);
        let began = Instant::now();
        let mut scene = stage.client(&[("CONNECT", "6000")]);
        scene.tells(&row("11 address"), began).await?;
        scene.lab.add_address("s", SERVER);
        scene.start_server(SERVER).await;
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_11_there_is_no_way_there() {
    thrice(async || {
        let Some(stage) = Stage::empty() else { return Ok(()) };
        stage.lab.remove_route("c");
        let began = Instant::now();
        let mut scene = stage.server("lab server", &[]).await.client(&DEFAULTS);
        scene.tells(&row("11 route"), began).await?;
        scene.lab.add_route("c");
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_12_a_firewall_swallows_what_opens_a_connection() {
    thrice(async || {
        let Some(stage) = Stage::empty() else { return Ok(()) };
        stage.lab.drop_syn();
        let stage = stage.server("lab server", &[]).await;
        let began = Instant::now();
        let mut scene = stage.client(&DEFAULTS);
        scene.tells(&row("12"), began).await?;
        scene.lab.heal();
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_13_a_server_that_does_not_accept_is_given_up_in_the_phase_that_hangs() {
    thrice(async || {
        let Some(stage) = Stage::empty() else { return Ok(()) };
        let rude = [("MANNER", "echo"), ("BACKLOG", "1"), ("LATE", "yes")];
        let stage = stage.server("rude server", &rude).await;
        let began = Instant::now();
        // Two find room in the backlog, the SYN of the others vanishes.
        let mut scene = stage.client(&[("CONNECTIONS", "4")]);
        scene.tells_among_others(&row("13"), began).await?;
        scene.tells_among_others(&row("13'"), began).await?;
        scene.server().tell("accept");
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_15_a_router_that_resets_does_so_at_the_next_ping_and_refuses_new_connections() {
    thrice(async || {
        let heartbeat = [("EVERY", "300"), ("GIVE_UP", "700")];
        let Some(mut scene) = Scene::usual(&heartbeat).await else { return Ok(()) };
        scene.recovers().await;
        scene.lab.reject("tcp-reset");
        let rejecting = Instant::now();
        scene.tells(&row("15"), rejecting).await?;
        scene.tells(&row("15 next"), rejecting).await?;
        scene.lab.heal();
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_16_a_router_that_says_why_is_believed_while_connecting() {
    thrice(async || {
        for (icmp, number) in [
            ("icmp-host-unreachable", "16 host"),
            ("icmp-admin-prohibited", "16 admin"),
            ("icmp-net-unreachable", "16 net"),
            ("icmp-port-unreachable", "16 port"),
            ("icmp-proto-unreachable", "16 proto"),
        ] {
            let Some(stage) = Stage::empty() else { return Ok(()) };
            stage.lab.reject(icmp);
            let stage = stage.server("lab server", &[]).await;
            let began = Instant::now();
            let mut scene = stage.client(&DEFAULTS);
            scene.tells(&row(number), began).await?;
            scene.lab.heal();
            scene.ends_well().await;
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_16_on_a_connection_icmp_is_a_hint_a_short_outage_is_survived_and_a_long_one_is_not() {
    thrice(async || {
        let Some(mut scene) = Scene::usual(&[("EVERY", "1000"), ("GIVE_UP", "2000")]).await else {
            return Ok(());
        };
        scene.client.tell("busy");
        scene.client.said("busy").await;
        scene.lab.reject("icmp-host-unreachable");
        // That long it lasts.
        tokio::time::sleep(ms(1000)).await;
        scene.lab.heal();
        scene.client.tell("rest");
        scene.client.said("rested").await;
        scene.client.never_said("lost");
        row("16b").survived();

        scene.client.tell("busy");
        scene.client.said("busy").await;
        scene.lab.reject("icmp-host-unreachable");
        let rejecting = Instant::now();
        scene.tells(&row("16b long"), rejecting).await?;
        scene.lab.heal();
        scene.client.tell("rest");
        scene.client.said("rested").await;
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_17_a_client_without_free_ports_says_so_does_not_spin_and_goes_on_with_what_it_has() {
    thrice(async || {
        let Some(stage) = Stage::empty() else { return Ok(()) };
        stage.lab.use_ports(50_000, 50_003);
        let stage = stage.server("lab server", &[]).await;
        let began = Instant::now();
        let mut scene = stage.client(&[("CONNECTIONS", "6")]);
        scene.tells(&row("17"), began).await?;
        assert!(
            attempts_within(&mut scene.client, "failed: Connect: EADDRNOTAVAIL", ms(1000)).await
                <= 40
        );
        scene.recovers().await;
        scene.lab.use_ports(32_768, 60_999);
        for _ in 0..6 {
            scene.client.said("ready ").await;
        }
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_18_a_client_without_free_descriptors_says_so_does_not_spin_and_recovers() {
    thrice(async || {
        let Some(stage) = Stage::empty() else { return Ok(()) };
        let stage = stage.server("lab server", &[]).await;
        let began = Instant::now();
        let mut scene = stage.client_below(64, &[("FULL", "yes")]);
        scene.tells(&row("18"), began).await?;
        assert!(
            attempts_within(&mut scene.client, "failed: Connect: EMFILE", ms(1000)).await <= 40
        );
        scene.client.tell("release");
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_18_a_server_without_free_descriptors_leaves_connections_unanswered_until_some_are_free()
 {
    thrice(async || {
        let Some(stage) = Stage::empty() else { return Ok(()) };
        let stage = stage.server_below(48, "lab server").await;
        let mut others = stage.other_client(&[("CONNECTIONS", "60")]);
        // They have taken all.
        others.said("failed: Handshake").await;
        let began = Instant::now();
        let mut scene = stage.client(&DEFAULTS);
        scene.tells(&row("18 server"), began).await?;
        drop(others);
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

/// How often it says so while this time passes.
async fn attempts_within(client: &mut Process, line: &str, time: Duration) -> usize {
    let (mut attempts, began) = (0, Instant::now());
    loop {
        let (when, _) = client.said(line).await;
        if when.saturating_duration_since(began) > time {
            return attempts;
        }
        attempts += 1;
    }
}
