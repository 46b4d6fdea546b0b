//! An old server at one end of the laboratory, which knows of no heartbeat and no goodbye.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use tokio::net::TcpListener;

use crate::journal::Journal;
use crate::server::execute;
use crate::support::plain;
use crate::support::process::{say, setting};
use crate::support::roles::Commands;

/// As [`crate::server::serve`], with plain frames, answered in order.
pub(crate) async fn serve(_: Commands) {
    let address = setting("LISTEN").expect("LISTEN");
    let journal = Arc::new(Journal::open(setting("JOURNAL").expect("JOURNAL")).expect("a file"));
    let listener = TcpListener::bind(&address).await.expect("an address that is free");
    say(&format!("listening on {address}"));
    while let Ok((stream, _)) = listener.accept().await {
        let journal = journal.clone();
        let (frames, bodies) = plain::frames(stream).split();
        let answers = bodies.map_ok(move |body| execute(&journal, &body));
        tokio::spawn(answers.forward(frames));
    }
}
