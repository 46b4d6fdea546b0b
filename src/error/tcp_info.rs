//! What TCP itself knew of a connection.

use std::fmt;
use std::time::Duration;

/// What TCP itself knew of a connection at the moment of its loss, before the socket was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TcpInfo {
    /// Its state. [`TcpState::Close`]: the kernel had given the connection up, after a reset or a time-out of its own.
    pub state: TcpState,
    /// How the bytes were flowing. `None` when the kernel had given the connection up: it forgets that at once.
    pub flow: Option<TcpFlow>,
}

/// How the bytes were flowing, as TCP saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TcpFlow {
    /// The smoothed round-trip time.
    pub rtt: Duration,
    /// Segments that were sent again, over the connection's life.
    pub retransmits: u32,
    /// How often in a row the same segment was sent again without an answer: the peer's host does not answer now.
    pub timeouts: u8,
    /// Bytes that the kernel had accepted and the peer's host had not acknowledged, sent or not.
    pub unacknowledged: u32,
    /// Bytes that had come and were not read yet.
    pub unread: u32,
}

/// The states of RFC 9293, section 3.3.2, as far as a connection can be lost in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TcpState {
    /// Nothing has ended it, as far as this host knows. So it looks too when the peer is gone without a word.
    Established,
    /// The peer's FIN came; this side has not closed.
    CloseWait,
    /// Both have closed; the peer has not acknowledged this side's FIN.
    LastAck,
    /// This side has closed; the peer's host has not acknowledged it.
    FinWait1,
    /// This side has closed; the peer has not.
    FinWait2,
    /// Both closed at the same time.
    Closing,
    /// Both have closed.
    TimeWait,
    /// It is no connection any more.
    Close,
}

impl TcpState {
    /// The kernel's number of it (`net/tcp_states.h`).
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(crate) fn from_linux(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Established,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Close,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            11 => Self::Closing,
            _ => return None,
        })
    }
}

impl fmt::Display for TcpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Established => "ESTABLISHED",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::FinWait1 => "FIN_WAIT_1",
            Self::FinWait2 => "FIN_WAIT_2",
            Self::Closing => "CLOSING",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
        })
    }
}

impl fmt::Display for TcpInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state, flow } = self;
        write!(f, "{state}")?;
        let Some(TcpFlow { rtt, retransmits, timeouts, unacknowledged, unread }) = flow else {
            return Ok(());
        };
        write!(f, ", round trip {rtt:?}, {retransmits} retransmits, {timeouts} of them in a row")?;
        write!(f, ", {unacknowledged} bytes unacknowledged, {unread} unread")
    }
}
