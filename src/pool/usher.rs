//! Shows those out of the line whose time is over: one task and one timer for all who wait for a place, because a timer of
//! their own, which for most never runs out, would be nearly half of what it costs to wait.

use std::pin::pin;
use std::sync::Arc;

use futures::future::OptionFuture;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use crate::switchboard::Switchboard;

/// Runs until the pool is closed: then those who wait are told anyway.
pub(crate) async fn usher(
    board: Arc<Switchboard>,
    closing: CancellationToken,
    killed: CancellationToken,
) {
    let watching = async {
        loop {
            let alarm = board.expire().map(|at| sleep_until(at.into()));
            tokio::select! {
                () = board.sooner.notified() => {}
                Some(()) = OptionFuture::from(alarm) => {}
            }
        }
    };
    tokio::select! {
        () = closing.cancelled() => {}
        () = killed.cancelled() => {}
        () = pin!(watching) => {}
    }
}
