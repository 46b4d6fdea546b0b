//! What happens to a pool's connections, as values.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::error::connect::ConnectError;
use crate::error::instance::InstanceId;
use crate::error::loss::{GoAway, Loss};
use crate::error::outage::Outage;
use crate::error::text::Rounded;
use crate::proto::tenure::Retirement;

/// Something that happened to one of a pool's connections. `slot` counts the pool's places for connections from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An attempt to connect began.
    Dialing {
        /// Which place.
        slot: usize,
        /// Counted from 1 since this place's last connection was made.
        attempt: u32,
    },
    /// The attempt failed.
    DialFailed {
        /// Which place.
        slot: usize,
        /// The phase, the cause, how long it took.
        error: Arc<ConnectError>,
        /// The next attempt comes after so long, if the connection is wanted then, or earlier if calls wait.
        next_in: Duration,
    },
    /// A connection is ready for calls: the handshake and the `on_connect` hook are done.
    Ready {
        /// Which place.
        slot: usize,
        /// Which of this pool's connections, counted from 1.
        connection: u64,
        /// Where it leads, if the transport knows.
        address: Option<SocketAddr>,
        /// The server process, where the protocol tells.
        instance: Option<InstanceId>,
        /// From the beginning of the attempt.
        took: Duration,
    },
    /// The server process is another one than before: what the old one had in memory is lost.
    InstanceChanged {
        /// The process before.
        previous: InstanceId,
        /// The process now.
        current: InstanceId,
    },
    /// The server goes away: this connection takes no new calls and finishes what the server accepted.
    GoingAway {
        /// Which place.
        slot: usize,
        /// Which connection.
        connection: u64,
        /// What the server said.
        goodbye: GoAway,
    },
    /// The pool lets a connection go that has not died: it takes no new calls, finishes those that it has, and is closed with
    /// FIN.
    Retired {
        /// Which place.
        slot: usize,
        /// Which connection.
        connection: u64,
        /// Why.
        why: Retirement,
    },
    /// A connection died, in use or after `GoingAway` or `Retired`. The calls that it carried fail, or are tried again, as their
    /// [`Retry`](crate::Retry) policies say.
    ///
    /// One that this side closed is not told: at the end of the pool, or after `GoingAway` or `Retired` when it was drained.
    Lost {
        /// Which place.
        slot: usize,
        /// Why.
        loss: Arc<Loss>,
    },
}

impl fmt::Display for Event {
    /// One line for people, as for a log. That of `Lost` has the post-mortem in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dialing { slot, attempt } => {
                write!(f, "slot {slot}: attempt {attempt} to connect begins")
            }
            Self::DialFailed { slot, error, next_in } => {
                let next_in = Rounded(*next_in);
                write!(f, "slot {slot}: {error}; the next attempt comes in {next_in} at the latest")
            }
            Self::Ready { slot, connection, address, instance, took } => {
                write!(f, "slot {slot}: connection {connection} ")?;
                if let Some(address) = address {
                    write!(f, "to {address} ")?;
                }
                write!(f, "is ready after {}", Rounded(*took))?;
                instance.map_or(Ok(()), |instance| write!(f, ", server instance {instance}"))
            }
            Self::InstanceChanged { previous, current } => {
                write!(f, "the server process was replaced: instance {previous}, now {current}")
            }
            Self::GoingAway { slot, connection, goodbye } => {
                write!(f, "slot {slot}: the server sends connection {connection} away: {goodbye}")
            }
            Self::Retired { slot, connection, why } => {
                write!(
                    f,
                    "slot {slot}: connection {connection} is closed when its calls are done: {why}"
                )
            }
            Self::Lost { slot, loss } => write!(f, "slot {slot}: {loss}; {}", loss.post_mortem()),
        }
    }
}

/// What a pool is doing, as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// There is no connection, and none is needed: with [`Connections`](crate::Connections) of 0 at least, the next call
    /// has one made.
    Idle,
    /// There never was a connection, or none was needed for a while; attempts are made.
    Connecting,
    /// At least one connection takes calls.
    Ready,
    /// There was a connection, there is none although one is needed; attempts are made.
    Down,
    /// [`Pool::close`](crate::Pool::close) was called; calls in flight are being finished.
    Closing,
    /// The end.
    Closed,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::Connecting => "connecting",
            Self::Ready => "ready",
            Self::Down => "down",
            Self::Closing => "closing",
            Self::Closed => "closed",
        })
    }
}

/// A snapshot of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// What the pool is doing.
    pub state: State,
    /// Connections that take calls.
    pub ready: usize,
    /// Calls that have a place on a connection, also on one that drains.
    pub in_flight: usize,
    /// Calls that wait for a place.
    pub waiting: usize,
    /// Why nothing is ready, if nothing is.
    pub outage: Option<Outage>,
    /// The server process of the latest connection.
    pub instance: Option<InstanceId>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::connect::{ConnectCause, Phase};

    #[test]
    fn an_event_is_one_line_for_people() {
        let ms = Duration::from_millis;
        let address = "10.0.0.1:7000".parse().ok();
        let [before, now] = [1, 2].map(|byte| InstanceId([byte; 16]));
        let failed = ConnectError {
            phase: Phase::Connect,
            cause: ConnectCause::TimedOut { limit: ms(300) },
            endpoint: "orders:7000".into(),
            address,
            took: ms(301),
        };
        for (event, line) in [
            (Event::Dialing { slot: 0, attempt: 3 }, "slot 0: attempt 3 to connect begins"),
            (
                Event::DialFailed { slot: 0, error: Arc::new(failed), next_in: ms(50) },
                "slot 0: connecting to orders:7000 [10.0.0.1:7000] failed after 301 ms: no answer within this side's \
                 limit of 300 ms; the next attempt comes in 50 ms at the latest",
            ),
            (
                Event::Ready { slot: 1, connection: 7, address, instance: Some(now), took: ms(4) },
                "slot 1: connection 7 to 10.0.0.1:7000 is ready after 4 ms, server instance \
                 02020202020202020202020202020202",
            ),
            (
                Event::InstanceChanged { previous: before, current: now },
                "the server process was replaced: instance 01010101010101010101010101010101, now \
                 02020202020202020202020202020202",
            ),
            (
                Event::Retired { slot: 2, connection: 9, why: Retirement::Idle },
                "slot 2: connection 9 is closed when its calls are done: no call has used it for long enough",
            ),
        ] {
            assert_eq!(event.to_string(), line);
        }
        assert_eq!(State::Down.to_string(), "down");
    }
}
