//! Nothing comes any more, and nothing says so: only the heartbeat finds it, within its bound.

use std::time::Instant;

use crate::faults::Way;
use crate::page::{row, thrice};
use crate::scene::{Scene, Stage};
use crate::support::times::ms;
use crate::support::truth::Told;

/// Ping after 300 ms of silence, give up after 700 ms more.
const HEARTBEAT: [(&str, &str); 2] = [("EVERY", "300"), ("GIVE_UP", "700")];
/// What TCP alone can do counts in seconds.
const SECONDS: [(&str, &str); 3] = [("EVERY", "1000"), ("GIVE_UP", "2000"), ("PLAIN", "yes")];
/// More than the windows between both ends take.
const UPLOAD: &str = "call 16777216 64";

#[tokio::test]
async fn row_7_a_frozen_server_is_noticed_within_the_bound_and_used_again_when_it_thaws() {
    thrice(async || {
        let Some(mut scene) = Scene::usual(&HEARTBEAT).await else { return Ok(()) };
        scene.recovers().await;
        scene.server().freeze();
        let frozen = Instant::now();
        scene.tells(&row("7"), frozen).await?;
        scene.server().thaw();
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_7_busy_a_frozen_server_is_noticed_within_the_bound_also_under_1000_calls_a_second() {
    thrice(async || {
        let Some(mut scene) = busy(&HEARTBEAT).await else { return Ok(()) };
        scene.server().freeze();
        let frozen = Instant::now();
        scene.tells(&row("7 busy"), frozen).await?;
        scene.server().thaw();
        rests(&mut scene).await;
        // The same process tells on the new connection what became of them.
        let account = scene.ends_well().await;
        assert_eq!(account.count(Told::Unknown) + account.count(Told::NotRun), 0);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_8_a_black_hole_is_noticed_within_the_bound() {
    thrice(async || {
        let Some(mut scene) = Scene::usual(&HEARTBEAT).await else { return Ok(()) };
        scene.recovers().await;
        scene.lab.swallow(Way::Both);
        let cut = Instant::now();
        scene.tells(&row("8"), cut).await?;
        scene.lab.heal();
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_8_busy_a_black_hole_is_noticed_within_the_bound_also_under_1000_calls_a_second() {
    thrice(async || {
        let Some(mut scene) = busy(&HEARTBEAT).await else { return Ok(()) };
        scene.lab.swallow(Way::Both);
        let cut = Instant::now();
        scene.tells(&row("8 busy"), cut).await?;
        scene.lab.heal();
        rests(&mut scene).await;
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_8_one_way_what_only_comes_back_no_more_is_noticed_as_well() {
    thrice(async || {
        let Some(mut scene) = Scene::usual(&HEARTBEAT).await else { return Ok(()) };
        scene.recovers().await;
        scene.lab.swallow(Way::Back);
        let cut = Instant::now();
        scene.tells(&row("8 back"), cut).await?;
        scene.lab.heal();
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_8_plain_without_a_heartbeat_frame_tcp_notices_it_idle_and_busy() {
    thrice(async || {
        for (is_busy, number) in [(false, "8 plain"), (true, "8 plain busy")] {
            let Some(stage) = Stage::empty() else { return Ok(()) };
            let mut scene = stage.server("old server of the lab", &[]).await.client(&SECONDS);
            scene.client.said("ready ").await;
            scene.recovers().await;
            if is_busy {
                scene.client.tell("busy");
                scene.client.said("busy").await;
            }
            scene.lab.swallow(Way::Both);
            let cut = Instant::now();
            scene.tells(&row(number), cut).await?;
            scene.lab.heal();
            if is_busy {
                rests(&mut scene).await;
            }
            scene.ends_well().await;
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_19_a_firewall_that_forgets_idle_flows_never_sees_one_that_has_a_heartbeat() {
    let Some(stage) = Stage::empty() else { return };
    stage.lab.firewall(1, "DROP");
    let mut scene = stage.server("lab server", &HEARTBEAT).await.client(&HEARTBEAT);
    scene.client.said("ready 1 ").await;
    let idle = Instant::now();
    // Each of these looks is no traffic; the flow would be forgotten thrice.
    while idle.elapsed().as_secs() < 4 {
        let flows = scene.lab.flows();
        assert!(flows.contains("ESTABLISHED"), "{flows}");
        tokio::time::sleep(ms(100)).await;
    }
    scene.recovers().await;
    scene.client.never_said("lost");
    row("19").survived();
    scene.settle().await;
}

#[tokio::test]
async fn row_19_a_firewall_that_has_forgotten_the_flow_is_noticed_and_dialed_through_at_once() {
    thrice(async || {
        for (then, number) in [("DROP", "19 drop"), ("REJECT --reject-with tcp-reset", "19 reset")]
        {
            let Some(stage) = Stage::empty() else { return Ok(()) };
            stage.lab.firewall(600, then);
            let mut scene = stage.server("lab server", &HEARTBEAT).await.client(&HEARTBEAT);
            scene.client.said("ready ").await;
            scene.recovers().await;
            scene.lab.forget_flows();
            let forgotten = Instant::now();
            scene.tells(&row(number), forgotten).await?;
            scene.client.said("ready ").await;
            scene.ends_well().await;
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_20_a_server_that_does_not_read_is_given_up_within_the_bound() {
    thrice(async || {
        let Some(mut scene) = deaf().await else { return Ok(()) };
        let called = Instant::now();
        scene.client.tell(UPLOAD);
        scene.tells(&row("20"), called).await?;
        let (_, what) = scene.client.said("call: ").await;
        assert!(what.starts_with("answered") || what.starts_with("not_sent"), "{what}");
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_20_a_server_that_reads_again_before_the_bound_is_not_given_up() {
    let Some(mut scene) = deaf().await else { return };
    scene.client.tell(UPLOAD);
    scene.until_stuck().await;
    scene.server().tell("read");
    let (_, what) = scene.client.said("call: ").await;
    assert!(what.starts_with("answered"), "{what}");
    scene.client.never_said("lost");
    row("20'").survived();
    scene.ends_well().await;
}

#[tokio::test]
async fn row_26_where_only_large_packets_vanish_the_connection_is_given_up_and_small_calls_go_on() {
    thrice(async || {
        let Some(stage) = Stage::empty() else { return Ok(()) };
        // The client's own verdict is wanted, not the server's.
        let mut scene = stage.server("lab server", &[("EVERY", "20000")]).await.client(&HEARTBEAT);
        scene.client.said("ready ").await;
        scene.recovers().await;
        scene.lab.drop_large(500);
        let began = Instant::now();
        scene.client.tell("call 100000 100000");
        scene.tells(&row("26"), began).await?;
        scene.recovers().await;
        scene.lab.heal();
        // The large one is tried again until it gets through, or its time is over.
        scene.client.said("call: ").await;
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

async fn busy(settings: &[(&str, &str)]) -> Option<Scene> {
    let mut scene = Scene::usual(settings).await?;
    scene.client.tell("busy");
    scene.client.said("busy").await;
    Some(scene)
}

/// It makes no new calls, and those under way are settled.
async fn rests(scene: &mut Scene) {
    scene.client.said("ready ").await;
    scene.client.tell("rest");
    scene.client.said("rested").await;
}

/// A server that answers one call, and reads nothing behind it.
async fn deaf() -> Option<Scene> {
    let stage = Stage::empty()?.server("rude server", &[("MANNER", "deaf")]).await;
    let mut scene = stage.client(&HEARTBEAT);
    scene.client.said("ready ").await;
    scene.client.tell("call 64 64");
    scene.client.said("call: answered").await;
    Some(scene)
}
