//! What a dialect makes of bodies and of bytes. Callers and the connection's owner share it, and use it outside of every
//! lock: a dialect is the user's code.
//!
//! ```text
//!   body ──► request, notification, plain ──► Spoken ──► the session        (the caller's task)
//!   bytes ──► read, for an Addressee ──► Understood ──► the session         (the owner's task)
//! ```
//!
//! The session says whose what arrives next is ([`Speech::address`]); that is all that changes here, beside the names that
//! are given.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};

use crate::error::config::ConfigError;
use crate::error::loss::LossCause;
use crate::error::unsendable::Unsendable;
use crate::error::violation::Violation;
use crate::policy::number;
use crate::proto::dialect::{Dialect, Matching, Meaning};
use crate::proto::framing::Framing;

/// Most heads are shorter.
const HEAD: usize = 64;
/// So many answers may be missing for good before the connection is given up, if there are ids enough.
const MISSING: u64 = 4096;

pub(crate) struct Speech {
    dialect: Box<dyn Dialect>,
    framing: Framing,
    matching: Matching,
    has_pushes: bool,
    /// Names have been given up to here.
    names: AtomicU64,
    /// The frame by which the peer is asked for a sign of life. There is only one, and its id is kept for it.
    ping: Option<Spoken>,
    /// For whom is what arrives. In one number, so that it changes at once.
    addressee: AtomicU64,
}

/// For whom is what arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Addressee {
    /// For calls: the dialect says what it means.
    Calls,
    /// For this one of the connection's leases, counted from 1: the dialect does not know what it means.
    Lease(u64),
    /// For this lease, behind the answer to a ping.
    PongThenLease(u64),
    /// For nobody any more.
    Nobody,
}

impl Addressee {
    fn lease(self) -> Option<u64> {
        match self {
            Self::Lease(number) | Self::PongThenLease(number) => Some(number),
            Self::Calls | Self::Nobody => None,
        }
    }

    fn code(self) -> u64 {
        match self {
            Self::Calls => 0,
            Self::Nobody => 1,
            Self::Lease(number) => number << 1,
            Self::PongThenLease(number) => number << 1 | 1,
        }
    }

    fn of(code: u64) -> Self {
        match (code >> 1, code & 1) {
            (0, 0) => Self::Calls,
            (0, _) => Self::Nobody,
            (number, 0) => Self::Lease(number),
            (number, _) => Self::PongThenLease(number),
        }
    }
}

/// A frame, ready to be written.
#[derive(Debug, Clone)]
pub(crate) struct Spoken {
    pub(crate) head: BytesMut,
    pub(crate) rest: Bytes,
}

/// Frames that have arrived.
#[derive(Debug, Default)]
pub(crate) struct Understood {
    pub(crate) frames: VecDeque<Arrived>,
    /// Bytes of a frame that is not whole yet.
    pub(crate) rest: usize,
    /// The lease for which all of it is, if it is a lease's: that which had the connection when it was read.
    pub(crate) lease: Option<u64>,
    /// What is wrong with the frame behind those.
    pub(crate) broken: Option<LossCause>,
}

#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) frame: Bytes,
    /// `None` if it is a lease's, and cannot be the answer to a ping.
    pub(crate) meaning: Option<Meaning>,
}

impl Speech {
    /// `limit` bounds the bodies, beside the framing's own.
    pub(crate) fn new(dialect: Box<dyn Dialect>, limit: usize) -> Result<Self, ConfigError> {
        let (framing, matching) = (dialect.framing(), dialect.matching());
        let has_pushes = dialect.has_pushes();
        framing.check()?;
        match matching {
            Matching::InOrder { pipeline } => {
                number("pipeline", pipeline as u64, 1..=1_000_000)?;
            }
            Matching::ById { min, max } => {
                number("least id", min, 0..=u64::MAX - 1)?;
                number("greatest id", max, min + 1..=u64::MAX)?;
            }
        }
        let framing = framing.at_most(limit);
        let mut speech = Self {
            dialect,
            framing,
            matching,
            has_pushes,
            names: AtomicU64::new(0),
            ping: None,
            addressee: AtomicU64::new(Addressee::Calls.code()),
        };
        speech.ping = match speech.dialect.ping(speech.ping_id()) {
            Some(frame) => Some(speech.plain(frame).map_err(ConfigError::Ping)?),
            None => None,
        };
        Ok(speech)
    }

    pub(crate) fn framing(&self) -> &Framing {
        &self.framing
    }

    pub(crate) fn has_pushes(&self) -> bool {
        self.has_pushes
    }

    pub(crate) fn matching(&self) -> Matching {
        self.matching
    }

    /// How many calls a connection can carry at a time.
    pub(crate) fn capacity(&self) -> usize {
        match self.matching {
            Matching::InOrder { pipeline } => pipeline,
            Matching::ById { .. } => {
                usize::try_from(self.ids()).unwrap_or(usize::MAX) - self.spare_ids()
            }
        }
    }

    /// So many ids no call can use any more, because their answers are missing for good, and there are still enough. One
    /// missing answer more, and the connection is given up.
    pub(crate) fn spare_ids(&self) -> usize {
        match self.matching {
            Matching::InOrder { .. } => 0,
            Matching::ById { .. } => (self.ids() / 8).min(MISSING) as usize,
        }
    }

    /// A name for a call, which no other call of the connection ever has.
    pub(crate) fn name(&self) -> u64 {
        self.names.fetch_add(1, Ordering::Relaxed)
    }

    /// The id by which the server knows the call of this name. Another call may have it, or may have had it.
    pub(crate) fn id_of(&self, name: u64) -> u64 {
        match self.matching {
            Matching::InOrder { .. } => name,
            // The greatest is the ping's.
            Matching::ById { min, max } => min + name % (max - min),
        }
    }

    /// How many ids there are for calls.
    pub(crate) fn ids(&self) -> u64 {
        match self.matching {
            Matching::InOrder { .. } => u64::MAX,
            Matching::ById { min, max } => max - min,
        }
    }

    pub(crate) fn ping_id(&self) -> u64 {
        match self.matching {
            Matching::InOrder { .. } => u64::MAX,
            Matching::ById { max, .. } => max,
        }
    }

    pub(crate) fn ping(&self) -> Option<&Spoken> {
        self.ping.as_ref()
    }

    /// The frame of a call.
    pub(crate) fn request(&self, name: u64, body: Bytes) -> Result<Spoken, Unsendable> {
        self.speak(|head| self.dialect.request(self.id_of(name), body, head))
    }

    /// The frame of a message that is not answered.
    pub(crate) fn notification(&self, body: Bytes) -> Result<Spoken, Unsendable> {
        self.speak(|head| self.dialect.notification(body, head))
    }

    /// A frame as it is.
    pub(crate) fn plain(&self, content: Bytes) -> Result<Spoken, Unsendable> {
        self.speak(|_| Ok(content))
    }

    fn speak(
        &self,
        content: impl FnOnce(&mut BytesMut) -> Result<Bytes, Unsendable>,
    ) -> Result<Spoken, Unsendable> {
        let mut head = BytesMut::with_capacity(HEAD);
        self.framing.begin(&mut head);
        let mut rest = content(&mut head)?;
        // The framing fills the length in, so all that is before it must be in one piece.
        let missing = self.framing.head().saturating_sub(head.len()).min(rest.len());
        head.extend_from_slice(&rest.split_to(missing));
        self.framing.end(0, rest.len(), &mut head)?;
        Ok(Spoken { head, rest })
    }

    /// From now on, what is read is for them.
    pub(crate) fn address(&self, addressee: Addressee) {
        self.addressee.store(addressee.code(), Ordering::Release);
    }

    /// Cuts the frames off the front of what has arrived, and says what they mean.
    pub(crate) fn read(&self, input: &mut BytesMut, understood: &mut Understood) {
        let addressee = Addressee::of(self.addressee.load(Ordering::Acquire));
        if addressee == Addressee::Nobody {
            input.clear();
        }
        loop {
            match self.next(addressee, input) {
                Ok(Some(arrived)) => understood.frames.push_back(arrived),
                Ok(None) => break,
                Err(cause) => {
                    understood.broken = Some(cause);
                    break;
                }
            }
        }
        understood.rest = input.len();
        understood.lease = addressee.lease();
    }

    fn next(
        &self,
        addressee: Addressee,
        input: &mut BytesMut,
    ) -> Result<Option<Arrived>, LossCause> {
        let Some(frame) = self.framing.next(input)? else {
            return Ok(None);
        };
        let meaning = match addressee {
            Addressee::Lease(_) | Addressee::Nobody => None,
            Addressee::Calls => Some(self.meaning(&frame)??),
            // What the dialect does not know is the lease's.
            Addressee::PongThenLease(_) => self.meaning(&frame)?.ok(),
        };
        Ok(Some(Arrived { frame, meaning }))
    }

    fn meaning(&self, frame: &Bytes) -> Result<Result<Meaning, Violation>, Violation> {
        let received = AssertUnwindSafe(|| self.dialect.received(frame.clone()));
        catch_unwind(received).map_err(|_panic| Violation::DialectPanicked)
    }
}

impl fmt::Debug for Speech {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Speech")
            .field("framing", &self.framing)
            .field("matching", &self.matching)
            .finish_non_exhaustive()
    }
}
