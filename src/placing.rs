//! A call's wait for a place: a future that leaves the line when it is dropped.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::proto::ledger::Ticket;
use crate::roster::{NoPlace, Taken, Wish};
use crate::switchboard::Switchboard;

/// The future of a place.
///
/// # Cancel safety
/// Dropping it leaves the line; a place that was handed over at that moment goes to the next.
#[derive(Debug)]
pub(crate) struct Placing<'a> {
    board: &'a Switchboard,
    wish: Wish<'a>,
    ticket: Option<Ticket>,
}

impl<'a> Placing<'a> {
    pub(crate) fn new(board: &'a Switchboard, wish: Wish<'a>) -> Self {
        Self { board, wish, ticket: None }
    }
}

impl Future for Placing<'_> {
    type Output = Result<Taken, NoPlace>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { board, wish, ticket } = &mut *self;
        board.poll_place(*wish, ticket, cx)
    }
}

impl Drop for Placing<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.board.leave(ticket);
        }
    }
}
