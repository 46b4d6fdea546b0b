//! A pool's state as it changes, for whoever wants to know the latest and not each of them.

use tokio::sync::watch;

use crate::event::State;

/// A pool's [`State`] as it changes. Made by [`Pool::watch`](crate::Pool::watch).
///
/// States that follow each other quickly may be passed over; the last one never is. Each [`Event`](crate::Event) has a
/// stream: [`Pool::events`](crate::Pool::events).
///
/// All who watch are woken in a row, by tokio: a waker that panics may keep others of them from hearing of that change. Those of
/// tokio's tasks do not.
// Not tokio's own receiver, which lends the state under a lock: whoever closes the pool with that in hand waits for himself.
#[derive(Debug, Clone)]
pub struct StateWatch(watch::Receiver<State>);

impl StateWatch {
    pub(crate) fn new(states: watch::Receiver<State>) -> Self {
        Self(states)
    }

    /// The state now. Counts as seen.
    pub fn current(&mut self) -> State {
        *self.0.borrow_and_update()
    }

    /// Waits until the state is another than was seen here last, and returns it; at first that is the one of when this was made.
    /// `None` when the pool is gone and its last state, [`Closed`](State::Closed), was seen.
    ///
    /// # Cancel safety
    /// Dropping the future does nothing; the change is seen the next time.
    pub async fn changed(&mut self) -> Option<State> {
        self.0.changed().await.ok()?;
        Some(self.current())
    }

    /// Waits for a state of this kind, which may be the one that the pool is in, and returns it. `None` when the pool is gone and was
    /// never in one.
    ///
    /// # Cancel safety
    /// Dropping the future does nothing.
    ///
    /// # Examples
    /// ```
    /// use steadfast::{Pool, State};
    ///
    /// async fn until_it_is_down(pool: &Pool) {
    ///     pool.watch().wait_for(|state| state == State::Down).await;
    /// }
    /// ```
    pub async fn wait_for(&mut self, mut is_wanted: impl FnMut(State) -> bool) -> Option<State> {
        loop {
            let state = self.current();
            if is_wanted(state) {
                return Some(state);
            }
            self.0.changed().await.ok()?;
        }
    }
}
