//! What is known of a connection's life, and how it ended: the material of a [`Loss`].

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::error::loss::{Loss, LossCause, Met};
use crate::error::os::OsError;
use crate::error::tcp_info::TcpInfo;
use crate::proto::frame::FrameCount;
use crate::proto::framing::Framing;
use crate::proto::framing::count::FramingCount;

/// What a loss reports about the connection itself.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) endpoint: Arc<str>,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) number: u64,
}

/// What has passed over a connection since its handshake.
#[derive(Debug)]
pub(crate) struct Meter {
    since: Instant,
    heard: Instant,
    bytes_in: u64,
    frames_in: Frames,
    bytes_out: u64,
    frames_out: Frames,
}

/// The frames of one direction.
#[derive(Debug)]
enum Frames {
    Native(FrameCount),
    Foreign(FramingCount),
}

impl Frames {
    fn new(framing: Option<&Framing>) -> Self {
        match framing {
            Some(framing) => Self::Foreign(FramingCount::new(*framing)),
            None => Self::Native(FrameCount::default()),
        }
    }

    fn pass(&mut self, bytes: &[u8]) {
        match self {
            Self::Native(count) => count.pass(bytes),
            Self::Foreign(count) => count.pass(bytes),
        }
    }

    fn whole(&self) -> u64 {
        match self {
            Self::Native(count) => count.whole(),
            Self::Foreign(count) => count.whole(),
        }
    }

    fn is_in_the_middle(&self) -> bool {
        match self {
            Self::Native(count) => count.is_in_the_middle(),
            Self::Foreign(count) => count.is_in_the_middle(),
        }
    }
}

impl Meter {
    /// What came behind the handshake counts. `framing` is how frames are cut where the protocol is a foreign one.
    pub(crate) fn new(now: Instant, came: &[u8], framing: Option<&Framing>) -> Self {
        let (frames_in, frames_out) = (Frames::new(framing), Frames::new(framing));
        let mut meter =
            Self { since: now, heard: now, bytes_in: 0, frames_in, bytes_out: 0, frames_out };
        meter.came(now, came);
        meter
    }

    pub(crate) fn came(&mut self, now: Instant, bytes: &[u8]) {
        self.heard = now;
        self.bytes_in += bytes.len() as u64;
        self.frames_in.pass(bytes);
    }

    pub(crate) fn went(&mut self, bytes: &[u8]) {
        self.bytes_out += bytes.len() as u64;
        self.frames_out.pass(bytes);
    }
}

/// What ended a connection, as reading or the session saw it.
#[derive(Debug)]
pub(crate) enum Ending {
    Eof,
    Failed(OsError),
    Verdict(LossCause),
    /// Nothing more came after a failed write.
    WaitedLongEnough,
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Death {
    pub(crate) cause: LossCause,
    fin_seen: bool,
    reading: Met,
    writing: Met,
}

impl Death {
    /// One cause of what writing and reading met. The first real error wins; `EPIPE` is none, it only echoes that the peer
    /// had closed before (a reset would have been reported as such).
    pub(crate) fn merge(write: Option<&OsError>, ending: Ending) -> Self {
        let writing = write.map_or(Met::Nothing, |error| Met::Error(error.clone()));
        let reading = match &ending {
            Ending::Eof => Met::EndOfFile,
            Ending::Failed(error) => Met::Error(error.clone()),
            Ending::Verdict(_) | Ending::WaitedLongEnough => Met::Nothing,
        };
        let is_echo = |error: &OsError| error.kind() == ErrorKind::BrokenPipe;
        let (cause, fin_seen) = match (write, ending) {
            (Some(error), _) if !is_echo(error) => (LossCause::Os(error.clone()), false),
            (_, Ending::Eof) => (LossCause::ClosedByPeer, true),
            (_, Ending::Failed(error)) => (LossCause::Os(error), false),
            (Some(error), _) => (LossCause::Os(error.clone()), false),
            (None, Ending::Verdict(cause)) => (cause, false),
            // There is nothing to wait for while writing works.
            (None, Ending::WaitedLongEnough) => (LossCause::ClosedByPeer, false),
        };
        Self { cause, fin_seen, reading, writing }
    }

    /// The whole story.
    pub(crate) fn report(
        self,
        now: Instant,
        about: &About,
        meter: &Meter,
        tcp: Option<TcpInfo>,
    ) -> Loss {
        let Self { cause, fin_seen, reading, writing } = self;
        Loss {
            cause,
            endpoint: about.endpoint.clone(),
            address: about.address,
            connection: about.number,
            age: now.saturating_duration_since(meter.since),
            silent_for: now.saturating_duration_since(meter.heard),
            fin_seen,
            bytes_in: meter.bytes_in,
            frames_in: meter.frames_in.whole(),
            cut_off: meter.frames_in.is_in_the_middle(),
            bytes_out: meter.bytes_out,
            frames_out: meter.frames_out.whole(),
            reading,
            writing,
            tcp,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut};
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_first_real_error_wins_and_an_echo_is_none() {
        let bound = Duration::from_secs(1);
        let os = |kind: ErrorKind| LossCause::Os(kind.into());
        let error = |kind: ErrorKind| Met::Error(kind.into());
        let failed = |kind: ErrorKind| Ending::Failed(kind.into());
        let silent = || LossCause::Silent { silent_for: bound, bound };
        let (nothing, eof) = (Met::Nothing, Met::EndOfFile);
        for (write, ending, (cause, fin_seen), reading) in [
            (None, Ending::Eof, (LossCause::ClosedByPeer, true), eof.clone()),
            (None, failed(ConnectionReset), (os(ConnectionReset), false), error(ConnectionReset)),
            (None, Ending::Verdict(silent()), (silent(), false), nothing.clone()),
            // The kernel reports a pending error once; the end of file behind it means nothing.
            (Some(ConnectionReset), Ending::Eof, (os(ConnectionReset), false), eof.clone()),
            (
                Some(ConnectionReset),
                Ending::Verdict(silent()),
                (os(ConnectionReset), false),
                nothing.clone(),
            ),
            (
                Some(ConnectionReset),
                failed(TimedOut),
                (os(ConnectionReset), false),
                error(TimedOut),
            ),
            (Some(BrokenPipe), Ending::Eof, (LossCause::ClosedByPeer, true), eof),
            (
                Some(BrokenPipe),
                failed(ConnectionReset),
                (os(ConnectionReset), false),
                error(ConnectionReset),
            ),
            (Some(BrokenPipe), Ending::Verdict(silent()), (os(BrokenPipe), false), nothing.clone()),
            (Some(BrokenPipe), Ending::WaitedLongEnough, (os(BrokenPipe), false), nothing),
        ] {
            let write = write.map(OsError::from);
            let writing = write.clone().map_or(Met::Nothing, Met::Error);
            let expected = Death { cause, fin_seen, reading, writing };
            assert_eq!(Death::merge(write.as_ref(), ending), expected);
        }
    }
}
