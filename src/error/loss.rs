//! Why a live connection died: one cause, shared by every call that died with it.

use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::error::os::OsError;
use crate::error::violation::Violation;

/// A connection's death: what killed it and what is known about its life.
///
/// There is one per connection. What reading and what writing saw has been merged: the first real
/// error wins, because the kernel reports an error once, to whichever of the two comes first, and an
/// end-of-file after it means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// What killed it.
    pub cause: LossCause,
    /// The endpoint as it was configured, `host:port`.
    pub endpoint: Arc<str>,
    /// The address that the connection was made to, where the transport knows one.
    pub address: Option<SocketAddr>,
    /// Which of the client's connections this was, counted from 1.
    pub connection: u64,
    /// From the end of the handshake to the loss.
    pub age: Duration,
    /// How long nothing had arrived when it was lost.
    pub silent_for: Duration,
    /// Whether the peer's FIN came, and no reset.
    pub fin_seen: bool,
    /// Bytes that arrived, from the end of the handshake.
    pub bytes_in: u64,
    /// Bytes that the operating system accepted for sending, from the end of the handshake.
    pub bytes_out: u64,
}

impl Loss {
    /// Whether this side ended the connection on purpose (close, drop, drained after `GOAWAY`).
    pub fn is_intended(&self) -> bool {
        matches!(self.cause, LossCause::ClosedHere)
    }

    /// Whether it died of silence, found out on this side or by the kernel: other connections to the same peer may be
    /// dead as well.
    pub(crate) fn is_silence(&self) -> bool {
        match &self.cause {
            LossCause::Silent { .. } | LossCause::Stalled { .. } => true,
            LossCause::Os(error) => matches!(
                error.kind(),
                ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
            ),
            _ => false,
        }
    }

    /// The peer's own wish for the time until the next attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.cause {
            LossCause::SentAway(goodbye) => goodbye.retry_after,
            _ => None,
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connection to ")?;
        At { endpoint: &self.endpoint, address: self.address }.fmt(f)?;
        write!(f, " {}", self.cause)?;
        match &self.cause {
            LossCause::Silent { .. } | LossCause::Stalled { .. } | LossCause::ClosedHere => Ok(()),
            _ => write!(f, ", after {} of silence", Rounded(self.silent_for)),
        }
    }
}

impl std::error::Error for Loss {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            LossCause::Os(error) => Some(error),
            LossCause::Violation(violation) => Some(violation),
            _ => None,
        }
    }
}

/// What killed a connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LossCause {
    /// FIN. A polite close, SIGTERM and SIGKILL look alike on the wire; the next handshake tells whether the
    /// server process was replaced.
    #[error("was closed by the peer")]
    ClosedByPeer,
    /// The operating system reported an error.
    #[error("failed: {0}")]
    Os(OsError),
    /// Nothing arrived for the whole heartbeat bound: the peer is gone, frozen, or a device between forgot the flow.
    #[error("was given up: nothing arrived for {}, also no answer to a ping (bound {})", Rounded(*.silent_for), Rounded(*.bound))]
    Silent {
        /// How long nothing had arrived.
        silent_for: Duration,
        /// `every + give_up_after` of the heartbeat.
        bound: Duration,
    },
    /// The operating system accepted not one byte for the whole heartbeat bound: the peer does not read, or nothing
    /// gets through to it.
    #[error("was given up: not a byte could be sent for {} (bound {})", Rounded(*.stalled_for), Rounded(*.bound))]
    Stalled {
        /// How long sending had been stuck.
        stalled_for: Duration,
        /// `every + give_up_after` of the heartbeat.
        bound: Duration,
    },
    /// The peer broke the protocol.
    #[error("was closed because the peer broke the protocol: {0}")]
    Violation(Violation),
    /// The peer said goodbye, and why.
    #[error("was ended by the peer: {0}")]
    SentAway(GoAway),
    /// This side closed it: the pool was closed or dropped, or the connection was drained.
    #[error("was closed on this side")]
    ClosedHere,
}

/// The peer's goodbye.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GoAway {
    /// 0 shutting down, 1 idle for too long, 2 protocol violation.
    pub code: u32,
    /// How many of this connection's requests the peer serves to the end.
    pub accepted: u64,
    /// A lower bound on the time until the next attempt, if the peer named one.
    pub retry_after: Option<Duration>,
    /// For people.
    pub text: Arc<str>,
}

impl fmt::Display for GoAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            0 => f.write_str("it shuts down")?,
            1 => f.write_str("it was idle for too long")?,
            2 => f.write_str("it says that this side broke the protocol")?,
            code => write!(f, "code {code}")?,
        }
        if self.text.is_empty() { Ok(()) } else { write!(f, " ({})", OneLine(&self.text)) }
    }
}

/// A duration for people: three digits are enough.
#[derive(Clone, Copy)]
pub(crate) struct Rounded(pub(crate) Duration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = (self.0.as_secs_f64() * 1000.0).round() as u64;
        match millis {
            60_000.. => write!(f, "{} min {} s", millis / 60_000, millis % 60_000 / 1000),
            1000.. => write!(f, "{}.{} s", millis / 1000, millis % 1000 / 100),
            _ => write!(f, "{millis} ms"),
        }
    }
}

/// An endpoint as it was configured, and the address behind it where that says more.
pub(crate) struct At<'a> {
    pub(crate) endpoint: &'a str,
    pub(crate) address: Option<SocketAddr>,
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.endpoint)?;
        match self.address.map(|address| address.to_string()) {
            Some(address) if address != self.endpoint => write!(f, " [{address}]"),
            _ => Ok(()),
        }
    }
}

/// A peer's text on one line: what would break it, or a terminal, is escaped.
#[derive(Clone, Copy)]
pub(crate) struct OneLine<'a>(pub(crate) &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c.is_control() {
            true => write!(f, "{}", c.escape_default()),
            false => write!(f, "{c}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_to_what_a_person_needs() {
        for (millis, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1000, "1.0 s"),
            (59_999, "59.9 s"),
            (119_700, "1 min 59 s"),
            (3_600_000, "60 min 0 s"),
        ] {
            assert_eq!(Rounded(Duration::from_millis(millis)).to_string(), text);
        }
        assert_eq!(Rounded(Duration::from_micros(999_600)).to_string(), "1.0 s");
    }

    #[test]
    fn a_peers_text_stays_on_one_line() {
        assert_eq!(OneLine("a\nb\u{1b}c ä").to_string(), "a\\nb\\u{1b}c ä");
    }
}
