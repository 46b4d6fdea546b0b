//! Cables, addresses, names and hosts that come and go, and a client that slept.

use std::time::Instant;

use crate::faults::Way;
use crate::page::{row, thrice};
use crate::scene::{Scene, Stage};
use crate::support::lab::{SERVER, SERVER_TOO};
use crate::support::times::ms;
use crate::support::truth::Told;

/// Ping after 300 ms of silence, give up after 700 ms more.
const HEARTBEAT: [(&str, &str); 2] = [("EVERY", "300"), ("GIVE_UP", "700")];
const CLIENT: &str = "10.77.1.2";
const CLIENT_TOO: &str = "10.77.1.3";

#[tokio::test]
async fn row_22a_a_cable_that_is_plugged_in_again_before_the_bound_costs_nothing() {
    for end in ["c", "s"] {
        let Some(mut scene) = Scene::usual(&[("EVERY", "2000"), ("GIVE_UP", "4000")]).await else {
            return;
        };
        scene.client.tell("busy");
        scene.client.said("busy").await;
        scene.lab.pull(end);
        // That long it is out.
        tokio::time::sleep(ms(500)).await;
        scene.lab.plug_in(end);
        scene.client.tell("rest");
        scene.client.said("rested").await;
        scene.client.never_said("lost");
        row("22a").survived();
        let account = scene.ends_well().await;
        assert_eq!(account.count(Told::Unknown) + account.count(Told::NotRun), 0);
    }
}

#[tokio::test]
async fn row_22b_the_servers_cable_is_pulled() {
    thrice(async || {
        let Some(mut scene) = Scene::usual(&HEARTBEAT).await else { return Ok(()) };
        scene.recovers().await;
        scene.lab.pull("s");
        let pulled = Instant::now();
        scene.tells(&row("22b"), pulled).await?;
        scene.lab.plug_in("s");
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_22b_the_clients_own_cable_is_pulled() {
    thrice(async || {
        let Some(mut scene) = Scene::usual(&HEARTBEAT).await else { return Ok(()) };
        scene.recovers().await;
        scene.lab.pull("c");
        let pulled = Instant::now();
        scene.tells(&row("22b own"), pulled).await?;
        scene.tells(&row("22b next"), pulled).await?;
        scene.lab.plug_in("c");
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_22c_a_server_that_moved_is_found_by_its_name() {
    thrice(async || {
        let Some(stage) = Stage::empty() else { return Ok(()) };
        stage.lab.etc("c", "hosts", &format!("{SERVER} orders\n"));
        let stage = stage.server("lab server", &HEARTBEAT).await;
        let mut scene = stage.client(&[&HEARTBEAT[..], &[("TO", "orders:7000")]].concat());
        scene.client.said("ready ").await;
        scene.recovers().await;
        scene.lab.remove_address("s", SERVER);
        let moved = Instant::now();
        scene.start_server(SERVER_TOO).await;
        scene.lab.etc("c", "hosts", &format!("{SERVER_TOO} orders\n"));
        scene.tells(&row("22c"), moved).await?;
        let (_, connected) = scene.client.said("ready ").await;
        assert!(connected.ends_with(SERVER_TOO), "{connected}");
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_22d_a_client_whose_address_changes_connects_from_the_new_one() {
    thrice(async || {
        let Some(mut scene) = Scene::usual(&HEARTBEAT).await else { return Ok(()) };
        scene.recovers().await;
        scene.lab.add_address("c", CLIENT_TOO);
        scene.lab.remove_address("c", CLIENT);
        let changed = Instant::now();
        scene.tells(&row("22d"), changed).await?;
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_23a_a_client_that_slept_reads_the_goodbye_that_came_meanwhile() {
    thrice(async || {
        let Some(mut scene) = Scene::usual(&HEARTBEAT).await else { return Ok(()) };
        scene.recovers().await;
        scene.client.freeze();
        scene.until_closed("s").await;
        let woken = Instant::now();
        scene.client.thaw();
        scene.tells(&row("23a"), woken).await?;
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_23b_a_client_that_slept_without_a_network_is_reset_when_it_writes() {
    thrice(async || {
        let Some(mut scene) = Scene::usual(&HEARTBEAT).await else { return Ok(()) };
        scene.recovers().await;
        scene.client.freeze();
        scene.lab.swallow(Way::Both);
        scene.lab.destroy_connections("s");
        scene.lab.heal();
        // Longer than the bound.
        tokio::time::sleep(ms(1500)).await;
        let woken = Instant::now();
        scene.client.thaw();
        scene.tells(&row("23b"), woken).await?;
        scene.ends_well().await;
        Ok(())
    })
    .await;
}
