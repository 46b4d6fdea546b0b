//! What all clones of a pool, and the requests made through them, share. Its drop is the pool's end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::policy::Retry;
use crate::switchboard::Switchboard;

/// The longest time that a call can have: timers and the wire take more, but somebody waits for it.
pub(crate) const LONGEST_CALL: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) board: Arc<Switchboard>,
    pub(crate) tasks: TaskTracker,
    pub(crate) closing: CancellationToken,
    pub(crate) killed: CancellationToken,
    pub(crate) retry: Retry,
    pub(crate) call_timeout: Duration,
    /// For the jitter of retries.
    pub(crate) seeds: AtomicU64,
}

impl Shared {
    pub(crate) fn seed(&self) -> u64 {
        // Weyl's sequence: neighbours get seeds that are far apart.
        self.seeds.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.killed.cancel();
        self.board.closed();
    }
}
