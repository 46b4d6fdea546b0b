//! What a handler gets, and what a handler is.

use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::sleep_until;

use crate::clock::now;
use crate::connection::{Connection, Tell};
use crate::error::answer::ErrorReply;
use crate::proto::serving::{NotPushed, Serving};
use crate::server::cancellation::Cancellation;

/// Answers calls. Any `Fn(Call) -> impl Future<Output = Result<Bytes, ErrorReply>>` is one.
///
/// Handlers run concurrently, in any order. A panic is answered with [`ErrorReply::HANDLER_PANICKED`] and hurts nobody else.
///
/// Those of calls that arrive together are begun one after the other, each up to where it first waits; from there on it has a
/// task of its own. So one that blocks its thread instead holds up, until it waits or ends, those that came with it (and
/// those alone: what comes later, and the connection's heartbeats, do not stand behind it). Work that takes milliseconds of a
/// processor, or that blocks, belongs in [`spawn_blocking`](tokio::task::spawn_blocking).
///
/// # Examples
/// With something to remember, and notifications:
/// ```no_run
/// use std::collections::HashMap;
/// use std::sync::{Mutex, PoisonError};
/// use steadfast::{Bytes, Call, ErrorReply, Handler, Server};
///
/// #[derive(Default)]
/// struct Prices(Mutex<HashMap<Bytes, Bytes>>);
///
/// impl Handler for Prices {
///     /// Asked for `apples`, it answers with their price.
///     async fn call(&self, call: Call) -> Result<Bytes, ErrorReply> {
///         let prices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
///         let price = prices.get(call.body()).cloned();
///         price.ok_or_else(|| ErrorReply::new(404, "no such fruit"))
///     }
///
///     /// Told `apples 1.20`, it remembers that. Nobody waits for an answer.
///     async fn notified(&self, notification: Call) {
///         let text = notification.body();
///         if let Some(blank) = text.iter().position(|byte| *byte == b' ') {
///             // Copied, because a piece of a body keeps all of its memory.
///             let [fruit, price] = [&text[..blank], &text[blank + 1..]].map(Bytes::copy_from_slice);
///             self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(fruit, price);
///         }
///     }
/// }
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// Server::bind("0.0.0.0:7000").await?.serve(Prices::default()).await?;
/// # Ok(())
/// # }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// Answers one call.
    ///
    /// # Errors
    /// An [`ErrorReply`] is an answer, too: the caller finds it in [`CallCause::Remote`](crate::CallCause::Remote), and
    /// the call counts as one that ran.
    ///
    /// # Cancel safety
    /// The future is not dropped when the caller goes away, so that work is not cut off half-way: ask
    /// [`Call::is_cancelled`] or await [`Call::cancelled`]. It is dropped when a graceful shutdown runs out of time, and
    /// when the future of [`Server::serve`](crate::Server::serve) is dropped.
    fn call(&self, call: Call) -> impl Future<Output = Result<Bytes, ErrorReply>> + Send;

    /// Takes a notification; does nothing unless overridden.
    ///
    /// # Cancel safety
    /// As for [`call`](Self::call); the client does not wait, so it is never cancelled by going away.
    fn notified(&self, notification: Call) -> impl Future<Output = ()> + Send {
        async move { drop(notification) }
    }

    /// A client's connection has ended, and the handlers of all that came over it have begun: what was remembered under its
    /// [number](Call::connection), as a log-in, can go. Does nothing unless overridden.
    ///
    /// Each connection is told of once, whether it was closed, lost or cut off, also if no call came over it. Handlers of its calls may
    /// still run, and ask for what is forgotten here. One that remembers something under the number does so before it waits for the first
    /// time; what it adds later may stay for ever. It must not block, as it runs in the task of the connection or of a call. A panic in
    /// it is caught.
    fn disconnected(&self, connection: u64) {
        let _ = connection;
    }
}

impl<F, R> Handler for F
where
    F: Fn(Call) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Bytes, ErrorReply>> + Send,
{
    fn call(&self, call: Call) -> impl Future<Output = Result<Bytes, ErrorReply>> + Send {
        self(call)
    }
}

/// A call, or a notification, that is being served.
#[derive(Debug)]
pub struct Call {
    pub(crate) body: Bytes,
    pub(crate) peer: SocketAddr,
    pub(crate) connection: u64,
    pub(crate) deadline: Option<Instant>,
    pub(crate) cancellation: Cancellation,
    pub(crate) pusher: Pusher,
}

impl Call {
    /// What the caller sent.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// What the caller sent, when nothing else of the call is needed any more. From 4 KiB on it may share its memory with
    /// its neighbours: copy it if you keep it for long.
    pub fn into_body(self) -> Bytes {
        self.body
    }

    /// The client's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Which of this server's connections it came over, counted from 1 and never reused, unlike addresses: what a log-in
    /// on a connection should be remembered under, until that [has ended](Handler::disconnected).
    pub fn connection(&self) -> u64 {
        self.connection
    }

    /// How long the caller will still wait; `None` if it set no deadline. Zero when its time is up.
    ///
    /// The client's clock is not asked: it is what was left when the request was sent, counted from when it was read here.
    /// Time in between is not seen, so after a freeze of this process it may be more than the caller has.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(now()))
    }

    /// Whether the caller has gone: it cancelled the call, its time was up, or its connection died.
    ///
    /// A call that is [remembered](crate::ReplyCache), as calls that are not idempotent are by default, outlives its
    /// connection, because its caller may come back for the answer. It is cancelled when the client says so, at its deadline,
    /// or when the client is forgotten.
    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled_by(now())
    }

    pub(crate) fn is_cancelled_by(&self, now: Instant) -> bool {
        self.cancellation.is_cancelled() || self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Returns when the caller has gone, as [`is_cancelled`](Self::is_cancelled) has it.
    ///
    /// # Cancel safety
    /// Dropping the future does nothing.
    ///
    /// # Examples
    /// ```
    /// # use steadfast::{Bytes, Call, ErrorReply};
    /// # async fn compute(body: &Bytes) -> Bytes { body.clone() }
    /// async fn handle(call: Call) -> Result<Bytes, ErrorReply> {
    ///     tokio::select! {
    ///         result = compute(call.body()) => Ok(result),
    ///         () = call.cancelled() => Err(ErrorReply::new(499, "the caller has gone")),
    ///     }
    /// }
    /// ```
    pub async fn cancelled(&self) {
        // The client need not say that its time is up.
        let time_is_up = async {
            match self.deadline {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.cancellation.cancelled() => {}
            () = time_is_up => {}
        }
    }

    /// A way to send messages to this client, also after this call.
    pub fn pusher(&self) -> Pusher {
        self.pusher.clone()
    }
}

/// Sends messages to one client that answer nothing. Cheap to clone.
///
/// # Examples
/// ```
/// use steadfast::{Call, Pool, Server};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::bind("127.0.0.1:0").await?;
/// let address = server.local_addr()?.to_string();
/// tokio::spawn(server.serve(|call: Call| async move {
///     let pusher = call.pusher();
///     // From anywhere, as long as the client's connection lives.
///     tokio::spawn(async move { pusher.push("apples are 1.30 now") });
///     Ok("subscribed".into())
/// }));
///
/// let mut builder = Pool::builder(address);
/// let mut pushes = builder.pushes();
/// let pool = builder.build()?;
/// assert_eq!(pool.call("subscribe to apples").await?, "subscribed");
/// assert_eq!(pushes.next().await.unwrap(), "apples are 1.30 now");
/// # Ok(())
/// # }
/// ```
///
/// To all who have subscribed. A pool of several connections would hear everything several times if it subscribed on each: give
/// pushes a pool of their own, with one connection, which subscribes in [`on_connect`](crate::PoolBuilder::on_connect). While the
/// server shuts down, a connection without calls is closed at once, so what is pushed then does not reach it: a reader who must miss
/// nothing asks, in the same hook, for what there has been since the last push that it has seen.
/// ```
/// use std::sync::Mutex;
///
/// use steadfast::{Bytes, Call, ErrorReply, Handler, Pool, PushError, Pusher, Server};
///
/// #[derive(Default)]
/// struct Prices {
///     readers: Mutex<Vec<Pusher>>,
/// }
///
/// impl Handler for Prices {
///     async fn call(&self, call: Call) -> Result<Bytes, ErrorReply> {
///         let mut readers = self.readers.lock().unwrap();
///         if call.body() == "subscribe" {
///             readers.push(call.pusher());
///             return Ok("subscribed".into());
///         }
///         // Whose connection has ended is forgotten; who reads too slowly misses this one.
///         let price = call.into_body();
///         readers.retain(|reader| reader.push(price.clone()) != Err(PushError::Gone));
///         Ok("told".into())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::bind("127.0.0.1:0").await?;
/// let address = server.local_addr()?.to_string();
/// tokio::spawn(server.serve(Prices::default()));
///
/// let mut builder = Pool::builder(address).on_connect(|mut conversation| async move {
///     conversation.call("subscribe").await?;
///     Ok(())
/// });
/// let mut pushes = builder.pushes();
/// let pool = builder.build()?;
/// assert_eq!(pool.call("apples are 1.30 now").await?, "told");
/// assert_eq!(pushes.next().await.unwrap(), "apples are 1.30 now");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Pusher(pub(crate) Connection<Serving>);

impl Pusher {
    /// Queues a message for the client, also while the server drains and finishes calls of this client; its
    /// [`Pool::pushes`](crate::Pool::pushes) yields it. That it was queued does not mean that it arrives.
    ///
    /// # Errors
    /// [`PushError`]; nothing was queued then.
    pub fn push(&self, body: impl Into<Bytes>) -> Result<(), PushError> {
        let body = body.into();
        self.0.with(|serving| match serving.push(&body) {
            Ok(()) => (Ok(()), Tell::Owner),
            Err(NotPushed::Gone) => (Err(PushError::Gone), Tell::Nobody),
            Err(NotPushed::Full) => (Err(PushError::Full), Tell::Nobody),
            Err(NotPushed::TooLong { limit }) => {
                (Err(PushError::TooLong { length: body.len(), limit }), Tell::Nobody)
            }
        })
    }
}

/// Why a push was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The client's connection is lost, or drained.
    #[error("the client's connection is gone")]
    Gone,
    /// With it, more than [`held_bytes`](crate::ServerBuilder::held_bytes) would wait to be sent: the client reads more
    /// slowly than it is pushed to.
    #[error("the client's queue is full")]
    Full,
    /// It is longer than the client's [`Limits::message`](crate::Limits::message).
    #[error("push of {length} bytes exceeds the limit of {limit}")]
    TooLong {
        /// The push's length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
}
