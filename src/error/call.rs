//! What became of a call that did not succeed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::answer::{ErrorReply, Refusal};
use crate::error::config::ConfigError;
use crate::error::instance::InstanceId;
use crate::error::loss::{GoAway, Loss};
use crate::error::outage::Outage;
use crate::error::text::{Count, Rounded};
use crate::error::unsendable::Unsendable;

/// Whether a failed call ran. The question that a caller must answer before it tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The last byte of the request never left. The server cannot have run it.
    NotSent,
    /// The server said no before running it.
    Refused,
    /// It left, no answer came: it may have run, or may run still. Once, unless it was marked idempotent and sent again. Who asks the
    /// server at once what has become of it may be told "nothing" before it has.
    Indeterminate,
    /// It ran, and the server's own answer is an error.
    Remote,
}

impl Outcome {
    /// `not_sent`, `refused`, `indeterminate`, `remote`: for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Refused => "refused",
            Self::Indeterminate => "indeterminate",
            Self::Remote => "remote",
        }
    }
}

impl fmt::Display for Outcome {
    /// A sentence for people; [`as_str`](Self::as_str) is for machines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSent => "the request was not sent, so it did not run",
            Self::Refused => "the server refused the request, so it did not run",
            Self::Indeterminate => "the request had left, so it may have run",
            Self::Remote => "the request ran",
        })
    }
}

/// A failed call or notification: whether it ran ([`outcome`](Self::outcome)), why it failed
/// ([`cause`](Self::cause)), and what was tried.
#[derive(Debug, Clone, PartialEq)]
pub struct CallError(Box<Failure>);

#[derive(Debug, Clone, PartialEq)]
struct Failure {
    outcome: Outcome,
    cause: CallCause,
    stopped: Stopped,
    attempts: u32,
    elapsed: Duration,
    endpoint: Arc<str>,
    earlier: Option<Arc<Loss>>,
}

impl CallError {
    pub(crate) fn new(
        (outcome, cause): (Outcome, CallCause),
        stopped: Stopped,
        attempts: u32,
        elapsed: Duration,
        endpoint: Arc<str>,
    ) -> Self {
        let earlier = None;
        Self(Box::new(Failure { outcome, cause, stopped, attempts, elapsed, endpoint, earlier }))
    }

    /// It may have run on a connection that died.
    pub(crate) fn after(mut self, loss: Option<&Arc<Loss>>) -> Self {
        let is_cause = matches!(self.0.cause, CallCause::Lost(_) | CallCause::Replaced { .. });
        self.0.earlier = loss.filter(|_| !is_cause).cloned();
        self
    }

    /// Whether the request ran.
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// Why it failed.
    pub fn cause(&self) -> &CallCause {
        &self.0.cause
    }

    /// How the connection died on which an earlier attempt may have run, if the [`cause`](Self::cause) is another: that is why
    /// the last attempt failed, which may not even have left. Its [`connection`](Loss::connection) is the number that
    /// [`Event::Ready`](crate::Event::Ready) named with the server process that may have run it.
    pub fn earlier(&self) -> Option<&Arc<Loss>> {
        self.0.earlier.as_ref()
    }

    /// Why it was not tried (again).
    pub fn stopped(&self) -> Stopped {
        self.0.stopped
    }

    /// Whether the same call can be made again without a risk of running it twice:
    /// it is known not to have run.
    pub fn is_safe_to_retry(&self) -> bool {
        matches!(self.0.outcome, Outcome::NotSent | Outcome::Refused)
    }

    /// How often the request was handed to a connection. It may be more than [`Retry::attempts`](crate::Retry::attempts): what a
    /// server sent away with its goodbye does not count there, and it may be 1 for a request that never left.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// From the call to this error.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed
    }

    /// The endpoint as it was configured, `host:port`.
    pub fn peer(&self) -> &str {
        &self.0.endpoint
    }
}

impl CallError {
    /// Whether the last attempt did not run, but one before it may have.
    fn is_of_an_earlier_attempt(&self) -> bool {
        let did_not_run = matches!(
            self.0.cause,
            CallCause::Refused(_)
                | CallCause::SentAway(_)
                | CallCause::Unavailable(_)
                | CallCause::Overloaded(_)
                | CallCause::TimedOut { stage: Stage::Connection | Stage::Sending, .. }
        );
        did_not_run && self.0.outcome == Outcome::Indeterminate && self.0.earlier.is_some()
    }

    /// The loss that the line tells of beside the cause.
    fn told_of(&self) -> Option<&Arc<Loss>> {
        let is_evicted = matches!(self.0.cause, CallCause::Evicted);
        self.earlier().filter(|_| is_evicted || self.is_of_an_earlier_attempt())
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { outcome, cause, stopped, attempts, elapsed, endpoint, .. } = &*self.0;
        match cause {
            // These name it themselves.
            CallCause::Lost(_)
            | CallCause::Replaced { .. }
            | CallCause::Unavailable(_)
            | CallCause::TimedOut { scarcity: Some(Scarcity::Outage(_)), .. } => {}
            _ => write!(f, "{endpoint}: ")?,
        }
        match self.is_of_an_earlier_attempt() {
            false => write!(f, "{cause}; {outcome}")?,
            true => write!(f, "{cause}; an earlier attempt had left, so it may have run")?,
        }
        if let Some(loss) = self.told_of() {
            write!(f, ": {loss}")?;
        }
        match (stopped, cause) {
            (Stopped::BudgetSpent, _) => write!(f, "; not tried again, {stopped}")?,
            // Its own text says so.
            (Stopped::Deadline, CallCause::TimedOut { .. }) => {}
            (Stopped::Deadline, _) => write!(f, "; not tried again, {stopped}")?,
            _ => {}
        }
        match attempts {
            0 | 1 => Ok(()),
            _ => write!(f, "; given up after {attempts} attempts in {}", Rounded(*elapsed)),
        }
    }
}

impl std::error::Error for CallError {
    /// Below what the text has said: the operating system's error, where there is one.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.cause {
            CallCause::Lost(loss) | CallCause::Replaced { loss, .. } => loss.source(),
            CallCause::Unavailable(outage)
            | CallCause::TimedOut { scarcity: Some(Scarcity::Outage(outage)), .. } => {
                outage.source()
            }
            _ => self.told_of()?.source(),
        }
    }
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CallCause {
    /// Its deadline passed.
    #[error("{stage} within {}{}", Rounded(*.limit), Because(.scarcity))]
    TimedOut {
        /// The call's time-out.
        limit: Duration,
        /// What it was waiting for when the deadline passed.
        stage: Stage,
        /// Why there was no place on a connection, if that is what it waited for.
        scarcity: Option<Scarcity>,
    },
    /// The connection that carried it died.
    #[error("{0}")]
    Lost(Arc<Loss>),
    /// The connection that carried it died, and the server process that may have run it was replaced: its reply cache is
    /// gone, so nobody can tell.
    #[error("{loss}; meanwhile the server process was replaced ({previous} by {current})")]
    Replaced {
        /// How the connection died.
        loss: Arc<Loss>,
        /// The server process that the call was sent to.
        previous: InstanceId,
        /// The one that answers now.
        current: InstanceId,
    },
    /// The connection that carried it died, and when the call was sent again, the server's reply cache had forgotten it
    /// already.
    #[error(
        "the server has forgotten whether it ran the call: its reply cache is too small, or it came back too late"
    )]
    Evicted,
    /// No connection was ready, and the call was not to wait (`fail_fast`), or waiting cannot mend it.
    #[error("{0}")]
    Unavailable(Arc<Outage>),
    /// A bound of this side was reached. Nothing was queued.
    #[error("{0}")]
    Overloaded(Overload),
    /// The server would not run it.
    #[error("{0}")]
    Refused(Refusal),
    /// The server went away, and said that it will not run this call.
    #[error("the server sent the connection away: {0}")]
    SentAway(GoAway),
    /// The server ran it and answered with an error.
    #[error("{0}")]
    Remote(ErrorReply),
    /// The request is longer than the server, or this side's limit, accepts.
    #[error("request of {length} bytes exceeds the limit of {limit}")]
    TooLong {
        /// The request's length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// No frame could be made of the request. Nothing was queued.
    #[error("no frame can be made of the request: {0}")]
    Unsendable(Unsendable),
    /// The request's own [retry policy](crate::Request::retry) is out of its range. Nothing was queued.
    #[error("{0}")]
    Config(ConfigError),
    /// The connection takes no more calls, because the server sent it away, because its writing has failed, or because this side
    /// lets it go. Only an [`on_connect`](crate::PoolBuilder::on_connect) hook is told so: other calls go to another connection.
    #[error("the connection takes no more calls")]
    Draining,
    /// The pool is closed.
    #[error("the pool is closed")]
    Closed,
}

/// `: ` and why there was no place, if that is known.
pub(super) struct Because<'a>(pub(super) &'a Option<Scarcity>);

impl fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |scarcity| write!(f, ": {scarcity}"))
    }
}

/// Why there was no place on a connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Scarcity {
    /// Nothing was ready.
    #[error("{0}")]
    Outage(Arc<Outage>),
    /// There were connections, and none had room.
    #[error("{0}")]
    Full(Full),
    /// The call may have run, and no connection led to the server process that would know.
    #[error("no connection leads to the server process that may have run it")]
    OutOfReach,
}

/// All places of a pool were taken; see [`Connections`](crate::Connections) and [`Limits`](crate::Limits), and the
/// server's own bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Full {
    /// Places that were in use: calls, or, where connections are lent, those that were lent.
    pub in_flight: usize,
    /// Connections that took calls.
    pub connections: usize,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { in_flight, connections } = *self;
        let connections = Count(connections as u64, "connection");
        write!(f, "all places were taken, {in_flight} in use on {connections}")
    }
}

/// What a call waited for when its deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// For a connection that is ready and has room.
    Connection,
    /// For its turn to be written.
    Sending,
    /// For the reply.
    Reply,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connection => "no place on a connection",
            Self::Sending => "sending it did not end",
            Self::Reply => "no reply",
        })
    }
}

/// Why a failed call was not tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stopped {
    /// Trying again could not change the answer, or was not asked for.
    Final,
    /// It may have run, it was not marked [idempotent](crate::Request::idempotent), and the server keeps no
    /// [replies](crate::ServerBuilder::reply_cache) by which it could know the call again.
    NotIdempotent,
    /// It may have run, and the server process that would know was replaced.
    InstanceChanged,
    /// The policy's [predicate](crate::Retry::only_if) said no.
    Declined,
    /// All [attempts](crate::Retry::attempts) were used.
    AttemptsSpent,
    /// The pool's retry [budget](crate::Retry::budget) has nothing left: most calls fail at the moment, and
    /// retrying them all would make it worse.
    BudgetSpent,
    /// The deadline left no time.
    Deadline,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Final => "another attempt would not change it",
            Self::NotIdempotent => "it was not marked idempotent",
            Self::InstanceChanged => "the server process that would know it was replaced",
            Self::Declined => "the policy's predicate said no",
            Self::AttemptsSpent => "all attempts were used",
            Self::BudgetSpent => "the retry budget is spent",
            Self::Deadline => "its deadline left no time",
        })
    }
}

/// The bound that a call met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Overload {
    /// As many calls as [`Limits::waiting`](crate::Limits::waiting) allows wait for a connection.
    #[error("this side is overloaded: as many calls wait for a connection as may, {limit}")]
    Waiting {
        /// The bound.
        limit: usize,
    },
    /// The bodies of the calls that wait for a connection, or those that wait to be sent on each one that could take the
    /// call, have reached [`Limits::queued_bytes`](crate::Limits::queued_bytes).
    #[error(
        "this side is overloaded: with this request more than {limit} bytes would wait to be sent"
    )]
    Bytes {
        /// The bound in bytes.
        limit: usize,
    },
    /// The server owes an answer under each id that the protocol has for the calls of a connection. No place is without one,
    /// so mostly an [`on_connect`](crate::PoolBuilder::on_connect) hook has left calls without waiting for their answers.
    #[error("this side is overloaded: all {limit} ids of the connection wait for answers")]
    Ids {
        /// How many there are.
        limit: u64,
    },
}
