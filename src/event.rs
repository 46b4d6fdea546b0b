//! What happens to a pool's connections, as values.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::error::connect::{ConnectError, Outage};
use crate::error::instance::InstanceId;
use crate::error::loss::{GoAway, Loss};

/// Something that happened to one of a pool's connections. `slot` counts the pool's places for connections from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An attempt to connect began.
    Dialing {
        /// Which place.
        slot: usize,
        /// Counted from 1 since this place's last connection was lost.
        attempt: u32,
    },
    /// The attempt failed.
    DialFailed {
        /// Which place.
        slot: usize,
        /// The phase, the cause, how long it took.
        error: Arc<ConnectError>,
        /// The next attempt comes after so long, or earlier if calls wait.
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
        /// The server process.
        instance: InstanceId,
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
    /// A connection died. The calls that it carried have been settled.
    Lost {
        /// Which place.
        slot: usize,
        /// Why.
        loss: Arc<Loss>,
    },
}

/// What a pool is doing, as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// There never was a connection; attempts are made.
    Connecting,
    /// At least one connection takes calls.
    Ready,
    /// There was a connection, there is none; attempts are made.
    Down,
    /// [`Pool::close`](crate::Pool::close) was called; calls in flight are being finished.
    Closing,
    /// The end.
    Closed,
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
