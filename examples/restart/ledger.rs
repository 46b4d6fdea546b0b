//! What became of one client's calls. Its callers write, the story reads.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use steadfast::Outcome;
use tokio::sync::oneshot;
use tokio::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    settled: Settled,
    /// The story waits for a success.
    awaited: Option<oneshot::Sender<Instant>>,
}

/// Every call is in exactly one of the counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settled {
    pub(crate) ok: u64,
    pub(crate) not_sent: u64,
    pub(crate) refused: u64,
    pub(crate) indeterminate: u64,
    pub(crate) remote: u64,
    /// An error that does not tell whether the call ran.
    pub(crate) unknown: u64,
    /// A reply that belongs to another call.
    pub(crate) mixed_up: u64,
    /// One a round.
    pub(crate) gaps: Vec<Duration>,
}

/// What became of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verdict {
    Ok,
    Failed(Outcome),
    Unknown,
    MixedUp,
}

impl Ledger {
    pub(crate) fn settle(&self, verdict: Verdict) {
        let mut book = self.lock();
        let settled = &mut book.settled;
        let count = match verdict {
            Verdict::Ok => &mut settled.ok,
            Verdict::Failed(Outcome::NotSent) => &mut settled.not_sent,
            Verdict::Failed(Outcome::Refused) => &mut settled.refused,
            Verdict::Failed(Outcome::Indeterminate) => &mut settled.indeterminate,
            Verdict::Failed(Outcome::Remote) => &mut settled.remote,
            Verdict::Unknown => &mut settled.unknown,
            Verdict::MixedUp => &mut settled.mixed_up,
        };
        *count += 1;
        let Verdict::Ok = verdict else { return };
        if let Some(awaited) = book.awaited.take() {
            // Whoever waited may have given up.
            let _ = awaited.send(Instant::now());
        }
    }

    pub(crate) fn gap(&self, gap: Duration) {
        self.lock().settled.gaps.push(gap);
    }

    /// When the next call succeeds.
    pub(crate) async fn next_success(&self) -> Instant {
        let (sender, success) = oneshot::channel();
        self.lock().awaited = Some(sender);
        match success.await {
            Ok(at) => at,
            // Somebody else began to wait; nobody in this story does.
            Err(_) => std::future::pending().await,
        }
    }

    pub(crate) fn settled(&self) -> Settled {
        self.lock().settled.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settled {
    pub(crate) fn calls(&self) -> u64 {
        self.ok + self.failed() + self.mixed_up
    }

    pub(crate) fn failed(&self) -> u64 {
        self.not_sent + self.refused + self.indeterminate + self.remote + self.unknown
    }

    pub(crate) fn longest_gap(&self) -> Option<Duration> {
        self.gaps.iter().max().copied()
    }

    pub(crate) fn median_gap(&self) -> Option<Duration> {
        let mut gaps = self.gaps.clone();
        gaps.sort();
        let upper = *gaps.get(gaps.len() / 2)?;
        Some(match gaps.len() % 2 {
            0 => (gaps[gaps.len() / 2 - 1] + upper) / 2,
            _ => upper,
        })
    }
}
