//! Why one attempt to make a connection failed: the phase, the cause, and how long it took.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::error::loss::{GoAway, Loss};
use crate::error::opening::Opening;
use crate::error::os::OsError;
use crate::error::text::{At, OneLine, RetryAfter, Rounded};
use crate::error::unsendable::Unsendable;
use crate::error::violation::Violation;

/// The steps from a name to a connection that calls can use. Each has its own time-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// From the host name to addresses.
    Resolve,
    /// From an address to a connected socket.
    Connect,
    /// `HELLO` and `WELCOME`; of a foreign protocol, its [`open`](crate::Protocol::open).
    Handshake,
    /// The user's `on_connect`.
    Hook,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolving the name of",
            Self::Connect => "connecting to",
            Self::Handshake => "the handshake with",
            Self::Hook => "the on-connect hook for",
        })
    }
}

/// One failed attempt to make a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectError {
    /// How far it came.
    pub phase: Phase,
    /// What stopped it.
    pub cause: ConnectCause,
    /// The endpoint as it was configured, `host:port`.
    pub endpoint: Arc<str>,
    /// The address that was tried (last), where it came that far.
    pub address: Option<SocketAddr>,
    /// How long the attempt took.
    pub took: Duration,
}

impl ConnectError {
    /// Whether waiting cannot mend it: the server rejected this client, what answers there is no such server, or the
    /// `on_connect` hook said so by a [`Permanent`] error.
    ///
    /// Calls fail at once with such a cause, while the pool goes on trying under its backoff.
    pub fn is_permanent(&self) -> bool {
        match &self.cause {
            ConnectCause::Rejected(_)
            | ConnectCause::Violation { .. }
            | ConnectCause::Unsendable(_) => true,
            ConnectCause::Hook(error) => error.is_permanent(),
            _ => false,
        }
    }

    /// The server's own wish for the time until the next attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.cause {
            ConnectCause::Busy(busy) => busy.retry_after,
            ConnectCause::SentAway(goodbye) => goodbye.retry_after,
            ConnectCause::Lost(loss) => loss.retry_after(),
            _ => None,
        }
    }

    /// The text without the endpoint, if the address says as much: for lines that have named it.
    pub(crate) fn briefly(&self) -> impl fmt::Display + '_ {
        Briefly(self)
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, place: &dyn fmt::Display) -> fmt::Result {
        write!(f, "{} {place} failed after {}: {}", self.phase, Rounded(self.took), self.cause)
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, &At { endpoint: &self.endpoint, address: self.address })
    }
}

/// See [`ConnectError::briefly`].
struct Briefly<'a>(&'a ConnectError);

impl fmt::Display for Briefly<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.address {
            Some(address) => self.0.write(f, address),
            None => self.0.write(f, &self.0.endpoint),
        }
    }
}

impl Error for ConnectError {
    /// Below what the text has said: the operating system's error, or what the hook's error was made of.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            ConnectCause::Os(error) => error.link(),
            ConnectCause::Lost(loss) => loss.source(),
            ConnectCause::Hook(error) => error.error.source(),
            _ => None,
        }
    }
}

/// What stopped an attempt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectCause {
    /// The phase's own time-out ran out (this is not the operating system's `ETIMEDOUT`).
    #[error("no answer within this side's limit of {}", Rounded(*.limit))]
    TimedOut {
        /// The phase's time-out.
        limit: Duration,
    },
    /// The name exists and has no address.
    #[error("the name has no address")]
    NoAddress,
    /// The operating system reported an error.
    #[error("{}", .0.meaning())]
    Os(OsError),
    /// The peer closed before the handshake was done. A server that is full, a proxy without a server
    /// behind it, and a server that crashed look alike.
    #[error("the peer closed the connection before it answered (FIN)")]
    ClosedByPeer,
    /// The server is too busy for another connection.
    #[error("{0}")]
    Busy(Busy),
    /// The server does not want this client. Waiting does not mend it.
    #[error("{0}")]
    Rejected(Rejection),
    /// What answers there does not speak the protocol. Waiting does not mend it.
    #[error(
        "what answers there does not speak the protocol: it began with {opening} ({violation})"
    )]
    Violation {
        /// How it broke the protocol.
        violation: Violation,
        /// What it said first.
        opening: Opening,
    },
    /// What a server of a foreign protocol said while it was [opened](crate::Protocol::open) is no frame. Many say so, without a
    /// frame, that they are full: waiting may mend it.
    #[error("what it says is no frame: it began with {opening} ({violation})")]
    NoFrame {
        /// Why it is none.
        violation: Violation,
        /// What it said first.
        opening: Opening,
    },
    /// The [`open`](crate::Protocol::open) of the user's protocol broke off the sending of a frame.
    #[error("the protocol broke off the sending of a frame, behind which nothing can follow")]
    HalfAFrame,
    /// The server said goodbye while the hook ran.
    #[error("the server sent the connection away: {0}")]
    SentAway(GoAway),
    /// The connection was lost while the hook ran.
    #[error("{0}")]
    Lost(Arc<Loss>),
    /// The user's `on_connect` hook, or the [`open`](crate::Protocol::open) of the user's protocol, returned an error, or the user's
    /// [`Connect`](crate::Connect) a [`Permanent`] one.
    #[error("{0}")]
    Hook(HookError),
    /// The user's hook panicked.
    #[error("the hook panicked")]
    HookPanicked,
    /// The [`open`](crate::Protocol::open) of the user's protocol panicked.
    #[error("the protocol panicked")]
    ProtocolPanicked,
    /// The [`open`](crate::Protocol::open) of the user's protocol wanted to send a frame that cannot be sent. Waiting does
    /// not mend it.
    #[error("what is said first cannot be sent: {0}")]
    Unsendable(Unsendable),
    /// The user's [`Connect`](crate::Connect) panicked.
    #[error("the connector panicked")]
    ConnectorPanicked,
}

/// So that the [`open`](crate::Protocol::open) of a protocol can return it.
impl Error for Busy {}

/// So that the [`open`](crate::Protocol::open) of a protocol can return it.
impl Error for Rejection {}

/// The server's word that it has no room for another connection now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Busy {
    /// [`TOO_MANY`](Self::TOO_MANY), [`DRAINING`](Self::DRAINING); others mean that waiting may help.
    pub code: u32,
    /// A lower bound on the time until the next attempt, if the server named one.
    pub retry_after: Option<Duration>,
    /// For people.
    pub text: Arc<str>,
}

impl Busy {
    /// What the [`open`](crate::Protocol::open) of a protocol makes of such a word. Its code is [`TOO_MANY`](Self::TOO_MANY).
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self { code: Self::TOO_MANY, retry_after: None, text: text.into() }
    }

    /// It has as many connections as it will.
    pub const TOO_MANY: u32 = 1;
    /// It is shutting down.
    pub const DRAINING: u32 = 2;
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, retry_after, text } = self;
        write!(f, "the server is busy: {}{} (BUSY {code})", Text(text), RetryAfter(*retry_after))
    }
}

/// The server's word that it does not want this client.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejection {
    /// [`NO_COMMON_VERSION`](Self::NO_COMMON_VERSION), [`NOT_HELLO`](Self::NOT_HELLO), [`NOT_ALLOWED`](Self::NOT_ALLOWED);
    /// others mean that waiting does not help.
    pub code: u32,
    /// For people.
    pub text: Arc<str>,
}

impl Rejection {
    /// What the [`open`](crate::Protocol::open) of a protocol makes of such a word. Its code is
    /// [`NOT_ALLOWED`](Self::NOT_ALLOWED).
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self { code: Self::NOT_ALLOWED, text: text.into() }
    }

    /// It speaks none of the versions that the client speaks.
    pub const NO_COMMON_VERSION: u32 = 1;
    /// The client's first frame was no steadfast `HELLO`.
    pub const NOT_HELLO: u32 = 2;
    /// This client may not use it.
    pub const NOT_ALLOWED: u32 = 3;
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, text } = self;
        write!(f, "the server rejected this client: {} (REJECT {code})", Text(text))
    }
}

/// Shows a peer's text, or says that there is none.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        OneLine(if self.0.is_empty() { "it gave no reason" } else { self.0 }).fmt(f)
    }
}

/// Any error, as an [`on_connect`](crate::PoolBuilder::on_connect) hook or [`Protocol::open`](crate::Protocol::open) returns it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The error that a user's hook, or the [`open`](crate::Protocol::open) of a user's protocol, returned. Two are equal when they
/// are the same error object.
#[derive(Debug, Clone)]
pub struct HookError {
    error: Arc<dyn Error + Send + Sync>,
    /// What is told of it, where its own text says more than belongs into the line of another call.
    text: Option<Arc<str>>,
    is_permanent: bool,
}

impl HookError {
    /// The hook's own error, to be downcast; what was [`Permanent`] is without that around it. Its text is part of the
    /// [`ConnectError`]'s, so the chain of errors goes on below it.
    pub fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.error
    }

    /// Tells of it in these words.
    pub(crate) fn told_as(self, text: impl Into<Arc<str>>) -> Self {
        Self { text: Some(text.into()), ..self }
    }

    pub(crate) fn permanent(error: impl Into<BoxError>) -> Self {
        BoxError::from(Permanent::new(error)).into()
    }

    /// Whether it was returned as [`Permanent`].
    pub fn is_permanent(&self) -> bool {
        self.is_permanent
    }
}

impl From<BoxError> for HookError {
    fn from(error: BoxError) -> Self {
        match error.downcast::<Permanent>() {
            Ok(permanent) => Self { error: permanent.0.into(), text: None, is_permanent: true },
            Err(error) => Self { error: error.into(), text: None, is_permanent: false },
        }
    }
}

impl PartialEq for HookError {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.error, &other.error)
    }
}

impl Eq for HookError {}

impl fmt::Display for HookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => f.write_str(text),
            None => self.error.fmt(f),
        }
    }
}

/// Says that waiting cannot mend the error of an [`on_connect`](crate::PoolBuilder::on_connect) hook, of a protocol's
/// [`open`](crate::Protocol::open), or of a [`Connect`](crate::Connect): a wrong password, a topic that does not exist.
///
/// Calls then fail at once and name it, instead of waiting until their deadlines. The pool goes on trying under its
/// backoff, because somebody may put it right at the other end. Only an error that the hook returns as this very type
/// counts, not one that has it among its sources.
///
/// # Examples
/// ```no_run
/// use steadfast::{BoxError, Outcome, Permanent, Pool};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = Pool::builder("orders.intranet:7000")
///     .on_connect(|mut conversation| async move {
///         let welcome = conversation.call("login alice").await;
///         welcome.map(drop).map_err(|error| match error.outcome() {
///             // The server's own answer is no.
///             Outcome::Remote => Permanent::new(error).into(),
///             _ => BoxError::from(error),
///         })
///     })
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Permanent(BoxError);

impl Permanent {
    /// Marks an error as one that waiting cannot mend.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for Permanent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Permanent {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // Its text is the error's own: go on below that.
        self.0.source()
    }
}
