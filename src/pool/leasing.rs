//! A wish for a lease, and the wait for it.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::connection::Tell;
use crate::error::lease::{LeaseCause, LeaseError, Step};
use crate::placing::Placing;
use crate::pool::lease::{Lease, hand_in};
use crate::pool::shared::{LONGEST_CALL, Shared};
use crate::proto::ledger::Share;
use crate::roster::link::Taken;
use crate::roster::wish::{Patience, Until, Wish};

/// A lease that has not been taken yet. Made by [`Pool::lease`](crate::Pool::lease); `.await` takes it.
///
/// # Examples
/// ```no_run
/// # use std::time::Duration;
/// # async fn example(pool: &steadfast::Pool) -> Result<(), steadfast::LeaseError> {
/// let lease = pool.lease().timeout(Duration::from_millis(200)).fail_fast().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing is leased before `.await`"]
pub struct LeaseRequest<'a> {
    pool: &'a Arc<Shared>,
    limit: Duration,
    patience: Patience,
}

impl<'a> LeaseRequest<'a> {
    pub(crate) fn new(pool: &'a Arc<Shared>) -> Self {
        Self { pool, limit: pool.call_timeout, patience: Patience::Wait }
    }

    /// The time to get a connection, and then for each step of the conversation, unless
    /// [`Lease::set_timeout`] changes that. Default: the pool's
    /// [`call_timeout`](crate::PoolBuilder::call_timeout), which says what too little and too much do. More than 24 h counts as
    /// 24 h.
    pub fn timeout(self, limit: Duration) -> Self {
        Self { limit: limit.min(LONGEST_CALL), ..self }
    }

    /// Fails at once, with the outage as its cause, if no connection is ready. By default it waits for one. Where all that are ready
    /// are lent it waits for its turn all the same: bound that with [`timeout`](Self::timeout).
    pub fn fail_fast(self) -> Self {
        Self { patience: Patience::FailFast, ..self }
    }
}

impl<'a> IntoFuture for LeaseRequest<'a> {
    type Output = Result<Lease, LeaseError>;
    type IntoFuture = Leasing<'a>;

    fn into_future(self) -> Leasing<'a> {
        let Self { pool, limit, patience } = self;
        let wish = Wish { share: Share::Whole, bytes: 0, patience, avoid: &[] };
        let placing = Placing::new(&pool.board, wish).until(Until::After(limit));
        Leasing { pool, limit, placing }
    }
}

/// The future of a lease.
///
/// # Cancel safety
/// Dropping it leaves the line; a connection that was handed over at that moment goes to the next.
#[derive(Debug)]
pub struct Leasing<'a> {
    pool: &'a Arc<Shared>,
    limit: Duration,
    placing: Placing<'a>,
}

impl Future for Leasing<'_> {
    type Output = Result<Lease, LeaseError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.pool.channels.are_shared() {
            return Poll::Ready(Err(this.error(LeaseCause::NotLent)));
        }
        loop {
            let cause = match ready!(Pin::new(&mut this.placing).poll(cx)) {
                Ok(taken) => {
                    if let Some(lease) = this.lend(taken) {
                        return Poll::Ready(Ok(lease));
                    }
                    // In what is left of its time.
                    this.placing.again(this.placing.until);
                    continue;
                }
                Err(no_place) => no_place.lease_cause(this.limit),
            };
            // Who keeps a future that has failed stands in no line.
            this.placing.again(Until::After(this.limit));
            return Poll::Ready(Err(this.error(cause)));
        }
    }
}

impl Leasing<'_> {
    /// `None` if the connection turned out not to be usable: it is being closed, and nobody else gets it.
    fn lend(&self, taken: Taken) -> Option<Lease> {
        let Taken { place, link } = taken;
        let board = &self.pool.board;
        let Some(foreign) = &link.foreign else {
            // Not reached: it is no pool whose connections are shared.
            board.release(place);
            return None;
        };
        match foreign.connection.with(|session| (session.lend(), Tell::Nobody)) {
            Ok(()) => {
                let pool = self.pool.clone();
                Some(Lease::new(pool, foreign.clone(), place, link.number, self.limit))
            }
            Err(condition) => {
                hand_in(board, foreign, place, condition);
                None
            }
        }
    }

    fn error(&self, cause: LeaseCause) -> LeaseError {
        let endpoint = self.pool.board.endpoint().clone();
        LeaseError::new(Step::CheckOut, cause, (0, 0), endpoint)
    }
}
