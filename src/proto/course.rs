//! What a call has been through: whether it may have run, and what follows for its id, its next connection, and its
//! outcome in the end.
//!
//! ```text
//!   fresh ── did not run ──► fresh, with a new id, anywhere
//!     │ lost after it had left
//!     ▼
//!   may have run ── whatever comes ──► may have run, with the same id; unless running it twice is
//!                                      harmless, only on the process that would know it
//! ```

use std::sync::Arc;

use crate::error::call::{CallCause, Outcome};
use crate::error::instance::InstanceId;
use crate::error::loss::Loss;
use crate::proto::calling::Kind;
use crate::proto::resume::{Memory, Resume};
use crate::proto::retry::Repeat;

/// An attempt that failed.
pub(crate) type Failed = (Outcome, CallCause);

/// The process at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerProcess {
    /// `None` where the protocol does not tell.
    pub(crate) instance: Option<InstanceId>,
    pub(crate) memory: ServerMemory,
}

impl ServerProcess {
    /// What calls that may have run are held to. A process that remembers nothing has the number 0: no call is sent to it again, but
    /// by it one can tell that the process was replaced. `None` where the protocol does not tell processes apart.
    pub(crate) fn identity(&self) -> Option<Memory> {
        let number = match self.memory {
            ServerMemory::ReplyCache { number } => number,
            ServerMemory::None => 0,
        };
        Some(Memory { instance: self.instance?, number })
    }
}

/// Whether a server knows a call again that is sent to it twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerMemory {
    /// Each time that the process begins to remember the client anew, the number is greater.
    ReplyCache {
        number: u64,
    },
    None,
}

/// What a call is, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Running it twice may do harm.
    Once,
    /// Running it twice is harmless.
    Repeatable,
    /// Nothing answers it.
    Notification,
}

/// Where an attempt was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) slot: usize,
    pub(crate) connection: u64,
    pub(crate) server: ServerProcess,
}

/// One call's course over its attempts.
#[derive(Debug)]
pub(crate) struct Course {
    form: Form,
    last: Option<Attempt>,
    may_have_run: Option<Arc<Loss>>,
    was_refused: bool,
}

impl Course {
    pub(crate) fn new(form: Form) -> Self {
        Self { form, last: None, may_have_run: None, was_refused: false }
    }

    #[cfg(test)]
    pub(crate) fn form(&self) -> Form {
        self.form
    }

    pub(crate) fn last(&self) -> Option<Attempt> {
        self.last
    }

    /// An attempt was made and failed.
    pub(crate) fn failed(&mut self, attempt: Attempt, failed: &Failed) {
        self.last = Some(attempt);
        self.was_refused |= failed.0 == Outcome::Refused;
        if let (Outcome::Indeterminate, CallCause::Lost(loss)) = failed {
            self.may_have_run = Some(loss.clone());
        }
    }

    /// Whether it keeps its id: an id stands for one call that runs, so what did not run gets another one.
    pub(crate) fn may_have_run(&self) -> bool {
        self.may_have_run.is_some()
    }

    /// How the connection died on which it may have run.
    pub(crate) fn loss(&self) -> Option<&Arc<Loss>> {
        self.may_have_run.as_ref()
    }

    /// Where it must go, and how the connection died on which it may have run. `None`: anywhere.
    pub(crate) fn resume(&self) -> Option<(Resume, &Arc<Loss>)> {
        let loss = self.may_have_run.as_ref().filter(|_| self.form == Form::Once)?;
        let Attempt { slot, connection, server } = self.last?;
        Some((Resume { memory: server.identity()?, slot, connection }, loss))
    }

    /// What its next attempt is on the wire.
    pub(crate) fn kind(&self) -> Kind {
        let resent = self.may_have_run();
        match self.form {
            Form::Notification => Kind::Notification,
            Form::Once => Kind::Request { repeatable: false, resent },
            Form::Repeatable => Kind::Request { repeatable: true, resent },
        }
    }

    /// What sending it again would do.
    pub(crate) fn repeat(&self) -> Repeat {
        match (self.form, self.last.map(|last| last.server.memory)) {
            (Form::Repeatable, _) => Repeat::Harmless,
            (Form::Once, Some(ServerMemory::ReplyCache { .. })) => Repeat::Deduplicated,
            _ => Repeat::Harmful,
        }
    }

    /// The call's outcome, if that of the last attempt is this: an earlier one may have run, or have been sent and refused.
    pub(crate) fn outcome(&self, last: Outcome) -> Outcome {
        match last {
            Outcome::NotSent | Outcome::Refused if self.may_have_run() => Outcome::Indeterminate,
            Outcome::NotSent if self.was_refused => Outcome::Refused,
            _ => last,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::answer::Refusal;
    use crate::error::loss::LossCause;

    fn attempt() -> Attempt {
        let server = ServerProcess { instance: None, memory: ServerMemory::None };
        Attempt { slot: 0, connection: 1, server }
    }

    #[test]
    fn the_outcome_is_that_of_the_attempt_that_came_furthest() {
        let mut course = Course::new(Form::Repeatable);
        assert_eq!(course.outcome(Outcome::NotSent), Outcome::NotSent);
        let refusal = CallCause::Refused(Refusal::new(Refusal::OVERLOADED));
        course.failed(attempt(), &(Outcome::Refused, refusal));
        assert_eq!(course.outcome(Outcome::NotSent), Outcome::Refused, "it was sent");
        let loss = CallCause::Lost(Arc::new(Loss::example(LossCause::ClosedByPeer)));
        course.failed(attempt(), &(Outcome::Indeterminate, loss));
        for last in [Outcome::NotSent, Outcome::Refused] {
            assert_eq!(course.outcome(last), Outcome::Indeterminate);
        }
    }
}
