//! A slot's connection, as those see it who are given a place on it.

use std::sync::Arc;

use crate::connection::Connection;
use crate::proto::calling::Calling;
use crate::proto::course::ServerProcess;
use crate::proto::foreign::Foreign;
use crate::proto::ledger::Place;
use crate::proto::resume::{Memory, Seen};
use crate::proto::speech::Speech;

/// A place and the connection that it is on.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) place: Place,
    pub(crate) link: Arc<Link>,
}

/// What only a connection has that speaks a foreign protocol.
#[derive(Debug)]
pub(crate) struct ForeignEnd {
    /// The same connection, to be lent.
    pub(crate) connection: Connection<Foreign>,
    /// How its frames are made.
    pub(crate) speech: Arc<Speech>,
}

/// A connection that takes calls.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) connection: Connection<dyn Calling>,
    /// `None`: it speaks `Native`.
    pub(crate) foreign: Option<Arc<ForeignEnd>>,
    pub(crate) number: u64,
    pub(crate) server: ServerProcess,
}

impl Link {
    pub(super) fn leads_to(&self, memory: Memory) -> bool {
        self.server.identity() == Some(memory)
    }

    pub(super) fn seen_at(&self, slot: usize) -> Option<Seen> {
        let memory = self.server.identity()?;
        Some(Seen { slot, connection: self.number, memory })
    }
}
