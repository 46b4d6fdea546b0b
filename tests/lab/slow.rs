//! Lines that are slow, lossy or cut everything small: nothing is dead, and nothing must be taken for it.

use std::time::Duration;

use crate::page::row;
use crate::scene::{Scene, Stage};

/// Longer than the longest pause of TCP on a line that loses its first packets.
const HEARTBEAT: [(&str, &str); 2] = [("EVERY", "1000"), ("GIVE_UP", "2000")];
const TEN_MEGABYTES: usize = 10_000_000;

/// A call with so many bytes there and so many back over 1 Mbit/s.
async fn slow_call(there: usize, back: usize, number: &str) {
    let Some(stage) = Stage::empty() else { return };
    stage.lab.limit_rate("1mbit");
    let stage = stage.server("lab server", &HEARTBEAT).await;
    let mut scene =
        stage.client(&[&HEARTBEAT[..], &[("CALL", "300000"), ("HANDSHAKE", "5000")]].concat());
    scene.client.said("ready ").await;
    scene.client.tell(&format!("call {there} {back}"));
    let (_, answered) = scene.client.said_within(Duration::from_secs(200), "call: ").await;
    assert_eq!(answered, format!("answered with {back} bytes"));
    scene.client.never_said("lost");
    row(number).survived();
    scene.ends_well().await;
}

#[tokio::test]
async fn row_21_ten_megabytes_from_the_server_over_a_slow_line_are_not_taken_for_death() {
    slow_call(64, TEN_MEGABYTES, "21").await;
}

#[tokio::test]
async fn row_21_ten_megabytes_to_the_server_over_a_slow_line_are_not_taken_for_death() {
    slow_call(TEN_MEGABYTES, 64, "21'").await;
}

#[tokio::test]
async fn row_25_segments_of_76_bytes_are_put_together() {
    let Some(stage) = Stage::empty() else { return };
    for end in ["c", "s"] {
        stage.lab.limit_segments(end, 88);
    }
    let mut scene = stage.server("lab server", &HEARTBEAT).await.client(&HEARTBEAT);
    scene.client.said("ready ").await;
    scene.client.tell("call 100000 100000");
    let (_, what) = scene.client.said("call: ").await;
    assert_eq!(what, "answered with 100000 bytes");
    assert!(scene.lab.segment_size("c") <= 88, "{}", scene.lab.segment_size("c"));
    scene.client.never_said("lost");
    row("25").survived();
    scene.ends_well().await;
}

#[tokio::test]
async fn row_27_a_line_that_loses_each_tenth_packet_carries_all_calls() {
    let Some(mut scene) = Scene::usual(&HEARTBEAT).await else { return };
    scene.lab.lose_each(10);
    scene.client.tell("busy");
    scene.client.said("busy").await;
    for _ in 0..5 {
        scene.client.tell("call 1000000 1000000");
        let (_, what) = scene.client.said("call: ").await;
        assert_eq!(what, "answered with 1000000 bytes");
    }
    scene.client.tell("rest");
    scene.client.said("rested").await;
    scene.client.never_said("lost");
    row("27").survived();
    scene.ends_well().await;
}
