//! What waits to be written, in which order, and what of it has left.
//!
//! ```text
//!  control frames ─┐ first
//!  small messages ─┼─ pages of whole frames, in order ──┐
//!  long messages  ─┘ one part each, in turns ───────────┴─► handed to the shell ─► accepted by `write`
//! ```
//!
//! A message is long if it has more than one frame, which a foreign protocol's never has, however many bytes. Small messages are
//! gathered in pages that end where a frame ends; one that is not copied has a page to itself. A page can still lose a message
//! while it waits here; once it is handed to the shell it goes out whole. So "was the last byte of this message accepted?" has an
//! exact answer at every moment, without any work per message on the way out.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::proto::head::{
    ChunkHead, Head, MAX_HEAD, MAX_PART, MAX_UNFINISHED, Position, RequestHead,
};
use crate::proto::outgoing::allowance::Allowance;
use crate::proto::outgoing::page::Page;

mod allowance;
mod page;

/// A page is closed when it has so many bytes.
const PAGE: usize = 64 * 1024;
/// Of the long messages so many take turns part by part: few, because what has begun lies half in memory at the other end, ...
const IN_TURN: usize = 2;
/// ... until one has had so many bytes, and goes behind all others that have begun.
const SHARE: usize = 16 * MAX_PART;
/// A body at least so long is not copied into a page but handed over as it is.
const BY_REFERENCE: usize = 16 * 1024;
/// There is room for so many heads at a time.
const HEADS: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    control: BytesMut,
    /// Closed pages, the oldest first.
    closed: VecDeque<Page>,
    /// The page that grows.
    open: Page,
    /// The number of the oldest page that is still here.
    first_page: u64,
    /// Pages that were thrown away: nothing of them went out or will.
    discarded: Range<u64>,
    /// Long messages. Of the first [`MAX_UNFINISHED`] each begins, then [`IN_TURN`] at a time go on.
    long: VecDeque<Long>,
    /// Long messages whose last byte `write` has not accepted.
    long_unsent: Vec<u64>,
    /// Whether a long message has the next turn, when both kinds wait.
    turn_of_long: bool,
    in_hand: VecDeque<Handed>,
    in_hand_bytes: usize,
    allowance: Allowance,
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
    Small { page: u64, start: usize, end: usize },
    Long,
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

#[derive(Debug)]
struct Long {
    head: Head,
    body: Bytes,
    handed: usize,
}

#[derive(Debug)]
struct Handed {
    what: What,
    length: usize,
    written: usize,
}

#[derive(Debug)]
enum What {
    Control,
    Page {
        number: u64,
        dead: Vec<Range<usize>>,
    },
    /// The part with the last byte of a long message.
    LastPart {
        id: u64,
    },
    Part,
}

impl Outgoing {
    /// The place where control frames are written; they overtake everything that has not been handed over.
    pub(crate) fn control(&mut self) -> &mut BytesMut {
        &mut self.control
    }

    /// Queues a message.
    pub(crate) fn message(&mut self, head: Head, body: &Bytes) -> Mark {
        if body.len() > MAX_PART {
            self.queued_bytes += body.len();
            self.long_unsent.push(head.id());
            self.long.push_back(Long { head, body: body.clone(), handed: 0 });
            return Mark::Long;
        }
        let request = match head {
            Head::Request(RequestHead { id, .. }) => Some(id),
            _ => None,
        };
        self.whole(request, |out| head.put(None, body.len(), out), body)
    }

    /// Queues a request that is one frame, however long.
    pub(crate) fn request(&mut self, id: u64, head: &[u8], rest: &Bytes) -> Mark {
        self.whole(Some(id), |out| out.extend_from_slice(head), rest)
    }

    /// Queues a message of one frame: in order among its like, it takes no turns with those of many frames, and waits for none of
    /// them.
    fn whole(
        &mut self,
        request: Option<u64>,
        head: impl FnOnce(&mut BytesMut),
        rest: &Bytes,
    ) -> Mark {
        if rest.len() >= BY_REFERENCE {
            return self.by_reference(request, head, rest);
        }
        if let Some(id) = request {
            self.open.requests.push((self.open.bytes.len(), id));
        }
        self.small(|out| {
            head(out);
            out.extend_from_slice(rest);
        })
    }

    /// A page with one message alone.
    fn by_reference(
        &mut self,
        request: Option<u64>,
        head: impl FnOnce(&mut BytesMut),
        rest: &Bytes,
    ) -> Mark {
        if !self.open.bytes.is_empty() {
            let page = self.open.split();
            self.closed.push_back(page);
        }
        let page = self.first_page + self.closed.len() as u64;
        let heads = self.heads();
        head(heads);
        let (bytes, rest) = (heads.split(), Some(rest.clone()));
        let requests = request.into_iter().map(|id| (0, id)).collect();
        let alone = Page { bytes, rest, requests, dead: Vec::new() };
        let end = alone.length();
        self.queued_bytes += end;
        self.closed.push_back(alone);
        Mark::Small { page, start: 0, end }
    }

    /// Room for a head.
    fn heads(&mut self) -> &mut BytesMut {
        if self.heads.capacity() < MAX_HEAD {
            self.heads.reserve(HEADS * MAX_HEAD);
        }
        &mut self.heads
    }

    /// Queues one whole frame among the small messages.
    pub(crate) fn small(&mut self, write: impl FnOnce(&mut BytesMut)) -> Mark {
        let page = self.first_page + self.closed.len() as u64;
        let start = self.open.bytes.len();
        write(&mut self.open.bytes);
        let end = self.open.bytes.len();
        self.queued_bytes += end - start;
        if end >= PAGE {
            let page = self.open.split();
            self.closed.push_back(page);
        }
        Mark::Small { page, start, end }
    }

    /// Takes back a message, as far as that is still possible.
    pub(crate) fn withdraw(&mut self, id: u64, mark: Mark) -> Withdrawn {
        match mark {
            Mark::Small { page, .. } if self.discarded.contains(&page) => Withdrawn::Unseen,
            Mark::Small { page, start, end } => {
                let Some(index) = page.checked_sub(self.first_page) else {
                    return Withdrawn::TooLate;
                };
                let page = match self.closed.get_mut(index as usize) {
                    Some(page) => page,
                    None => &mut self.open,
                };
                self.queued_bytes -= end - start;
                match page.rest.take() {
                    Some(rest) => {
                        self.spent.push(rest);
                        *page = Page::default();
                    }
                    None => page.dead.push(start..end),
                }
                Withdrawn::Unseen
            }
            Mark::Long => {
                let Some(at) = self.long.iter().position(|long| long.head.id() == id) else {
                    return Withdrawn::TooLate;
                };
                self.long_unsent.retain(|unsent| *unsent != id);
                match self.long.remove(at) {
                    Some(Long { body, handed, .. }) => {
                        self.queued_bytes -= body.len() - handed;
                        self.spent.push(body);
                        if handed == 0 { Withdrawn::Unseen } else { Withdrawn::Begun }
                    }
                    None => Withdrawn::TooLate,
                }
            }
        }
    }

    /// Whether `write` has accepted the last byte of a message (that was not withdrawn).
    pub(crate) fn is_sent(&self, id: u64, mark: Mark) -> bool {
        let (page, end) = match mark {
            Mark::Long => return !self.long_unsent.contains(&id),
            Mark::Small { page, end, .. } => (page, end),
        };
        if page >= self.first_page || self.discarded.contains(&page) {
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

    /// Hands over what should be written next, as long as the shell does not hold enough.
    pub(crate) fn transmit(&mut self, out: &mut VecDeque<Bytes>) {
        while self.allowance.has_room(self.in_hand_bytes) && self.hand_next(out) {}
        self.allowance.filled(self.in_hand_bytes);
    }

    /// False if there is nothing.
    fn hand_next(&mut self, out: &mut VecDeque<Bytes>) -> bool {
        if !self.control.is_empty() {
            self.transmit_control(out);
        } else if self.has_pages() && (self.long.is_empty() || !self.turn_of_long) {
            self.turn_of_long = true;
            self.hand_page(out);
        } else if !self.long.is_empty() {
            self.turn_of_long = false;
            self.hand_part(out);
        } else {
            return false;
        }
        true
    }

    /// Hands over control frames alone.
    pub(crate) fn transmit_control(&mut self, out: &mut VecDeque<Bytes>) {
        if !self.control.is_empty() {
            let bytes = self.control.split().freeze();
            self.hand(What::Control, [bytes], out);
        }
    }

    /// `write` accepted so many bytes of what was handed over.
    pub(crate) fn written(&mut self, mut bytes: usize) {
        self.in_hand_bytes -= bytes;
        self.allowance.learn(bytes, self.in_hand_bytes);
        while let Some(first) = self.in_hand.front_mut() {
            let left = first.length - first.written;
            if bytes < left {
                first.written += bytes;
                return;
            }
            bytes -= left;
            if let What::LastPart { id } = first.what {
                self.long_unsent.retain(|unsent| *unsent != id);
            }
            self.in_hand.pop_front();
        }
    }

    /// Throws away all that waits here. None of it counts as sent, now or later.
    pub(crate) fn discard(&mut self) {
        self.control.clear();
        let next = self.first_page + self.closed.len() as u64 + 1;
        // Behind one there can be another, but nothing goes out in between.
        let first = if self.discarded.is_empty() { self.first_page } else { self.discarded.start };
        self.discarded = first..next;
        self.first_page = next;
        self.spent.extend(self.closed.drain(..).filter_map(|page| page.rest));
        self.open = Page::default();
        self.spent.extend(self.long.drain(..).map(|long| long.body));
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

    /// Whether there is more than control frames, here or in the shell's hands.
    pub(crate) fn has_messages(&self) -> bool {
        let is_message = |handed: &Handed| !matches!(handed.what, What::Control);
        self.has_queued_messages() || self.in_hand.iter().any(is_message)
    }

    /// Whether the shell holds bytes that `write` has not accepted.
    pub(crate) fn is_in_hand(&self) -> bool {
        !self.in_hand.is_empty()
    }

    fn has_queued(&self) -> bool {
        !self.control.is_empty() || self.has_queued_messages()
    }

    fn has_queued_messages(&self) -> bool {
        self.has_pages() || !self.long.is_empty()
    }

    /// Bytes that wait here and have not been handed over.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes + self.control.len()
    }

    fn has_pages(&self) -> bool {
        !self.closed.is_empty() || !self.open.bytes.is_empty()
    }

    fn hand_page(&mut self, out: &mut VecDeque<Bytes>) {
        let mut page = self.closed.pop_front().unwrap_or_else(|| self.open.split());
        page.dead.sort_by_key(|range| range.start);
        let number = self.first_page;
        self.first_page += 1;
        let gone: usize = page.dead.iter().map(ExactSizeIterator::len).sum();
        self.queued_bytes -= page.length() - gone;
        self.begun.extend(page.live_requests());
        self.open.reuse(&mut page.requests);
        let rest = page.rest.take();
        let (bytes, dead) = page.compact();
        match rest {
            Some(rest) => self.hand(What::Page { number, dead }, [bytes, rest], out),
            None if bytes.is_empty() => {}
            None => self.hand(What::Page { number, dead }, [bytes], out),
        }
    }

    fn hand_part(&mut self, out: &mut VecDeque<Bytes>) {
        let Some(mut long) = self.long.pop_front() else {
            return;
        };
        let id = long.head.id();
        let start = long.handed;
        let end = long.body.len().min(start + MAX_PART);
        let position = match end == long.body.len() {
            true => Position::Last,
            false => Position::Inner,
        };
        let head = self.heads();
        match start {
            0 => {
                long.head.put(Some(long.body.len() as u32), end, head);
                if matches!(long.head, Head::Request(_)) {
                    self.begun.push(id);
                }
            }
            _ => ChunkHead { id, position, length: end - start }.put(head),
        }
        self.queued_bytes -= end - start;
        let pieces = [self.heads.split().freeze(), long.body.slice(start..end)];
        match position {
            Position::Last => self.hand(What::LastPart { id }, pieces, out),
            Position::Inner => {
                self.hand(What::Part, pieces, out);
                long.handed = end;
                // The first parts of all go out first: whoever is to be refused hears of it early.
                let in_turn = if start == 0 || end % SHARE == 0 { MAX_UNFINISHED } else { IN_TURN };
                let place = self.long.len().min(in_turn - 1);
                self.long.insert(place, long);
            }
        }
    }

    fn hand<const N: usize>(&mut self, what: What, pieces: [Bytes; N], out: &mut VecDeque<Bytes>) {
        let length = pieces.iter().map(Bytes::len).sum();
        self.in_hand_bytes += length;
        self.in_hand.push_back(Handed { what, length, written: 0 });
        out.extend(pieces);
    }
}

#[cfg(test)]
mod tests;
