//! Waiting for what must come, and failing if it does not.
//!
//! The bounds are those of tests, not of promises: far beyond what a loaded machine needs.

use std::time::Duration;

/// Long enough for anything that a test waits for, short enough for a test that fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn soon<F: Future>(what: &str, event: F) -> F::Output {
    within(PATIENCE, what, event).await
}

/// As [`soon`], with a bound of the test's own.
pub(crate) async fn within<F: Future>(limit: Duration, what: &str, event: F) -> F::Output {
    match tokio::time::timeout(limit, event).await {
        Ok(output) => output,
        Err(_) => panic!("not within {limit:?}: {what}"),
    }
}

/// Waits until something that sends no word of it has become true.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    soon(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}
