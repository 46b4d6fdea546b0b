//! Why a live connection died: one cause, shared by every call that died with it.

use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::error::os::OsError;
use crate::error::tcp_info::TcpInfo;
use crate::error::text::{At, Count, OneLine, RetryAfter, Rounded};
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
    /// Frames that arrived whole, from the end of the handshake.
    pub frames_in: u64,
    /// Whether what arrived last is a part of a frame, whose rest never came.
    pub cut_off: bool,
    /// Bytes that the operating system accepted for sending, from the end of the handshake. It may not have sent them.
    pub bytes_out: u64,
    /// Frames of which the operating system accepted the last byte, from the end of the handshake.
    pub frames_out: u64,
    /// What reading met at the end.
    pub reading: Met,
    /// What writing met at the end.
    pub writing: Met,
    /// What TCP itself knew, before the socket was closed. `None` if this side closed the connection, where the
    /// transport is not a plain [`TcpStream`](tokio::net::TcpStream), elsewhere than on Linux, and where the kernel does not
    /// tell (no `sock_diag(7)` in this sandbox).
    pub tcp: Option<TcpInfo>,
}

/// What one direction of a connection met at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Met {
    /// Nothing yet: it worked, as far as it was tried.
    Nothing,
    /// The peer's FIN. After an error of the other direction it means nothing, because the kernel reports an error once.
    EndOfFile,
    /// An error of the operating system.
    Error(OsError),
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::EndOfFile => f.write_str("end of file"),
            Self::Error(error) => error.meaning().fmt(f),
        }
    }
}

impl Loss {
    /// Whether this side ended the connection on purpose (close, drop, drained after `GOAWAY`).
    pub fn is_intended(&self) -> bool {
        matches!(self.cause, LossCause::ClosedHere | LossCause::Detached)
    }

    /// Whether the peer ended it, between two frames: it went away, or its process did.
    pub(crate) fn is_parting(&self) -> bool {
        matches!(self.cause, LossCause::ClosedByPeer) && !self.cut_off
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

    /// For tests of what does not look at the rest.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn example(cause: LossCause) -> Self {
        Self {
            cause,
            endpoint: "here:1".into(),
            address: None,
            connection: 1,
            age: Duration::ZERO,
            silent_for: Duration::ZERO,
            fin_seen: false,
            bytes_in: 0,
            frames_in: 0,
            cut_off: false,
            bytes_out: 0,
            frames_out: 0,
            reading: Met::Nothing,
            writing: Met::Nothing,
            tcp: None,
        }
    }

    /// What is known beside the cause, in one line for people, to be logged behind the loss itself.
    pub fn post_mortem(&self) -> impl fmt::Display + '_ {
        PostMortem(self)
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
        f.write_str(" ")?;
        let silence = match &self.cause {
            LossCause::Stalled { .. } | LossCause::ClosedHere => None,
            _ => Some(self.silent_for),
        };
        self.cause.write(f, silence)
    }
}

impl std::error::Error for Loss {
    /// The operating system's error, whose meaning the text has.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            LossCause::Os(error) => error.link(),
            _ => None,
        }
    }
}

/// See [`Loss::post_mortem`].
struct PostMortem<'a>(&'a Loss);

impl fmt::Display for PostMortem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Loss { connection, age, bytes_in, bytes_out, reading, writing, .. } = self.0;
        let (frames_in, frames_out) =
            (Count(self.0.frames_in, "frame"), Count(self.0.frames_out, "frame"));
        let cut_off = if self.0.cut_off { " and a part of one" } else { "" };
        write!(f, "connection {connection}, {} old; ", Rounded(*age))?;
        write!(
            f,
            "got {bytes_in} bytes in {frames_in}{cut_off}, sent {bytes_out} in {frames_out}; "
        )?;
        write!(f, "reading met {reading}, writing met {writing}")?;
        self.0.tcp.map_or(Ok(()), |tcp| write!(f, "; TCP: {tcp}"))
    }
}

/// What killed a connection.
///
/// [When connections die](crate::when_connections_die) explains each of them, and the codes: what usually lies behind, and
/// what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LossCause {
    /// FIN. A polite close, SIGTERM and SIGKILL look alike on the wire; the next handshake tells whether the
    /// server process was replaced.
    ClosedByPeer,
    /// The operating system reported an error.
    Os(OsError),
    /// Nothing arrived for the whole heartbeat bound: the peer is gone, frozen, or a device between forgot the flow.
    Silent {
        /// How long nothing had arrived.
        silent_for: Duration,
        /// `every + give_up_after` of the heartbeat.
        bound: Duration,
    },
    /// The operating system accepted not one byte for the whole heartbeat bound: the peer does not read, or nothing
    /// gets through to it.
    Stalled {
        /// How long sending had been stuck.
        stalled_for: Duration,
        /// `every + give_up_after` of the heartbeat.
        bound: Duration,
    },
    /// The server owes answers that nobody waits for any more, and nothing has come for the whole heartbeat bound since: it
    /// hangs, or forgot them. Of a protocol with ids: more answers are missing for good than can be borne.
    Unanswered {
        /// Calls that were cancelled or timed out and not answered.
        calls: usize,
        /// For how long nothing had come.
        silent_for: Duration,
    },
    /// The peer broke the protocol.
    Violation(Violation),
    /// The user's [`Dialect`](crate::Dialect) panicked over a frame, which need not be the peer's fault.
    DialectPanicked,
    /// The peer said goodbye, and why.
    SentAway(GoAway),
    /// This side closed it: the pool was closed or dropped, or the connection was drained.
    ClosedHere,
    /// A lease took the socket with it.
    Detached,
}

impl LossCause {
    /// What happened, after how long a silence, why, and the code.
    fn write(&self, f: &mut fmt::Formatter<'_>, silence: Option<Duration>) -> fmt::Result {
        let after = After(silence);
        match self {
            Self::ClosedByPeer => write!(f, "was closed by the peer{after} (FIN)"),
            Self::Os(error) => {
                let (fate, reason) = error.fate();
                write!(f, "{fate}{after}")?;
                if let Some(reason) = reason {
                    write!(f, ": {reason}")?;
                }
                write!(f, "{}", error.codes())
            }
            Self::Silent { bound, .. } => {
                let bound = Rounded(*bound);
                write!(f, "was given up{after}: a ping was not answered either (bound {bound})")
            }
            Self::Stalled { stalled_for, bound } => write!(
                f,
                "was given up: not one byte could be sent for {}, the peer does not read or cannot be reached (bound {})",
                Rounded(*stalled_for),
                Rounded(*bound),
            ),
            Self::Unanswered { calls, silent_for } => {
                let (calls, silent_for) = (Count(*calls as u64, "answer"), Rounded(*silent_for));
                write!(f, "was given up: it owes {calls} that nobody waits for, for {silent_for}")
            }
            Self::DialectPanicked => {
                write!(f, "was closed on this side{after}: the dialect panicked over a frame")
            }
            Self::Violation(violation) => {
                write!(
                    f,
                    "was closed on this side{after}: the peer broke the protocol: {violation}"
                )?;
                match violation {
                    // Mostly it is none, but a word of another protocol.
                    Violation::FrameTooLong { came, .. } => write!(f, ", it begins with {came}"),
                    _ => Ok(()),
                }
            }
            Self::SentAway(goodbye) => write!(f, "was ended by the peer{after}: {goodbye}"),
            Self::ClosedHere => f.write_str("was closed on this side"),
            Self::Detached => f.write_str("was taken over by its lease"),
        }
    }
}

impl fmt::Display for LossCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let silence = match self {
            Self::Silent { silent_for, .. } => Some(*silent_for),
            _ => None,
        };
        self.write(f, silence)
    }
}

impl From<Violation> for LossCause {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// How long nothing had come, if that is known here.
struct After(Option<Duration>);

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(silence) => write!(f, " after {} of silence", Rounded(silence)),
            None => Ok(()),
        }
    }
}

/// The peer's goodbye.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GoAway {
    /// [`CLOSING`](Self::CLOSING), [`IDLE`](Self::IDLE), [`VIOLATION`](Self::VIOLATION); others mean the same as the
    /// first.
    pub code: u32,
    /// How many of this connection's requests the peer serves to the end.
    pub accepted: u64,
    /// A lower bound on the time until the next attempt, if the peer named one.
    pub retry_after: Option<Duration>,
    /// For people.
    pub text: Arc<str>,
}

impl GoAway {
    /// The peer will close: it shuts down, or has finished.
    pub const CLOSING: u32 = 0;
    /// There was no call for longer than the server's idle limit.
    pub const IDLE: u32 = 1;
    /// This side broke the protocol, says the peer; its text says how.
    pub const VIOLATION: u32 = 2;
}

impl fmt::Display for GoAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.code {
            Self::CLOSING => "it shuts down",
            Self::IDLE => "there was no call for too long",
            Self::VIOLATION => "it says that this side broke the protocol",
            _ => "it goes away",
        })?;
        if !self.text.is_empty() {
            write!(f, ", in its words: {}", OneLine(&self.text))?;
        }
        write!(f, "{} (GOAWAY {})", RetryAfter(self.retry_after), self.code)
    }
}
