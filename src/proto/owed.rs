//! Which answers a foreign server owes, to whom, and what of each has come.
//!
//! ```text
//!            went out                    answer
//!  Queued ────────────► Called ──────────────────────────────► (none)
//!    │ withdrawn           │ abandoned                            ▲
//!    ▼                     ▼                 answer               │
//!  (none)              Abandoned ─────────────────────────────────┤
//!                          │ too long ago, by id only             │
//!                          ▼                                      │
//!                      WrittenOff ────────────────────────────────┤
//!    Ping ────────────────────────────────────────────────────────┘
//! ```
//!
//! Nothing tells such a server that a caller has gone: it will answer. Until then the call's id is not given to another,
//! and its place is taken.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::error::violation::Violation;
use crate::proto::dialect::{Matching, To};
use crate::proto::heartbeat::GRACES;
use crate::proto::id_map::{IdMap, in_order};
use crate::proto::ids::{Id, Name};
use crate::proto::ledger::Place;

#[derive(Debug)]
pub(crate) struct Owed {
    /// By the ids that the server knows.
    debts: IdMap<Debt, Id>,
    /// The ids in the order in which their requests went out, where answers have their turns.
    turns: Option<VecDeque<Id>>,
    /// When calls were abandoned, the earliest first. The first one's answer is still awaited.
    abandoned: VecDeque<(Instant, Id)>,
    written_off: usize,
    /// The id of the ping that is out.
    pinged: Option<Id>,
    /// So many verdicts were put off.
    graces: u8,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Debt {
    /// The request waits to be sent.
    Queued { name: Name, place: Option<Place> },
    Called {
        name: Name,
        place: Option<Place>,
        /// What has come of the answer.
        parts: BytesMut,
    },
    /// Nobody has waited for the answer since then.
    Abandoned { since: Instant, place: Option<Place> },
    /// Nobody expects it any more, but it may come.
    WrittenOff,
    /// A ping is out: the answer is nobody's.
    Ping,
}

/// What is to be done about answers that do not come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// Nothing, for now.
    No,
    /// So long after the first of these calls was abandoned, nothing has come.
    Unanswered { calls: usize, silent_for: Duration },
    /// The places of these calls are given to others.
    WrittenOff(Vec<Place>),
}

impl Owed {
    pub(crate) fn new(matching: Matching) -> Self {
        let turns = match matching {
            Matching::InOrder { .. } => Some(VecDeque::new()),
            Matching::ById { .. } => None,
        };
        Self {
            debts: IdMap::default(),
            turns,
            abandoned: VecDeque::new(),
            written_off: 0,
            pinged: None,
            graces: 0,
        }
    }

    pub(crate) fn is_taken(&self, id: Id) -> bool {
        self.debts.contains_key(&id)
    }

    /// How many ids are in use, with those of answers that nobody expects any more, and without the ping's.
    pub(crate) fn taken(&self) -> usize {
        self.debts.len() - usize::from(self.is_pinged())
    }

    /// A request is queued.
    pub(crate) fn queued(&mut self, id: Id, name: Name, place: Option<Place>) {
        self.debts.insert(id, Debt::Queued { name, place });
    }

    /// The request of this name begins to go out. False if it is none that is answered.
    pub(crate) fn went_out(&mut self, id: Id, name: Name) -> bool {
        let Some(debt) = self.debts.get_mut(&id) else {
            return false;
        };
        match *debt {
            Debt::Queued { name: queued, place } if queued == name => {
                *debt = Debt::Called { name, place, parts: BytesMut::new() };
            }
            _ => return false,
        }
        self.turns.iter_mut().for_each(|turns| turns.push_back(id));
        true
    }

    /// The ping goes out before all that is queued.
    pub(crate) fn pinged(&mut self, id: Id) {
        self.pinged = Some(id);
        self.debts.insert(id, Debt::Ping);
        self.turns.iter_mut().for_each(|turns| turns.push_back(id));
    }

    pub(crate) fn is_pinged(&self) -> bool {
        self.pinged.is_some()
    }

    /// A pong that has no id and no turn.
    pub(crate) fn pong(&mut self) {
        if let Some(id) = self.pinged.take() {
            self.debts.remove(&id);
            self.turns.iter_mut().for_each(|turns| turns.retain(|turn| *turn != id));
        }
    }

    /// The request of this name will never go out.
    pub(crate) fn withdrawn(&mut self, id: Id, name: Name) {
        if let Some(Debt::Queued { name: queued, .. }) = self.debts.get(&id) {
            if *queued == name {
                self.debts.remove(&id);
            }
        }
    }

    /// Nobody waits for the answer to the request of this name any more, but it went out.
    pub(crate) fn abandon(&mut self, now: Instant, id: Id, name: Name) {
        let Some(debt) = self.debts.get_mut(&id) else {
            return;
        };
        match *debt {
            Debt::Called { name: called, place, .. } if called == name => {
                *debt = Debt::Abandoned { since: now, place };
                self.abandoned.push_back((now, id));
            }
            _ => {}
        }
    }

    /// Whose answer has begun to come: its id.
    pub(crate) fn whose(&self, to: To) -> Result<Id, Violation> {
        let id = match (to, &self.turns) {
            (To::Oldest, Some(turns)) => turns.front().copied(),
            (To::Id(id), None) => Some(Id(id)),
            (To::Oldest, None) | (To::Id(_), Some(_)) => None,
        };
        let owed = id.filter(|id| {
            self.debts.get(id).is_some_and(|debt| !matches!(debt, Debt::Queued { .. }))
        });
        owed.ok_or(match to {
            To::Id(id) => Violation::ToNobody { name: "answer", id },
            To::Oldest => Violation::Unasked,
        })
    }

    /// What has come of this answer, if somebody waits for it.
    pub(crate) fn parts(&mut self, id: Id) -> Option<&mut BytesMut> {
        match self.debts.get_mut(&id) {
            Some(Debt::Called { parts, .. }) => Some(parts),
            _ => None,
        }
    }

    /// The answer has come to its end.
    pub(crate) fn paid(&mut self, id: Id) -> Option<Debt> {
        if let Some(turns) = &mut self.turns {
            turns.pop_front();
        }
        let debt = self.debts.remove(&id)?;
        match debt {
            Debt::Ping => self.pinged = None,
            Debt::WrittenOff => self.written_off -= 1,
            Debt::Abandoned { .. } => {
                self.forget_paid();
                self.graces = 0;
            }
            Debt::Queued { .. } | Debt::Called { .. } => {}
        }
        Some(debt)
    }

    /// Requests whose answers have their turns: they are out, and not answered.
    pub(crate) fn in_turn(&self) -> usize {
        self.turns.as_ref().map_or(0, VecDeque::len)
    }

    /// Answers that are awaited, those to pings included.
    pub(crate) fn outstanding(&self) -> usize {
        self.debts.len() - self.written_off
    }

    /// Whether none is awaited. One that nobody expects any more may come all the same.
    pub(crate) fn awaits_nothing(&self) -> bool {
        self.outstanding() == 0
    }

    /// When [`overdue`](Self::overdue) should be asked. `heard` is when bytes arrived last.
    pub(crate) fn next_deadline(&self, heard: Instant, bound: Duration) -> Option<Instant> {
        let (since, _) = self.abandoned.front()?;
        Some(self.since(*since, heard) + bound)
    }

    /// In turns, whatever arrives shows that the server is at work on what is before it.
    fn since(&self, abandoned: Instant, heard: Instant) -> Instant {
        if self.turns.is_some() { abandoned.max(heard) } else { abandoned }
    }

    pub(crate) fn overdue(&mut self, now: Instant, heard: Instant, bound: Duration) -> Overdue {
        let due = self.next_deadline(heard, bound).filter(|due| now >= *due);
        let Some(late) = due.map(|due| now - due) else {
            return Overdue::No;
        };
        if late > bound / 4 && self.graces < GRACES {
            // It was us who slept: the answers may be there, unread.
            self.graces += 1;
            self.forgive(now);
            return Overdue::No;
        }
        if self.turns.is_some() {
            let abandoned = |debt: &&Debt| matches!(debt, Debt::Abandoned { .. });
            let calls = self.debts.values().filter(abandoned).count();
            return Overdue::Unanswered { calls, silent_for: bound + late };
        }
        Overdue::WrittenOff(self.write_off(now, bound))
    }

    /// Counts from now.
    fn forgive(&mut self, now: Instant) {
        self.abandoned.clear();
        for (id, debt) in in_order(self.debts.iter_mut().map(|(id, debt)| (*id, debt))) {
            if let Debt::Abandoned { since, .. } = debt {
                *since = now;
                self.abandoned.push_back((now, id));
            }
        }
    }

    /// Gives up the answers that are overdue, and returns the places that they held.
    fn write_off(&mut self, now: Instant, bound: Duration) -> Vec<Place> {
        let mut places = Vec::new();
        while let Some((since, id)) = self.abandoned.front().copied() {
            if since + bound > now {
                break;
            }
            if let Some(Debt::Abandoned { place, .. }) = self.debts.insert(id, Debt::WrittenOff) {
                self.written_off += 1;
                places.extend(place);
            }
            self.abandoned.pop_front();
            self.forget_paid();
        }
        places
    }

    /// The first of the abandoned calls is one whose answer is awaited.
    fn forget_paid(&mut self) {
        let Self { debts, abandoned, .. } = self;
        while let Some((at, id)) = abandoned.front() {
            match debts.get(id) {
                Some(Debt::Abandoned { since, .. }) if since == at => break,
                _ => _ = abandoned.pop_front(),
            }
        }
    }

    /// Places that calls hold which nobody waits for.
    pub(crate) fn abandoned_places(&self) -> usize {
        let holds = |debt: &&Debt| matches!(debt, Debt::Abandoned { place: Some(_), .. });
        self.debts.values().filter(holds).count()
    }

    /// Answers that nobody expects any more.
    pub(crate) fn written_off(&self) -> usize {
        self.written_off
    }

    /// The connection is dead: no answer comes. Returns the places that abandoned calls held.
    pub(crate) fn die(&mut self) -> Vec<Place> {
        self.turns = self.turns.take().map(|_| VecDeque::new());
        self.abandoned.clear();
        (self.written_off, self.pinged) = (0, None);
        let abandoned = |debt| match debt {
            Debt::Abandoned { place, .. } => place,
            _ => None,
        };
        in_order(self.debts.drain()).into_iter().filter_map(|(_, debt)| abandoned(debt)).collect()
    }
}

#[cfg(test)]
mod tests;
