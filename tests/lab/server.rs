//! The server at one end of the laboratory: an echo that writes down what it executes.

use std::sync::Arc;

use steadfast::{Bytes, Call, ReplyCache, Server};
use tokio::signal::unix::{SignalKind, signal};

use crate::journal::Journal;
use crate::support::process::{say, setting};
use crate::support::roles::{Commands, heartbeat};
use crate::support::scripted::u64_at;
use crate::support::times::ms;

/// Listens at `LISTEN`, writes into `JOURNAL`, and drains on SIGTERM.
pub(crate) async fn serve(_: Commands) {
    let address = setting("LISTEN").expect("LISTEN");
    let journal = Arc::new(Journal::open(setting("JOURNAL").expect("JOURNAL")).expect("a file"));
    // More than any test here has in flight when a connection dies.
    let remembered = ReplyCache::default().calls(10_000);
    let builder =
        Server::builder().heartbeat(heartbeat()).message(64 << 20).reply_cache(remembered);
    let server = builder.bind(&address).await;
    let server = server.expect("an address that is free");
    let (handle, mut terminated) =
        (server.handle(), signal(SignalKind::terminate()).expect("signals"));
    tokio::spawn(async move {
        terminated.recv().await;
        handle.shutdown(ms(5000));
    });
    say(&format!("listening on {address}"));
    let ended = server.serve(move |call: Call| {
        let journal = journal.clone();
        async move { Ok(execute(&journal, call.body())) }
    });
    ended.await.expect("everything was finished");
}

/// The answer: the call's number, and as many bytes as it wants.
pub(crate) fn execute(journal: &Journal, body: &[u8]) -> Bytes {
    let [number, wanted] = [0, 8].map(|at| u64_at(body, at));
    journal.executes(number).expect("the disk takes it");
    let mut answer = body[..8].to_vec();
    answer.resize(wanted as usize, number as u8);
    answer.into()
}
