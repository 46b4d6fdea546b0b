//! Which answers a foreign server owes, and to whom.
//!
//! ```text
//!            went out                    answer
//!  Queued ────────────► Called ──────────────────────────────► (none)
//!    │ withdrawn           │ abandoned                            ▲
//!    ▼                     ▼                 answer               │
//!  (none)              Abandoned ─────────────────────────────────┤
//!                          │ too long ago, by id only             │
//!                          ▼                                      │
//!                      WrittenOff ────────────────────────────────┘
//! ```
//!
//! Nothing tells such a server that a caller has gone: it will answer. Until then the name of the call is not given to
//! another, and its place is taken.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::error::violation::Violation;
use crate::proto::dialect::{Matching, To};
use crate::proto::heartbeat::GRACES;
use crate::proto::ledger::Place;

#[derive(Debug)]
pub(crate) struct Owed {
    debts: HashMap<u64, Debt>,
    /// The names in the order in which their requests went out, where answers have their turns.
    turns: Option<VecDeque<u64>>,
    /// When calls were abandoned, the earliest first. The first one's answer is still awaited.
    abandoned: VecDeque<(Instant, u64)>,
    written_off: usize,
    pinged: Option<u64>,
    graces: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Debt {
    /// The request waits to be sent.
    Queued {
        place: Option<Place>,
    },
    Called {
        place: Option<Place>,
    },
    /// Nobody has waited for the answer since then.
    Abandoned {
        since: Instant,
        place: Option<Place>,
    },
    /// Nobody expects it any more, but it may come.
    WrittenOff,
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
            debts: HashMap::new(),
            turns,
            abandoned: VecDeque::new(),
            written_off: 0,
            pinged: None,
            graces: 0,
        }
    }

    pub(crate) fn is_taken(&self, name: u64) -> bool {
        self.debts.contains_key(&name)
    }

    /// A request is queued.
    pub(crate) fn queued(&mut self, name: u64, place: Option<Place>) {
        self.debts.insert(name, Debt::Queued { place });
    }

    /// It begins to go out. False if it is none that is answered.
    pub(crate) fn went_out(&mut self, name: u64) -> bool {
        let Some(debt) = self.debts.get_mut(&name) else {
            return false;
        };
        let Debt::Queued { place } = *debt else {
            return false;
        };
        *debt = Debt::Called { place };
        self.turns.iter_mut().for_each(|turns| turns.push_back(name));
        true
    }

    /// The ping goes out before all that is queued.
    pub(crate) fn pinged(&mut self, name: u64) {
        self.pinged = Some(name);
        self.debts.insert(name, Debt::Ping);
        self.turns.iter_mut().for_each(|turns| turns.push_back(name));
    }

    pub(crate) fn is_pinged(&self) -> bool {
        self.pinged.is_some()
    }

    /// A pong that has no name and no turn.
    pub(crate) fn pong(&mut self) {
        if let Some(name) = self.pinged.take() {
            self.debts.remove(&name);
            self.turns.iter_mut().for_each(|turns| turns.retain(|turn| *turn != name));
        }
    }

    /// It will never go out.
    pub(crate) fn withdrawn(&mut self, name: u64) {
        self.debts.remove(&name);
    }

    /// Nobody waits for its answer any more, but it went out.
    pub(crate) fn abandon(&mut self, now: Instant, name: u64) {
        if let Some(debt) = self.debts.get_mut(&name) {
            if let Debt::Called { place } = *debt {
                *debt = Debt::Abandoned { since: now, place };
                self.abandoned.push_back((now, name));
            }
        }
    }

    /// Whose answer has begun to come.
    pub(crate) fn whose(&self, to: To) -> Result<u64, Violation> {
        let name = match (to, &self.turns) {
            (To::Oldest, Some(turns)) => turns.front().copied(),
            (To::Id(name), None) => Some(name),
            (To::Oldest, None) | (To::Id(_), Some(_)) => None,
        };
        let owed = name.filter(|name| {
            self.debts.get(name).is_some_and(|debt| !matches!(debt, Debt::Queued { .. }))
        });
        owed.ok_or(match to {
            To::Id(id) => Violation::ToNobody { name: "answer", id },
            To::Oldest => Violation::Unasked,
        })
    }

    /// The answer has come to its end.
    pub(crate) fn paid(&mut self, name: u64) -> Option<Debt> {
        if let Some(turns) = &mut self.turns {
            turns.pop_front();
        }
        let debt = self.debts.remove(&name)?;
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

    /// All answers that may come, also those that nobody expects.
    pub(crate) fn debts(&self) -> usize {
        self.debts.len()
    }

    /// Answers that are awaited, those to pings included.
    pub(crate) fn outstanding(&self) -> usize {
        self.debts.len() - self.written_off
    }

    pub(crate) fn is_empty(&self) -> bool {
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
        for (name, debt) in &mut self.debts {
            if let Debt::Abandoned { since, .. } = debt {
                *since = now;
                self.abandoned.push_back((now, *name));
            }
        }
    }

    /// Gives up the answers that are overdue, and returns the places that they held.
    fn write_off(&mut self, now: Instant, bound: Duration) -> Vec<Place> {
        let mut places = Vec::new();
        while let Some((since, name)) = self.abandoned.front().copied() {
            if since + bound > now {
                break;
            }
            if let Some(Debt::Abandoned { place, .. }) = self.debts.insert(name, Debt::WrittenOff) {
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
        while let Some((at, name)) = abandoned.front() {
            match debts.get(name) {
                Some(Debt::Abandoned { since, .. }) if since == at => break,
                _ => _ = abandoned.pop_front(),
            }
        }
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
        self.debts.drain().filter_map(|(_, debt)| abandoned(debt)).collect()
    }
}
