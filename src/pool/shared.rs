//! What all clones of a pool, and the requests made through them, share. Its drop is the pool's end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::connections::Connections;
use crate::policy::Retry;
use crate::pool::channels::Channels;
use crate::switchboard::Switchboard;

/// The longest time that a call can have: timers and the wire take more, but somebody waits for it.
pub(crate) const LONGEST_CALL: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) board: Arc<Switchboard>,
    pub(crate) channels: Channels,
    pub(crate) closing: CancellationToken,
    /// Calls that were cut off when the first limit of those who close the pool was over.
    pub(crate) cut_off: AtomicUsize,
    pub(crate) retry: Retry,
    pub(crate) call_timeout: Duration,
    /// For the jitter of retries, and for that of channels.
    pub(crate) seeds: AtomicU64,
}

impl Shared {
    /// Slots that are new begin to connect; those that are too many let go.
    pub(crate) fn resize(&self, connections: Connections) {
        for slot in self.board.resize(connections) {
            self.channels.start(slot, self.seed());
        }
    }

    pub(crate) fn seed(&self) -> u64 {
        // Weyl's sequence: neighbours get seeds that are far apart.
        self.seeds.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.channels.killed.cancel();
        self.board.closed();
    }
}
