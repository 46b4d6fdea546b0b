//! Why no connection could be made: the phase, the cause, and how long it has been so.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::error::loss::{At, GoAway, Loss, OneLine, Rounded};
use crate::error::os::OsError;
use crate::error::violation::Violation;

/// The steps from a name to a connection that calls can use. Each has its own time-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// From the host name to addresses.
    Resolve,
    /// From an address to a connected socket.
    Connect,
    /// `HELLO` and `WELCOME`.
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
            ConnectCause::Rejected { .. } | ConnectCause::Violation(_) => true,
            ConnectCause::Hook(error) => error.is_permanent(),
            _ => false,
        }
    }

    /// The server's own wish for the time until the next attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.cause {
            ConnectCause::Busy { retry_after, .. } => *retry_after,
            ConnectCause::Lost(loss) => loss.retry_after(),
            _ => None,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.phase)?;
        At { endpoint: &self.endpoint, address: self.address }.fmt(f)?;
        write!(f, " failed after {}: {}", Rounded(self.took), self.cause)
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            ConnectCause::Os(error) => Some(error),
            ConnectCause::Violation(violation) => Some(violation),
            ConnectCause::Lost(loss) => Some(loss),
            ConnectCause::Hook(error) => Some(&*error.error),
            _ => None,
        }
    }
}

/// What stopped an attempt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectCause {
    /// The phase's own time-out ran out (this is not the operating system's `ETIMEDOUT`).
    #[error("no answer within {}", Rounded(*.limit))]
    TimedOut {
        /// The phase's time-out.
        limit: Duration,
    },
    /// The name exists and has no address.
    #[error("the name has no address")]
    NoAddress,
    /// The operating system reported an error.
    #[error("{0}")]
    Os(OsError),
    /// The peer closed before the handshake was done. A server that is full, a proxy without a server
    /// behind it, and a server that crashed look alike.
    #[error("the peer closed the connection before it answered")]
    ClosedByPeer,
    /// The server is too busy for another connection.
    #[error("the server is busy: {} (code {code})", Text(.text))]
    Busy {
        /// 1 too many connections, 2 draining.
        code: u32,
        /// A lower bound on the time until the next attempt, if the server named one.
        retry_after: Option<Duration>,
        /// For people.
        text: Arc<str>,
    },
    /// The server does not want this client. Waiting does not mend it.
    #[error("the server rejected this client: {} (code {code})", Text(.text))]
    Rejected {
        /// 1 no common version, 2 not a steadfast `HELLO`, 3 not allowed.
        code: u32,
        /// For people.
        text: Arc<str>,
    },
    /// What answers there does not speak the protocol. Waiting does not mend it.
    #[error("what answers there does not speak the protocol: {0}")]
    Violation(Violation),
    /// The connection was lost while the hook ran.
    #[error("{0}")]
    Lost(Arc<Loss>),
    /// The user's hook returned an error.
    #[error("{0}")]
    Hook(HookError),
    /// The user's hook panicked.
    #[error("the hook panicked")]
    HookPanicked,
    /// The user's [`Connect`](crate::Connect) panicked.
    #[error("the connector panicked")]
    ConnectorPanicked,
    /// The pool was closed or dropped during the attempt.
    #[error("the pool was closed")]
    Closed,
}

/// Shows a peer's text, or says that there is none.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        OneLine(if self.0.is_empty() { "it gave no reason" } else { self.0 }).fmt(f)
    }
}

/// The error that a user's hook returned. Two are equal when they are the same error object.
#[derive(Debug, Clone)]
pub struct HookError {
    error: Arc<dyn std::error::Error + Send + Sync>,
    is_permanent: bool,
}

impl HookError {
    /// The hook's own error, to be downcast. What was [`Permanent`] is without that around it.
    pub fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &*self.error
    }

    /// Whether the hook returned it as [`Permanent`].
    pub fn is_permanent(&self) -> bool {
        self.is_permanent
    }
}

impl From<Box<dyn std::error::Error + Send + Sync>> for HookError {
    fn from(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        match error.downcast::<Permanent>() {
            Ok(permanent) => Self { error: permanent.0.into(), is_permanent: true },
            Err(error) => Self { error: error.into(), is_permanent: false },
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
        self.error.fmt(f)
    }
}

/// Says that waiting cannot mend the error of an [`on_connect`](crate::Builder::on_connect) hook: a wrong password, a
/// topic that does not exist.
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
pub struct Permanent(Box<dyn std::error::Error + Send + Sync>);

impl Permanent {
    /// Marks an error as one that waiting cannot mend.
    pub fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for Permanent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Permanent {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // Its text is the error's own: go on below that.
        self.0.source()
    }
}

/// Why nothing is ready, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outage {
    /// The endpoint as it was configured, `host:port`.
    pub endpoint: Arc<str>,
    /// Since the last connection was lost, or since the pool was built.
    pub lasted: Duration,
    /// Attempts to connect that failed in that time.
    pub attempts: u32,
    /// The last of them.
    pub last: Option<Arc<ConnectError>>,
    /// How it began.
    pub began: Began,
}

/// How an outage began.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Began {
    /// There never was a connection.
    NeverConnected,
    /// The last connection takes no calls any more; why is not known yet.
    Unknown,
    /// The last connection died.
    Lost(Arc<Loss>),
    /// The server said that it goes away.
    SentAway(GoAway),
}

impl Outage {
    /// Whether waiting cannot mend it; see [`ConnectError::is_permanent`].
    pub fn is_permanent(&self) -> bool {
        self.last.as_ref().is_some_and(|last| last.is_permanent())
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, lasted, attempts, .. } = self;
        write!(f, "no connection to {endpoint} for {}, {attempts} ", Rounded(*lasted))?;
        f.write_str(if *attempts == 1 { "attempt failed" } else { "attempts failed" })?;
        match (&self.last, &self.began) {
            (Some(last), _) => write!(f, ", the last: {last}"),
            (None, Began::Lost(loss)) => write!(f, ": {loss}"),
            (None, Began::SentAway(goodbye)) => write!(f, ": the server went away: {goodbye}"),
            (None, Began::NeverConnected) => f.write_str(", the first is under way"),
            (None, Began::Unknown) => Ok(()),
        }
    }
}

impl std::error::Error for Outage {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match (&self.last, &self.began) {
            (Some(last), _) => std::error::Error::source(&**last),
            (None, Began::Lost(loss)) => std::error::Error::source(&**loss),
            (None, _) => None,
        }
    }
}
