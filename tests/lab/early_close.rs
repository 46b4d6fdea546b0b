//! A server that answers early and closes while the client is still sending: the answer must survive, if TCP lets it.

use std::time::Instant;

use crate::page::{row, thrice};
use crate::scene::{Scene, Stage};
use crate::support::truth::Told;

/// More than the windows between both ends take.
const UPLOAD: &str = "call 16777216 64";

async fn upload_to(manner: &str) -> Option<Scene> {
    let stage = Stage::empty()?.server("rude server", &[("MANNER", manner)]).await;
    let mut scene = stage.client(&[("EVERY", "20000"), ("GIVE_UP", "20000")]);
    scene.client.said("ready ").await;
    scene.client.tell(UPLOAD);
    Some(scene)
}

async fn is_answered(manner: &str, number: &str) {
    thrice(async || {
        let began = Instant::now();
        let Some(mut scene) = upload_to(manner).await else { return Ok(()) };
        scene.tells(&row(number), began).await?;
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_6_an_early_reply_survives_the_reset_of_a_close_with_unread_bytes() {
    is_answered("reply early", "6").await;
}

#[tokio::test]
async fn row_6_an_early_reply_survives_fin_and_reset() {
    is_answered("reply early and shut down", "6'").await;
}

#[tokio::test]
async fn row_6_an_early_reply_survives_a_close_that_was_clean_until_more_came() {
    is_answered("reply early and drain", "6''").await;
}

#[tokio::test]
async fn row_6_a_reply_that_does_not_fit_into_the_window_is_cut_and_its_call_unknown() {
    thrice(async || {
        let Some(stage) = Stage::empty() else { return Ok(()) };
        let stage = stage.server("rude server", &[("MANNER", "reply big")]).await;
        let mut scene = stage.client(&[("EVERY", "20000"), ("GIVE_UP", "20000")]);
        scene.client.said("ready ").await;
        let began = Instant::now();
        // The second is what the server leaves unread.
        scene.client.tell("call 64 64");
        scene.client.tell("call 64 64");
        scene.tells(&row("6x"), began).await?;
        for _ in 0..2 {
            let (_, what) = scene.client.said("call: ").await;
            assert_eq!(what, "indeterminate, ECONNRESET");
        }
        assert_eq!(scene.ends_well().await.count(Told::Unknown), 2);
        Ok(())
    })
    .await;
}
