//! Callers in closed loops, with the default policy: nothing is marked idempotent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use steadfast::{CallError, Pool};
use tokio::task::JoinSet;

use crate::journal::{Deed, Journal, body, reply};
use crate::support::waits::{soon, until};

/// Of the bodies. Some are so long that servers go away, and lines break, in the middle of them.
const LENGTH: usize = 40;
const LONG: usize = 200_000;

type Failures = Vec<(u64, CallError)>;

/// Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Load {
    progress: Arc<Progress>,
    callers: JoinSet<Failures>,
}

#[derive(Debug, Default)]
struct Progress {
    begun: AtomicU64,
    settled: AtomicU64,
    ended: AtomicBool,
}

impl Load {
    pub(crate) fn on(pool: &Pool, callers: usize) -> Self {
        let progress = Arc::<Progress>::default();
        let callers = (0..callers).map(|_| call_in_a_loop(pool.clone(), progress.clone()));
        Self { callers: callers.collect(), progress }
    }

    /// Lets so many more calls be made.
    pub(crate) async fn make(&self, calls: u64) {
        let enough = self.progress.settled.load(Ordering::Relaxed) + calls;
        until("calls", || self.progress.settled.load(Ordering::Relaxed) >= enough).await;
    }

    pub(crate) async fn end(mut self) -> Account {
        self.progress.ended.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        while let Some(caller) = soon("the callers", self.callers.join_next()).await {
            failures.extend(caller.unwrap());
        }
        Account { calls: self.progress.begun.load(Ordering::Relaxed), failures }
    }
}

async fn call_in_a_loop(pool: Pool, progress: Arc<Progress>) -> Failures {
    let mut failures = Failures::new();
    while !progress.ended.load(Ordering::Relaxed) {
        let key = progress.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let (up, down) = match key % 16 {
            0 => (LONG, LENGTH),
            8 => (LENGTH, LONG),
            _ => (LENGTH, LENGTH),
        };
        let answer = pool.call(body(key, Deed::Dawdle, up, down)).await;
        progress.settled.fetch_add(1, Ordering::Relaxed);
        match answer {
            Ok(answer) => assert_eq!(answer, reply(key, down)),
            Err(error) => failures.push((key, error)),
        }
    }
    failures
}

/// What became of the calls, whose keys begin at 1.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) calls: u64,
    failures: Failures,
}

impl Account {
    /// The journal must be that of servers that have ended.
    pub(crate) fn assert_all_answered_and_run_once(&self, journal: &Journal) {
        let Self { calls, failures } = self;
        assert!(failures.is_empty(), "{} of {calls} failed: {:#?}", failures.len(), failures[0]);
        for key in 1..=*calls {
            assert_eq!(journal.runs(key), 1, "{key}");
        }
    }
}
