//! Why nothing is ready, and for how long.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::error::connect::ConnectError;
use crate::error::loss::{GoAway, Loss};
use crate::error::text::{Count, Rounded};

/// Why nothing is ready, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outage {
    /// The endpoint as it was configured, `host:port`.
    pub endpoint: Arc<str>,
    /// Since the last connection was lost, or since the pool was built, or, where none is kept, since one was needed.
    pub lasted: Duration,
    /// Attempts to connect that failed in that time.
    pub attempts: u32,
    /// The last of them.
    pub last: Option<Arc<ConnectError>>,
    /// How it began.
    pub began: Began,
    /// An attempt is under way that has connected to there, and waits for the handshake: that of the lowest slot, where several
    /// connections are kept. `None` also where the transport has no address.
    pub connected: Option<SocketAddr>,
    /// The next attempt is made in that time at the latest: calls that wait may bring it forward. `None` while one is under way, and
    /// where none is to be made, because nobody asks or the pool is closed.
    pub next_in: Option<Duration>,
}

/// How an outage began.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Began {
    /// There never was a connection.
    NeverConnected,
    /// There was none, because none was needed, until it was.
    Idle,
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
        let Self { endpoint, lasted, attempts, last, began, connected, next_in } = self;
        let lasted = Rounded(*lasted);
        match began {
            Began::NeverConnected => write!(f, "no connection to {endpoint} yet, after {lasted}")?,
            Began::Idle => {
                write!(f, "no connection to {endpoint} yet, {lasted} after one was needed again")?;
            }
            Began::Unknown => write!(f, "no connection to {endpoint} for {lasted}")?,
            Began::Lost(loss) => write!(
                f,
                "no connection to {endpoint} for {lasted}, since the last one {}",
                loss.cause
            )?,
            Began::SentAway(goodbye) => write!(
                f,
                "no connection to {endpoint} for {lasted}, since the server sent the last one away: {goodbye}"
            )?,
        }
        match (last, began) {
            (Some(last), _) => {
                write!(
                    f,
                    "; {} failed, the last: {}",
                    Count(*attempts, "attempt"),
                    last.briefly()
                )?;
                if self.is_permanent() {
                    f.write_str("; calls fail at once, since waiting does not mend that")?;
                }
            }
            (None, Began::NeverConnected | Began::Idle) => {
                f.write_str("; the first attempt is under way")?;
            }
            (None, _) => f.write_str("; no attempt has failed since")?,
        }
        match (connected, next_in) {
            (Some(address), _) => {
                write!(f, "; {address} is connected, and has not answered the handshake yet")
            }
            (None, Some(next_in)) => write!(f, "; the next is made within {}", Rounded(*next_in)),
            (None, None) => Ok(()),
        }
    }
}

impl std::error::Error for Outage {
    /// Below what the text has said: the operating system's error of the last attempt, or that of the loss.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match (&self.last, &self.began) {
            (Some(last), _) => last.source(),
            (None, Began::Lost(loss)) => loss.source(),
            (None, _) => None,
        }
    }
}

/// [`Pool::ready`](crate::Pool::ready) did not see a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadyError {
    /// The deadline passed, or waiting cannot mend the cause.
    Unavailable(Arc<Outage>),
    /// The pool is closed.
    Closed,
}

impl fmt::Display for ReadyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(outage) => write!(f, "not ready: {outage}"),
            Self::Closed => f.write_str("the pool is closed"),
        }
    }
}

impl std::error::Error for ReadyError {
    /// Below what the text has said, as with [`Outage`].
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unavailable(outage) => outage.source(),
            Self::Closed => None,
        }
    }
}
