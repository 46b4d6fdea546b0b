//! Connections that have been accepted and have not said `HELLO`.
//!
//! Whoever says it leaves at once, so those who are here for long are those who say nothing. They have a bound of their
//! own, and when it is exceeded the one that has been here longest goes: it takes no place from clients that speak.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub(crate) struct HalfOpen {
    limit: usize,
    /// By the server's number of the connection, which is their order, with what sends them away.
    silent: Mutex<BTreeMap<u64, CancellationToken>>,
}

/// One of them, until this is dropped.
#[derive(Debug)]
pub(crate) struct Silent {
    among: Arc<HalfOpen>,
    number: u64,
    sent_away: CancellationToken,
}

impl HalfOpen {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, silent: Mutex::default() })
    }

    /// Takes a connection in, and sends the oldest away if there are too many now.
    pub(crate) fn enter(self: &Arc<Self>, number: u64) -> Silent {
        let sent_away = CancellationToken::new();
        let mut silent = self.lock();
        silent.insert(number, sent_away.clone());
        let oldest = if silent.len() > self.limit { silent.pop_first() } else { None };
        drop(silent);
        if let Some((_, sent_away)) = oldest {
            sent_away.cancel();
        }
        Silent { among: self.clone(), number, sent_away }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, CancellationToken>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Silent {
    /// The server's number of the connection.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Returns when it has to go.
    pub(crate) async fn sent_away(&self) {
        self.sent_away.cancelled().await;
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let entry = self.among.lock().remove(&self.number);
        drop(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_has_been_silent_longest_goes_when_there_are_too_many() {
        let half_open = HalfOpen::new(2);
        let [first, second, third] = [1, 2, 3].map(|number| half_open.enter(number));
        let gone = |silent: &Silent| silent.sent_away.is_cancelled();
        assert_eq!([&first, &second, &third].map(gone), [true, false, false]);
        // One that speaks makes room.
        drop(second);
        let fourth = half_open.enter(4);
        assert_eq!([&third, &fourth].map(gone), [false, false]);
        drop((first, third, fourth));
        assert!(half_open.lock().is_empty());
    }
}
