//! What has arrived on a connection, on its way from the socket to the session.
//!
//! ```text
//!   the socket ──► bytes ─────────────────────────────────────────► a session that takes its frames off them itself
//!                    └──► Speech (outside the lock) ──► frames ──► one whose frames a dialect makes sense of
//! ```

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::error::loss::LossCause;
use crate::proto::dialect::Meaning;
use crate::proto::landing::Landing;

#[derive(Debug, Default)]
pub(crate) struct Input {
    /// What no frame was made of yet.
    pub(crate) bytes: BytesMut,
    /// What comes next, if that is the rest of a long part.
    pub(crate) landing: Option<Landing>,
    /// What came before those, if a dialect has seen it.
    pub(crate) frames: VecDeque<Arrived>,
    /// The lease for which all of it is, if it is a lease's: that which had the connection when it was read.
    pub(crate) lease: Option<u64>,
    /// What is wrong with the frame behind those.
    pub(crate) broken: Option<LossCause>,
}

/// A frame.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) frame: Bytes,
    /// `None` if it is a lease's, and cannot be the answer to a ping.
    pub(crate) meaning: Option<Meaning>,
}

impl Input {
    /// Nobody makes anything of it any more.
    pub(crate) fn discard(&mut self) {
        self.bytes.clear();
        self.landing = None;
    }
}

impl From<BytesMut> for Input {
    fn from(bytes: BytesMut) -> Self {
        Self { bytes, ..Self::default() }
    }
}
