//! What a dialect makes of bodies and of bytes. Callers and the connection's owner share it, and use it outside of every
//! lock: a dialect is the user's code.
//!
//! ```text
//!   body ──► request, notification, plain ──► Spoken ──► the session        (the caller's task)
//!   bytes ──► read, for an Addressee ──► frames ──► the session             (the owner's task)
//! ```
//!
//! The session says whose what arrives next is ([`Speech::address`]); that is all that changes here, beside the names that
//! [`Ids`] gives.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};

use crate::error::config::ConfigError;
use crate::error::loss::LossCause;
use crate::error::unsendable::Unsendable;
use crate::error::violation::Violation;
use crate::panics::caught;
use crate::proto::dialect::{Dialect, Meaning};
use crate::proto::framing::Framing;
use crate::proto::ids::{Ids, Name};
use crate::proto::input::{Arrived, Input};

/// Most heads are shorter.
const HEAD: usize = 64;

pub(crate) struct Speech {
    dialect: Box<dyn Dialect>,
    framing: Framing,
    ids: Ids,
    has_pushes: bool,
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

impl Speech {
    /// `limit` bounds the bodies, beside the framing's own.
    pub(crate) fn new(dialect: Box<dyn Dialect>, limit: usize) -> Result<Self, ConfigError> {
        let (framing, has_pushes) = (dialect.framing(), dialect.has_pushes());
        framing.check()?;
        let ids = Ids::new(dialect.matching())?;
        let framing = framing.at_most(limit);
        let mut speech = Self {
            dialect,
            framing,
            ids,
            has_pushes,
            ping: None,
            addressee: AtomicU64::new(Addressee::Calls.code()),
        };
        speech.ping = match speech.dialect.ping(speech.ids.of_ping().0) {
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

    pub(crate) fn ids(&self) -> &Ids {
        &self.ids
    }

    pub(crate) fn ping(&self) -> Option<&Spoken> {
        self.ping.as_ref()
    }

    /// The frame of a call.
    pub(crate) fn request(&self, name: Name, body: Bytes) -> Result<Spoken, Unsendable> {
        self.speak(|head| self.dialect.request(self.ids.of(name).0, body, head))
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

    /// Cuts the frames off the front of the bytes, and says what they mean.
    pub(crate) fn read(&self, input: &mut Input) {
        let addressee = Addressee::of(self.addressee.load(Ordering::Acquire));
        if addressee == Addressee::Nobody {
            input.bytes.clear();
        }
        loop {
            match self.next(addressee, &mut input.bytes) {
                Ok(Some(arrived)) => input.frames.push_back(arrived),
                Ok(None) => break,
                Err(cause) => {
                    input.broken = Some(cause);
                    break;
                }
            }
        }
        input.lease = addressee.lease();
    }

    fn next(
        &self,
        addressee: Addressee,
        bytes: &mut BytesMut,
    ) -> Result<Option<Arrived>, LossCause> {
        let Some(frame) = self.framing.next(bytes)? else {
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

    fn meaning(&self, frame: &Bytes) -> Result<Result<Meaning, Violation>, LossCause> {
        caught(|| self.dialect.received(frame.clone())).ok_or(LossCause::DialectPanicked)
    }
}

impl fmt::Debug for Speech {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Speech")
            .field("framing", &self.framing)
            .field("ids", &self.ids)
            .finish_non_exhaustive()
    }
}
