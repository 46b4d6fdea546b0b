//! Two rights of a call, given back when they are dropped: its id, and its place on a connection.

use crate::proto::ledger::Place;
use crate::roster::Fate;
use crate::switchboard::Switchboard;

/// A call's id. When it is dropped the call is settled for good.
#[derive(Debug)]
pub(crate) struct Issued<'a> {
    board: &'a Switchboard,
    pub(crate) id: u64,
    /// All calls with smaller ids are settled.
    pub(crate) oldest: u64,
    fate: Fate,
}

impl<'a> Issued<'a> {
    pub(crate) fn new(board: &'a Switchboard) -> Self {
        let (id, oldest) = board.issue();
        Self { board, id, oldest, fate: Fate::Failed }
    }

    /// The call succeeded.
    pub(crate) fn succeed(mut self) {
        self.fate = Fate::Succeeded;
    }
}

impl Drop for Issued<'_> {
    fn drop(&mut self) {
        self.board.finish(self.id, self.fate);
    }
}

/// A call's place.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    board: &'a Switchboard,
    place: Option<Place>,
}

impl<'a> Held<'a> {
    pub(crate) fn new(board: &'a Switchboard, place: Place) -> Self {
        Self { board, place: Some(place) }
    }
}

impl Held<'_> {
    /// The connection gives the place back, when the call's answer has come.
    pub(crate) fn leave_to_connection(&mut self) {
        self.place = None;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.board.release(place);
        }
    }
}
