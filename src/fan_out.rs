//! One source, any number of readers, each with a bounded queue. A slow reader misses items and can tell how many;
//! it never holds up the source or the others.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::Stream;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::panics::{caught, discard};

#[derive(Debug)]
pub(crate) struct FanOut<T> {
    /// `None` when there will be no more items.
    readers: Mutex<Option<Vec<Reader<T>>>>,
}

#[derive(Debug, Clone)]
struct Reader<T> {
    queue: Sender<T>,
    missed: Arc<AtomicU64>,
}

/// A stream of items that begins when it is made. It ends when the pool is closed or dropped.
///
/// Read it by [`next`](Self::next), or as a [`Stream`] with what `futures` has for those. Items that its reader is too
/// slow for are [counted](Self::missed) and dropped.
///
/// # Cancel safety
/// Dropping a future that waits for the next item loses nothing.
#[derive(Debug)]
pub struct Subscription<T> {
    queue: Receiver<T>,
    missed: Arc<AtomicU64>,
}

impl<T: Clone> FanOut<T> {
    pub(crate) fn new() -> Self {
        Self { readers: Mutex::new(Some(Vec::new())) }
    }

    /// A stream that holds at most so many items for its reader.
    pub(crate) fn subscribe(&self, capacity: usize) -> Subscription<T> {
        let (sender, queue) = channel(capacity);
        let missed = Arc::new(AtomicU64::new(0));
        let reader = Reader { queue: sender, missed: missed.clone() };
        self.forget_gone();
        if let Some(readers) = &mut *self.lock() {
            readers.push(reader);
        }
        Subscription { queue, missed }
    }

    /// Gives each reader a copy, and counts those for which there is no room. Waits for nobody.
    pub(crate) fn send(&self, item: &T) {
        // Copied, so that no reader is woken under the lock.
        let readers = self.lock().clone();
        let mut any_gone = false;
        for reader in readers.into_iter().flatten() {
            // Wakes the reader.
            match caught(|| reader.queue.try_send(item.clone())) {
                Some(Ok(())) | None => {}
                Some(Err(TrySendError::Full(_))) => {
                    reader.missed.fetch_add(1, Ordering::Relaxed);
                }
                Some(Err(TrySendError::Closed(_))) => any_gone = true,
            }
        }
        if any_gone {
            self.forget_gone();
        }
    }

    /// Forgets the queues that nobody reads any more. What was left in them, and the waker of whoever waited, are not
    /// dropped under the lock.
    fn forget_gone(&self) {
        let mut gone = Vec::new();
        if let Some(readers) = &mut *self.lock() {
            let all = std::mem::take(readers).into_iter();
            (gone, *readers) = all.partition(|reader| reader.queue.is_closed());
        }
        gone.into_iter().for_each(discard);
    }

    /// Ends all streams.
    pub(crate) fn close(&self) {
        let readers = self.lock().take();
        readers.into_iter().flatten().for_each(discard);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Reader<T>>>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Subscription<T> {
    /// The next item; `None` when there will be no more.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<T> {
        self.queue.recv().await
    }

    /// An item that is there already. `None` does not tell whether more will come: [`next`](Self::next) does.
    pub fn try_next(&mut self) -> Option<T> {
        self.queue.try_recv().ok()
    }

    /// How many items came while the queue was full, and were dropped.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

impl<T> Stream for Subscription<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.queue.poll_recv(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_reader_misses_items_and_knows_how_many() {
        let source = FanOut::new();
        let mut slow = source.subscribe(2);
        for item in 0..5 {
            source.send(&item);
        }
        let mut fresh = source.subscribe(2);
        source.send(&5);
        assert_eq!((slow.try_next(), slow.try_next(), slow.try_next()), (Some(0), Some(1), None));
        assert_eq!(slow.missed(), 4);
        assert_eq!((fresh.try_next(), fresh.missed()), (Some(5), 0));
    }

    #[test]
    fn a_reader_that_is_gone_is_forgotten() {
        let source = FanOut::new();
        drop(source.subscribe(2));
        source.send(&1);
        assert!(source.lock().as_ref().unwrap().is_empty());
    }

    #[tokio::test]
    async fn all_streams_end_with_the_source_also_those_made_later() {
        let source = FanOut::new();
        let mut early = source.subscribe(2);
        source.send(&1);
        source.close();
        assert_eq!((early.next().await, early.next().await), (Some(1), None));
        assert_eq!(source.subscribe(2).next().await, None);
    }
}
