//! The server's end is gone, and a segment says so: FIN or RST, at once or when the client next sends something.

use std::time::Instant;

use crate::page::{row, thrice};
use crate::scene::{Scene, Stage};
use crate::support::lab::SERVER;
use crate::support::truth::Told;

/// Ping after 300 ms of silence, give up after 700 ms more.
const HEARTBEAT: [(&str, &str); 2] = [("EVERY", "300"), ("GIVE_UP", "700")];
/// A heartbeat that has nothing to do with it.
const CALM: [(&str, &str); 2] = [("EVERY", "20000"), ("GIVE_UP", "20000")];

#[tokio::test]
async fn row_1_a_killed_server_is_known_at_once() {
    thrice(async || {
        let Some(mut scene) = Scene::usual(&CALM).await else { return Ok(()) };
        scene.recovers().await;
        let killed = Instant::now();
        scene.server().kill();
        scene.tells(&row("1"), killed).await?;
        scene.server().wait();
        scene.tells(&row("1 next"), killed).await?;
        scene.start_server(SERVER).await;
        scene.client.said("the server process was replaced").await;
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_2_a_server_killed_with_unread_calls_resets_and_they_are_told_to_be_unknown() {
    thrice(async || {
        let Some(mut scene) = Scene::usual(&CALM).await else { return Ok(()) };
        scene.recovers().await;
        scene.server().freeze();
        scene.client.tell("call 64 64");
        scene.until_unread().await;
        let killed = Instant::now();
        scene.server().kill();
        scene.tells(&row("2"), killed).await?;
        scene.start_server(SERVER).await;
        // It had left, and nobody can say any more whether it ran.
        let (_, what) = scene.client.said("call: ").await;
        assert_eq!(what, "indeterminate, the server process was replaced");
        assert_eq!(scene.ends_well().await.count(Told::Unknown), 1);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_3_a_server_that_is_asked_to_end_says_goodbye_and_no_call_fails() {
    thrice(async || {
        let Some(mut scene) = Scene::usual(&CALM).await else { return Ok(()) };
        scene.client.tell("busy");
        scene.client.said("busy").await;
        let asked = Instant::now();
        scene.server().terminate();
        scene.tells(&row("3"), asked).await?;
        scene.server().wait();
        scene.start_server(SERVER).await;
        scene.client.said("ready ").await;
        scene.client.tell("rest");
        scene.client.said("rested").await;
        let account = scene.ends_well().await;
        assert_eq!(account.count(Told::NotRun) + account.count(Told::Unknown), 0);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_3_foreign_a_server_that_closes_its_sockets_looks_like_a_killed_one() {
    thrice(async || {
        let Some(mut scene) = rude("echo", &[]).await else { return Ok(()) };
        scene.recovers().await;
        let closed = Instant::now();
        scene.server().tell("close");
        scene.tells(&row("3'"), closed).await?;
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_4_a_reply_in_front_of_a_reset_is_delivered() {
    thrice(async || {
        let Some(mut scene) = rude("reply and reset", &[]).await else { return Ok(()) };
        let called = Instant::now();
        scene.client.tell("call 64 64");
        let (_, what) = scene.client.said("call: ").await;
        assert_eq!(what, "answered with 200 bytes");
        scene.tells(&row("4"), called).await?;
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_5_calls_that_run_into_a_fin_end_as_what_they_are() {
    thrice(async || {
        let Some(mut scene) = rude("echo", &CALM).await else { return Ok(()) };
        scene.client.tell("busy");
        scene.client.said("busy").await;
        // The client is not there to read the FIN when it comes, and writes behind it.
        scene.client.freeze();
        scene.server().tell("close");
        scene.until_closed("c").await;
        let thawed = Instant::now();
        scene.client.thaw();
        scene.tells(&row("5"), thawed).await?;
        scene.client.said("ready ").await;
        scene.client.tell("rest");
        scene.client.said("rested").await;
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_9_a_machine_that_was_switched_off_resets_when_it_is_back_and_is_written_to() {
    thrice(async || {
        let Some(mut scene) = Scene::usual(&[("EVERY", "1500"), ("GIVE_UP", "10000")]).await else {
            return Ok(());
        };
        scene.recovers().await;
        let Scene { lab, server, .. } = &mut scene;
        lab.crash_machine(server.as_mut().unwrap());
        scene.start_server(SERVER).await;
        let back = Instant::now();
        scene.lab.heal();
        // The ping is the first that it writes.
        scene.tells(&row("9"), back).await?;
        scene.client.said("the server process was replaced").await;
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_9_a_kernel_that_outlives_its_process_says_fin_when_the_network_is_back() {
    thrice(async || {
        let Some(mut scene) = Scene::usual(&CALM).await else { return Ok(()) };
        scene.recovers().await;
        scene.lab.cut(SERVER);
        scene.server().kill();
        scene.server().wait();
        scene.start_server(SERVER).await;
        let back = Instant::now();
        scene.lab.heal();
        scene.tells(&row("9'"), back).await?;
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_10_a_socket_that_is_destroyed_from_outside_is_known_at_once_at_either_end() {
    thrice(async || {
        for (end, number) in [("c", "10"), ("s", "10'")] {
            let Some(mut scene) = Scene::usual(&CALM).await else { return Ok(()) };
            scene.recovers().await;
            let destroyed = Instant::now();
            scene.lab.destroy_connections(end);
            scene.tells(&row(number), destroyed).await?;
            scene.ends_well().await;
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_14_a_server_that_accepts_and_closes_is_no_server() {
    thrice(async || {
        let Some(stage) = Stage::empty() else { return Ok(()) };
        let stage = stage.server("rude server", &[("MANNER", "close at once")]).await;
        let began = Instant::now();
        let mut scene = stage.client(&CALM);
        scene.tells(&row("14"), began).await?;
        scene.server().tell("behave");
        scene.client.said("ready ").await;
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

/// The rude server's first connection is the client's.
async fn rude(manner: &str, settings: &[(&str, &str)]) -> Option<Scene> {
    let stage = Stage::empty()?.server("rude server", &[("MANNER", manner)]).await;
    let mut scene = stage.client(&[&HEARTBEAT, settings].concat());
    scene.client.said("ready ").await;
    Some(scene)
}
