//! The handle that services keep and clone.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use crate::connections::Connections;
use crate::dormant::Dormant;
use crate::error::call::CallError;
use crate::error::close::CloseError;
use crate::error::config::ConfigError;
use crate::error::outage::ReadyError;
use crate::event::{Event, State, Status};
use crate::fan_out::Subscription;
use crate::pool::channels::Channels;
use crate::pool::leasing::LeaseRequest;
use crate::pool::request::Request;
use crate::pool::shared::Shared;
use crate::state_watch::StateWatch;

/// Connections to one endpoint, kept alive, and calls over them.
///
/// Cheap to clone. It needs a tokio runtime with I/O and time enabled. Dropping the last clone ends every task
/// and closes every connection at once; [`close`](Self::close) does so politely.
///
/// Its tasks run, and its time limits are kept, in the runtime that it was built in, wherever its callers are: while all
/// threads of that runtime are blocked, nothing is answered and no call times out. Whoever must expect that keeps a time of
/// his own beside it (`tokio::time::timeout`).
///
/// # Panics
/// The futures that its methods return may panic when they are polled outside of a tokio runtime.
#[derive(Debug, Clone)]
pub struct Pool(Arc<Shared>);

impl Pool {
    pub(crate) fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }

    /// Sends a request and waits for its reply. The same as `request(body).send()`.
    ///
    /// A small reply shares its memory with its neighbours: copy it if you keep it for long.
    ///
    /// # Errors
    /// [`CallError`] says whether the request may have run.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call: a request that has not left never leaves; otherwise the server is told
    /// that nobody waits any more.
    pub fn call<B: Into<Bytes>>(
        &self,
        body: B,
    ) -> impl Future<Output = Result<Bytes, CallError>> + Send + use<'_, B> {
        self.request(body).send()
    }

    /// A request whose treatment can be chosen before it is [sent](Request::send).
    pub fn request(&self, body: impl Into<Bytes>) -> Request<'_> {
        Request::new(&self.0, body.into())
    }

    /// Sends a message that is not answered. Returns when the operating system has accepted all of it, which does
    /// not mean that the server has got it. Retried only while it has not been sent.
    ///
    /// # Errors
    /// [`CallError`], with the outcomes `NotSent` and, at the deadline or a loss while its last bytes were being
    /// written, `Indeterminate`.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not prevent the message.
    pub async fn notify(&self, body: impl Into<Bytes>) -> Result<(), CallError> {
        self.request(body).notify().await
    }

    /// Lends a connection to one caller alone, for a conversation with a server that knows no call ids.
    ///
    /// Waiters are served first in, first out, and a caller that gives up loses nothing: the pool goes on connecting. Not
    /// with `Native`, whose connections carry the calls of all callers.
    ///
    /// # Errors
    /// [`LeaseError`](crate::LeaseError) with the step [`CheckOut`](crate::Step::CheckOut).
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line; a connection that was handed over at that moment goes to the next.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(pool: &steadfast::Pool) -> Result<(), steadfast::LeaseError> {
    /// let mut lease = pool.lease().await?;
    /// lease.send("begin").await?;
    /// let answer = lease.recv().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn lease(&self) -> LeaseRequest<'_> {
        LeaseRequest::new(&self.0)
    }

    /// What servers push, over all connections, from now on: what a server says on each of them comes as often.
    /// Pushes that come while nobody listens are dropped; to miss none from the first connection on, ask
    /// [`PoolBuilder::pushes`](crate::PoolBuilder::pushes).
    ///
    /// What is pushed while there is no connection is lost, and no push says so: subscribe in
    /// [`on_connect`](crate::PoolBuilder::on_connect), and read there what may have changed meanwhile.
    ///
    /// # Examples
    /// ```
    /// use steadfast::Pool;
    ///
    /// /// Ends when the pool does.
    /// async fn watch_prices(pool: &Pool) {
    ///     let mut pushes = pool.pushes();
    ///     while let Some(price) = pushes.next().await {
    ///         println!("{}", String::from_utf8_lossy(&price));
    ///     }
    ///     if pushes.missed() > 0 {
    ///         eprintln!("too slow for {} prices", pushes.missed());
    ///     }
    /// }
    /// ```
    pub fn pushes(&self) -> Subscription<Bytes> {
        self.0.board.pushes.subscribe(self.0.board.subscription)
    }

    /// What happens to the connections, with causes, from now on. The pool dials as soon as it is built: to miss nothing,
    /// ask [`PoolBuilder::events`](crate::PoolBuilder::events).
    ///
    /// # Examples
    /// ```
    /// use steadfast::{Event, Pool};
    ///
    /// async fn report(pool: &Pool) {
    ///     let mut events = pool.events();
    ///     while let Some(event) = events.next().await {
    ///         match event {
    ///             Event::Ready { connection, took, .. } => {
    ///                 println!("connection {connection} is ready after {took:?}");
    ///             }
    ///             Event::DialFailed { error, next_in, .. } => {
    ///                 eprintln!("{error}; the next attempt in {next_in:?}");
    ///             }
    ///             Event::Lost { loss, .. } => eprintln!("{loss}"),
    ///             Event::InstanceChanged { .. } => {
    ///                 println!("another server process: subscribe again, forget what it knew");
    ///             }
    ///             _ => {}
    ///         }
    ///     }
    /// }
    /// ```
    pub fn events(&self) -> Subscription<Event> {
        self.0.board.events.subscribe(self.0.board.subscription)
    }

    /// A snapshot, cheap.
    pub fn status(&self) -> Status {
        self.0.board.status()
    }

    /// The state as it changes.
    ///
    /// # Examples
    /// ```
    /// use steadfast::{Pool, State};
    ///
    /// async fn tell(pool: &Pool) {
    ///     let mut states = pool.watch();
    ///     while let Some(state) = states.changed().await {
    ///         match state {
    ///             State::Down => println!("orders: no server"),
    ///             State::Ready => println!("orders: back"),
    ///             _ => {}
    ///         }
    ///     }
    /// }
    /// ```
    pub fn watch(&self) -> StateWatch {
        StateWatch::new(self.0.board.state())
    }

    /// Waits until a connection takes calls, at most for `limit`. If none is kept, one is made. With a protocol in which nothing is
    /// said first, as [`Ordered`](crate::Ordered), that means a TCP connection to whoever listens there, the right server or not; a
    /// hook that asks something ([`on_connect`](crate::PoolBuilder::on_connect)) finds out.
    ///
    /// Too little: a service gives up at its start because the other is just being restarted. Too much: it is late to say
    /// what it lacks.
    ///
    /// # Errors
    /// [`ReadyError::Unavailable`] with the cause, at the limit, or at once if waiting cannot mend it;
    /// [`ReadyError::Closed`] once the pool is closed.
    ///
    /// # Cancel safety
    /// Dropping the future does nothing.
    ///
    /// # Examples
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = steadfast::Pool::builder("orders.intranet:7000").build()?;
    /// // A service that cannot work without the other says so when it starts, and why.
    /// pool.ready(Duration::from_secs(10)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn ready(&self, limit: Duration) -> Result<(), ReadyError> {
        let board = &self.0.board;
        let mut state = self.watch();
        // Mostly it is, and nothing need be asked for.
        if state.current() == State::Ready {
            return Ok(());
        }
        let mut events = self.events();
        let _seeking = board.seeking(limit);
        let waiting = async {
            loop {
                match state.current() {
                    State::Ready => return Ok(()),
                    State::Closing | State::Closed => return Err(ReadyError::Closed),
                    State::Idle | State::Connecting | State::Down => {}
                }
                if let Some(outage) = board.outage().filter(|outage| outage.is_permanent()) {
                    return Err(ReadyError::Unavailable(outage));
                }
                tokio::select! {
                    _ = state.changed() => {}
                    _ = events.next() => {}
                }
            }
        };
        match timeout(limit, waiting).await {
            Ok(result) => result,
            // It may have become ready in this very moment.
            Err(_) => {
                board.why_not_ready().map_or(Ok(()), |outage| Err(ReadyError::Unavailable(outage)))
            }
        }
    }

    /// From now on the pool keeps so many connections, for all its clones. Limits in time that are not said stay as they are.
    ///
    /// New ones are made as with [`PoolBuilder::connections`](crate::PoolBuilder::connections). Those that are too many take
    /// no more calls, finish what they have, and are closed with FIN; attempts under way for them are given up. If
    /// fewer than the least number are ready, that waits until enough of the others are. No call fails for it. A pool that
    /// is closed, or being closed, stays as it is.
    ///
    /// # Errors
    /// What is wrong with the numbers. Then nothing changes.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = steadfast::Pool::builder("127.0.0.1:1").connections(1..=4).build()?;
    /// // The rush hour begins.
    /// pool.resize(8..=32)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn resize(&self, connections: impl Into<Connections>) -> Result<(), ConfigError> {
        let connections = connections.into();
        connections.check()?;
        self.0.resize(connections);
        Ok(())
    }

    /// Takes no new calls, lets those in flight finish, and closes every connection with FIN, not RST.
    /// Calls that wait for a connection, or for their next attempt, fail at once with
    /// [`CallCause::Closed`](crate::CallCause::Closed). After `limit` what is left is cut off. All clones of the pool are
    /// closed, for good.
    ///
    /// Too little: calls are cut off that would soon be answered, and nobody knows whether they ran. Too much: the end of
    /// this process waits for calls that may never be answered, as long as their own deadlines allow.
    ///
    /// # Errors
    /// [`CloseError`] says how many calls were cut off.
    ///
    /// # Cancel safety
    /// Dropping the future stops the waiting, not the closing; nothing is cut off at the limit any more.
    pub async fn close(&self, limit: Duration) -> Result<(), CloseError> {
        let Shared { board, channels, closing, cut_off, .. } = &*self.0;
        let Channels { tasks, killed, .. } = channels;
        board.close();
        closing.cancel();
        // Others may wait for the same, and are woken in a row by tokio.
        if timeout(limit, Dormant::new(pin!(tasks.wait()))).await.is_err() {
            cut_off.fetch_max(board.unfinished(), Ordering::Relaxed);
        }
        killed.cancel();
        Dormant::new(pin!(tasks.wait())).await;
        board.closed();
        // Also those of somebody else who had less patience.
        let unfinished = cut_off.load(Ordering::Relaxed);
        if unfinished == 0 { Ok(()) } else { Err(CloseError { unfinished }) }
    }
}
