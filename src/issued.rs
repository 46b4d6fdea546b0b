//! Two rights of a call, given back when they are dropped: its id, and its place on a connection.

use crate::proto::ledger::Place;
use crate::roster::NewId;
use crate::switchboard::Switchboard;

/// A call's id. When it is dropped the call is settled for good.
#[derive(Debug)]
pub(crate) struct Issued<'a> {
    board: &'a Switchboard,
    pub(crate) id: u64,
    /// All calls with smaller ids are settled.
    pub(crate) oldest: u64,
}

impl<'a> Issued<'a> {
    pub(crate) fn new(board: &'a Switchboard) -> Self {
        Self::of(board, board.issue())
    }

    /// One that was issued together with a place.
    pub(crate) fn of(board: &'a Switchboard, NewId { id, oldest }: NewId) -> Self {
        Self { board, id, oldest }
    }

    /// The call succeeded, and has its place no more.
    pub(crate) fn succeed(self, held: Held<'_>) {
        let place = held.give_up();
        self.board.succeeded(self.id, place);
        std::mem::forget(self);
    }
}

impl Drop for Issued<'_> {
    fn drop(&mut self) {
        self.board.finish(self.id);
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
    /// The place, to be given back by whoever asks.
    fn give_up(mut self) -> Option<Place> {
        self.place.take()
    }

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
