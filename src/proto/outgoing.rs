//! What waits to be written, in which order, and what of it has left.
//!
//! ```text
//!  control frames ──────────── before all others ────────────┐
//!  small messages ──────────── pages, in order ────┐         │
//!  messages of one long frame ─ one each, in order ─┼─ turns ─┴─► handed to the shell ─► accepted by `write`
//!  messages of many frames ─── one part each ──────┘
//! ```
//!
//! Small messages are copied into pages, which end where a frame ends; longer ones stay where they are, apart. Of the three kinds
//! that take turns, each that waits hands over one page, one message or one part: so none waits for more than a few of those of
//! the others, however many there are.
//!
//! A foreign protocol's frames take no turns among themselves: all of them go by pages, because their order says whose an answer
//! is. One that is too long to be copied has a page to itself.
//!
//! A page can still lose a message while it waits here; once it is handed to the shell it goes out whole. So "was the last byte of
//! this message accepted?" has an exact answer at every moment, without any work per message on the way out. The bytes of a message
//! that was lost stay until their page goes, and count as long as they are here; a page that has lost all of its messages goes at
//! once.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::proto::head::{Head, MAX_HEAD, MAX_PART};
use crate::proto::id_map::{IdMap, IdSet};
use crate::proto::outgoing::allowance::Allowance;
use crate::proto::outgoing::handing::{Handed, Turn, What};
use crate::proto::outgoing::page::Page;

mod allowance;
mod handing;
mod page;

/// A page is closed when it has so many bytes.
const PAGE: usize = 64 * 1024;
/// A body at least so long is not copied into a page but handed over as it is.
const BY_REFERENCE: usize = 16 * 1024;
/// There is room for so many heads at a time.
const HEADS: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    control: BytesMut,
    /// Closed pages, the oldest first. Each has a message that was not withdrawn.
    closed: VecDeque<Page>,
    /// The page that grows.
    open: Page,
    /// Pages that were thrown away: nothing of them went out or will.
    discarded: Range<u64>,
    /// Messages apart that were thrown away.
    discarded_apart: IdMap<Withdrawn>,
    /// Messages of one frame each that are not copied.
    single: VecDeque<Apart>,
    /// Messages of many frames, in the order of their turns.
    long: VecDeque<Apart>,
    /// Messages apart whose last byte `write` has not accepted.
    apart_unsent: IdSet,
    turn: Turn,
    /// `write` has failed: nothing goes out any more, also of what is in hand.
    is_broken: bool,
    in_hand: VecDeque<Handed>,
    in_hand_bytes: usize,
    allowance: Allowance,
    /// All that waits in pages, withdrawn or not, and what has not been handed over of the bodies apart.
    queued_bytes: usize,
    /// Requests whose first frames were handed over since the last [`take_begun`](Self::take_begun), in that order.
    begun: Vec<u64>,
    /// Where heads of what is not copied are written: many behind one another, so that not each of them allocates.
    heads: BytesMut,
    /// Bodies that are not needed any more. Dropping one may run code of the user's, which must not happen here.
    spent: Vec<Bytes>,
}

/// Where the last byte of a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    InPage {
        page: u64,
        start: usize,
        end: usize,
    },
    /// In no page: it is found by its id.
    Apart,
}

/// How much of a message that nobody wants any more has gone out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Withdrawn {
    /// Nothing, and nothing will.
    Unseen,
    /// Its beginning. The rest will not, so the peer should be told.
    Begun,
    /// All of it has gone out or will.
    TooLate,
}

/// A message that is not copied.
#[derive(Debug)]
struct Apart {
    head: Head,
    body: Bytes,
    handed: usize,
}

impl Outgoing {
    /// The place where control frames are written; they overtake everything that has not been handed over.
    pub(crate) fn control(&mut self) -> &mut BytesMut {
        &mut self.control
    }

    /// Queues a message.
    pub(crate) fn message(&mut self, head: Head, body: &Bytes) -> Mark {
        if body.len() < BY_REFERENCE {
            return self.copied(head.request_id(), |out| {
                head.put(None, body.len(), out);
                out.extend_from_slice(body);
            });
        }
        self.queued_bytes += body.len();
        self.apart_unsent.insert(head.id());
        let kind = if body.len() <= MAX_PART { &mut self.single } else { &mut self.long };
        kind.push_back(Apart { head, body: body.clone(), handed: 0 });
        Mark::Apart
    }

    /// Queues a frame of a foreign protocol, however long, behind all that were queued before.
    pub(crate) fn foreign_frame(&mut self, id: u64, head: &[u8], rest: &Bytes) -> Mark {
        if rest.len() < BY_REFERENCE {
            return self.copied(Some(id), |out| {
                out.extend_from_slice(head);
                out.extend_from_slice(rest);
            });
        }
        if self.open.has_messages() {
            self.close();
        }
        let heads = self.heads();
        heads.extend_from_slice(head);
        let bytes = heads.split();
        let alone = self.open.before(bytes, rest.clone(), id);
        let (page, end) = (alone.number, alone.length());
        self.queued_bytes += end;
        self.closed.push_back(alone);
        Mark::InPage { page, start: 0, end }
    }

    /// Queues one whole frame among the small messages.
    pub(crate) fn small(&mut self, write: impl FnOnce(&mut BytesMut)) -> Mark {
        self.copied(None, write)
    }

    /// Writes a message into the open page.
    fn copied(&mut self, request: Option<u64>, write: impl FnOnce(&mut BytesMut)) -> Mark {
        let (page, start) = (self.open.number, self.open.bytes.len());
        self.open.requests.extend(request.map(|id| (start, id)));
        self.open.live += 1;
        write(&mut self.open.bytes);
        let end = self.open.bytes.len();
        self.queued_bytes += end - start;
        if end >= PAGE {
            self.close();
        }
        Mark::InPage { page, start, end }
    }

    /// Lets the open page grow no more.
    fn close(&mut self) {
        let page = self.open.split();
        self.closed.push_back(page);
    }

    /// Room for a head.
    fn heads(&mut self) -> &mut BytesMut {
        if self.heads.capacity() < MAX_HEAD {
            self.heads.reserve(HEADS * MAX_HEAD);
        }
        &mut self.heads
    }

    /// Takes back a message, as far as that is still possible. Not one that was taken back before.
    pub(crate) fn withdraw(&mut self, id: u64, mark: Mark) -> Withdrawn {
        let withdrawn = match mark {
            Mark::InPage { page, .. } if self.discarded.contains(&page) => Withdrawn::Unseen,
            Mark::InPage { page, start, end } => self.withdraw_from_page(page, start..end),
            Mark::Apart => self.withdraw_apart(id),
        };
        match withdrawn {
            Withdrawn::TooLate if self.is_broken && !self.is_sent(id, mark) => Withdrawn::Begun,
            _ => withdrawn,
        }
    }

    /// `write` has failed: what it has not accepted never goes out.
    pub(crate) fn break_off(&mut self) {
        self.is_broken = true;
    }

    fn withdraw_from_page(&mut self, number: u64, range: Range<usize>) -> Withdrawn {
        if number == self.open.number {
            self.open.withdraw(range);
            if !self.open.has_messages() {
                self.queued_bytes -= self.open.length();
                self.open.clear();
            }
            return Withdrawn::Unseen;
        }
        let Ok(index) = self.closed.binary_search_by_key(&number, |page| page.number) else {
            return Withdrawn::TooLate;
        };
        self.closed[index].withdraw(range);
        let gone = if self.closed[index].has_messages() { None } else { self.closed.remove(index) };
        if let Some(page) = gone {
            self.queued_bytes -= page.length();
            self.spent.extend(page.rest);
        }
        Withdrawn::Unseen
    }

    fn withdraw_apart(&mut self, id: u64) -> Withdrawn {
        let removed = [&mut self.single, &mut self.long].into_iter().find_map(|kind| {
            let at = kind.iter().position(|apart| apart.head.id() == id)?;
            kind.remove(at)
        });
        let Some(apart) = removed else {
            return self.discarded_apart.get(&id).copied().unwrap_or(Withdrawn::TooLate);
        };
        self.apart_unsent.remove(&id);
        self.queued_bytes -= apart.body.len() - apart.handed;
        let withdrawn = apart.withdrawn();
        self.spent.push(apart.body);
        withdrawn
    }

    /// Whether `write` has accepted the last byte of a message (that was not withdrawn).
    pub(crate) fn is_sent(&self, id: u64, mark: Mark) -> bool {
        let (page, end) = match mark {
            Mark::Apart => return !self.apart_unsent.contains(&id),
            Mark::InPage { page, end, .. } => (page, end),
        };
        // Those before the first were handed over, or had lost all of their messages.
        if page >= self.first_page() || self.discarded.contains(&page) {
            return false;
        }
        self.in_hand
            .iter()
            .find_map(|handed| match &handed.what {
                What::Page { number, dead } if *number == page => {
                    let gone: usize = dead
                        .iter()
                        .filter(|range| range.end <= end)
                        .map(ExactSizeIterator::len)
                        .sum();
                    Some(handed.written >= end - gone)
                }
                _ => None,
            })
            .unwrap_or(true)
    }

    /// Throws away all that waits here. None of it counts as sent, now or later.
    pub(crate) fn discard(&mut self) {
        self.control.clear();
        // Behind one there can be another, but nothing goes out in between.
        let first =
            if self.discarded.is_empty() { self.first_page() } else { self.discarded.start };
        self.spent.extend(self.closed.drain(..).filter_map(|page| page.rest));
        self.open = self.open.successor();
        self.discarded = first..self.open.number;
        for apart in self.single.drain(..).chain(self.long.drain(..)) {
            self.discarded_apart.insert(apart.head.id(), apart.withdrawn());
            self.spent.push(apart.body);
        }
        self.queued_bytes = 0;
    }

    /// The connection is dead: throws away also what the shell holds.
    pub(crate) fn die(&mut self) {
        self.discard();
        self.in_hand.clear();
        self.in_hand_bytes = 0;
    }

    /// Moves out what is not needed any more.
    pub(crate) fn take_spent(&mut self, spent: &mut Vec<Bytes>) {
        spent.append(&mut self.spent);
    }

    /// The requests that have begun to go out since this was asked last, in the order in which the peer sees them.
    pub(crate) fn take_begun(&mut self) -> impl Iterator<Item = u64> + '_ {
        self.begun.drain(..)
    }

    /// Whether anything waits here or in the shell's hands.
    pub(crate) fn is_empty(&self) -> bool {
        self.in_hand.is_empty() && !self.has_queued()
    }

    /// The messages apart whose last bytes `write` has not accepted.
    pub(crate) fn apart_unsent(&self) -> impl Iterator<Item = u64> + '_ {
        self.apart_unsent.iter().copied()
    }

    /// Whether the shell holds bytes that `write` has not accepted.
    pub(crate) fn is_in_hand(&self) -> bool {
        !self.in_hand.is_empty()
    }

    fn has_queued(&self) -> bool {
        !self.control.is_empty() || self.has_queued_messages()
    }

    fn has_queued_messages(&self) -> bool {
        !self.closed.is_empty()
            || self.open.has_messages()
            || !self.single.is_empty()
            || !self.long.is_empty()
    }

    /// Bytes that are here and have not been handed over, also those of withdrawn messages that have not been freed.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes + self.control.len()
    }

    /// The number of the oldest page that is here.
    fn first_page(&self) -> u64 {
        self.closed.front().map_or(self.open.number, |page| page.number)
    }
}

impl Apart {
    /// How much of it has gone out, if no more does.
    fn withdrawn(&self) -> Withdrawn {
        if self.handed == 0 { Withdrawn::Unseen } else { Withdrawn::Begun }
    }
}

#[cfg(test)]
mod tests;
