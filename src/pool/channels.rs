//! The tasks of a pool's channels, one for each slot, and what they need to begin; beside them, the usher's.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::runtime::Handle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::channel::Channel;
use crate::dialer::Settings;
use crate::dormant::Dormant;
use crate::panics::discard;
use crate::pool::usher::usher;
use crate::switchboard::Switchboard;

/// Between a panic that interrupted a channel's work and its going on.
const BREATHER: Duration = Duration::from_millis(100);

pub(crate) struct Channels {
    pub(crate) tasks: TaskTracker,
    pub(crate) killed: CancellationToken,
    settings: Arc<Settings>,
    board: Arc<Switchboard>,
    runtime: Handle,
    alive: Weak<Alive>,
}

impl Channels {
    /// None is there yet. When the last one has ended, and what is returned beside was dropped, so does the pool.
    pub(crate) fn new(
        settings: Arc<Settings>,
        board: Arc<Switchboard>,
        runtime: Handle,
    ) -> (Self, Arc<Alive>) {
        let alive = Arc::new(Alive(board.clone()));
        let (tasks, killed) = (TaskTracker::new(), CancellationToken::new());
        tasks.close();
        tasks.spawn_on(usher(board.clone(), settings.closing.clone(), killed.clone()), &runtime);
        (Self { tasks, killed, settings, board, runtime, alive: Arc::downgrade(&alive) }, alive)
    }

    /// Whether each connection carries the calls of all callers: nobody can have one alone.
    pub(crate) fn are_shared(&self) -> bool {
        self.settings.protocol.is_none()
    }

    /// Starts the channel of a slot. When all others have ended it is too late for another.
    pub(crate) fn start(&self, slot: usize, seed: u64) {
        let Some(alive) = self.alive.upgrade() else {
            return;
        };
        let mut channel = Channel::new(slot, self.settings.clone(), self.board.clone(), seed);
        let killed = self.killed.clone();
        let task = async move {
            // Pinned here, and the channel lent: what is handed over by value takes its room twice in the task.
            {
                let (end, work) = (pin!(killed.cancelled()), pin!(work(&mut channel)));
                tokio::select! {
                    biased;
                    () = Dormant::new(end) => {}
                    () = work => {}
                }
            }
            discard(channel);
            // When nothing of it is left.
            drop(alive);
        };
        self.tasks.spawn_on(task, &self.runtime);
    }
}

/// Runs it to its end, whatever panics in it meanwhile.
async fn work(channel: &mut Channel) {
    while AssertUnwindSafe(channel.run()).catch_unwind().await.is_err() {
        channel.begin_again();
        // What panics each time must not spin.
        sleep(BREATHER).await;
    }
}

impl std::fmt::Debug for Channels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channels").field("tasks", &self.tasks.len()).finish_non_exhaustive()
    }
}

/// Held by the tasks of all channels. When the last one ends, so does the pool, also if nobody waits for that any more,
/// or the runtime took the tasks away.
pub(crate) struct Alive(Arc<Switchboard>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.closed();
    }
}
