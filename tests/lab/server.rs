//! The server at one end of the laboratory: an echo that writes down what it executes.

use std::sync::Arc;

use steadfast::{Call, Server};
use tokio::signal::unix::{SignalKind, signal};

use crate::journal::Journal;
use crate::support::news::ms;
use crate::support::process::{say, setting};
use crate::support::roles::{Commands, heartbeat};

/// Listens at `LISTEN`, writes into `JOURNAL`, keeps connections below `DESCRIPTORS`, if that is set, and drains on SIGTERM.
pub(crate) async fn serve(_: Commands) {
    let address = setting("LISTEN").expect("LISTEN");
    let journal = Arc::new(Journal::open(setting("JOURNAL").expect("JOURNAL")).expect("a file"));
    let server = Server::builder().heartbeat(heartbeat()).message(64 << 20).bind(&address).await;
    let server = server.expect("an address that is free");
    let (handle, mut terminated) = (server.handle(), signal(SignalKind::terminate()).expect("signals"));
    tokio::spawn(async move {
        terminated.recv().await;
        handle.shutdown(ms(5000));
    });
    say(&format!("listening on {address}"));
    let ended = server.serve(move |call: Call| {
        let journal = journal.clone();
        async move {
            let number = call.body().first_chunk().map_or(0, |number| u64::from_be_bytes(*number));
            journal.executes(number).expect("the disk takes it");
            Ok(call.into_body())
        }
    });
    ended.await.expect("everything was finished");
}
