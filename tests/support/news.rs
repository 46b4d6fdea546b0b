//! Waiting for what happens to a pool, never longer than a bound.

use std::sync::Arc;
use std::time::Duration;

use steadfast::{ConnectError, Event, Loss, Pool, Subscription};

use crate::support::waits::{PATIENCE, until};

/// The first event that is the wanted one; those before it are passed over.
pub(crate) async fn event<T>(
    events: &mut Subscription<Event>,
    what: &str,
    wanted: impl Fn(Event) -> Option<T>,
) -> T {
    let mut passed = Vec::new();
    let waiting = async {
        while let Some(event) = events.next().await {
            passed.push(format!("{event:?}"));
            if let Some(found) = wanted(event) {
                return Some(found);
            }
        }
        None
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(found) => found.expect("the pool lives"),
        Err(_) => panic!("not within {PATIENCE:?}: {what}, but {passed:#?}"),
    }
}

/// Returns when so many connections are ready. On a runtime with several threads that may be so before anybody could
/// subscribe to the events.
pub(crate) async fn connected(pool: &Pool, connections: usize) {
    until("connections", || pool.status().ready == connections).await;
}

/// The number of the next connection that is ready.
pub(crate) async fn ready(events: &mut Subscription<Event>) -> u64 {
    event(events, "a connection is ready", |event| match event {
        Event::Ready { connection, .. } => Some(connection),
        _ => None,
    })
    .await
}

/// How many connections there were, of a pool that is closed. What else happened is shown if the test fails.
pub(crate) async fn all_ready(mut events: Subscription<Event>) -> usize {
    let mut ready = 0;
    while let Some(event) = events.next().await {
        println!("{event}");
        ready += usize::from(matches!(event, Event::Ready { .. }));
    }
    ready
}

pub(crate) async fn lost(events: &mut Subscription<Event>) -> Arc<Loss> {
    event(events, "a connection is lost", |event| match event {
        Event::Lost { loss, .. } => Some(loss),
        _ => None,
    })
    .await
}

/// The next attempt's failure, and the time until the next attempt.
pub(crate) async fn dial_failed(events: &mut Subscription<Event>) -> (Arc<ConnectError>, Duration) {
    event(events, "an attempt fails", |event| match event {
        Event::DialFailed { error, next_in, .. } => Some((error, next_in)),
        _ => None,
    })
    .await
}
