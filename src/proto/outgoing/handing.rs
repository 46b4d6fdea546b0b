//! Handing over to the shell what is written next, and what of that `write` has accepted. Each of the kinds of messages has its turn.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::{Apart, Outgoing};
use crate::proto::head::{ChunkHead, MAX_PART, MAX_UNFINISHED, Position};

/// Of the messages of many frames so many take turns part by part: few, because what has begun lies half in memory at the other
/// end, ...
const IN_TURN: usize = 2;
/// ... until one has had so many bytes, and goes behind all others that have begun.
pub(super) const SHARE: usize = 16 * MAX_PART;

/// The kind of messages that hands over next.
#[derive(Debug, Default, Clone, Copy)]
pub(super) enum Turn {
    #[default]
    Pages,
    Single,
    Long,
}

#[derive(Debug)]
pub(super) struct Handed {
    pub(super) what: What,
    length: usize,
    pub(super) written: usize,
}

#[derive(Debug)]
pub(super) enum What {
    Control,
    Page {
        number: u64,
        dead: Vec<Range<usize>>,
    },
    /// The last byte of a message apart, and what of it goes out with that.
    LastPart {
        id: u64,
    },
    Part,
}

impl Outgoing {
    /// Hands over what should be written next, as long as the shell does not hold enough.
    pub(crate) fn transmit(&mut self, out: &mut VecDeque<Bytes>) {
        while self.allowance.has_room(self.in_hand_bytes) && self.hand_next(out) {}
        self.allowance.filled(self.in_hand_bytes);
    }

    /// False if there is nothing.
    fn hand_next(&mut self, out: &mut VecDeque<Bytes>) -> bool {
        if !self.control.is_empty() {
            self.transmit_control(out);
            return true;
        }
        // Asked first, because mostly nothing waits.
        if !self.has_queued_messages() {
            return false;
        }
        // A kind of which nothing waits lets the next have its turn.
        for _ in 0..Turn::KINDS {
            let turn = self.turn;
            self.turn = turn.next();
            let handed = match turn {
                Turn::Pages => self.hand_page(out),
                Turn::Single => {
                    self.single.pop_front().map(|apart| self.hand_part(apart, out)).is_some()
                }
                Turn::Long => {
                    self.long.pop_front().map(|apart| self.hand_part(apart, out)).is_some()
                }
            };
            if handed {
                return true;
            }
        }
        false
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
                self.apart_unsent.remove(&id);
            }
            self.in_hand.pop_front();
        }
    }

    /// False if there is none.
    fn hand_page(&mut self, out: &mut VecDeque<Bytes>) -> bool {
        let mut page = match self.closed.pop_front() {
            Some(page) => page,
            None if self.open.has_messages() => self.open.split(),
            None => return false,
        };
        page.dead.sort_by_key(|range| range.start);
        self.queued_bytes -= page.length();
        self.begun.extend(page.live_requests());
        self.open.reuse(&mut page.requests);
        let (number, rest) = (page.number, page.rest.take());
        let (bytes, dead) = page.compact();
        match rest {
            Some(rest) => self.hand(What::Page { number, dead }, [bytes, rest], out),
            None if bytes.is_empty() => {}
            None => self.hand(What::Page { number, dead }, [bytes], out),
        }
        true
    }

    /// Hands over the next part of a message, which may be all of it.
    fn hand_part(&mut self, mut apart: Apart, out: &mut VecDeque<Bytes>) {
        let id = apart.head.id();
        let length = apart.body.len();
        let start = apart.handed;
        let end = length.min(start + MAX_PART);
        let position = if end == length { Position::Last } else { Position::Inner };
        let head = self.heads();
        if start == 0 {
            let total = (end < length).then_some(length as u32);
            apart.head.put(total, end, head);
            self.begun.extend(apart.head.request_id());
        } else {
            ChunkHead { id, position, length: end - start }.put(head);
        }
        self.queued_bytes -= end - start;
        let pieces = [self.heads.split().freeze(), apart.body.slice(start..end)];
        match position {
            Position::Last => self.hand(What::LastPart { id }, pieces, out),
            Position::Inner => {
                self.hand(What::Part, pieces, out);
                apart.handed = end;
                // The first parts of all go out first: whoever is to be refused hears of it early.
                let in_turn = if start == 0 || end % SHARE == 0 { MAX_UNFINISHED } else { IN_TURN };
                let place = self.long.len().min(in_turn - 1);
                self.long.insert(place, apart);
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

impl Turn {
    const KINDS: usize = 3;

    fn next(self) -> Self {
        match self {
            Self::Pages => Self::Single,
            Self::Single => Self::Long,
            Self::Long => Self::Pages,
        }
    }
}
