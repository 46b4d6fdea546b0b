//! What a pool knows under its one lock: which slots are ready, who waits for a place, what the outage is, and where a
//! call that was sent before may go again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::{Poll, Waker, ready};
use std::time::Instant;

use crate::clock::now;
use crate::connections::Connections;
use crate::downtime::Downtime;
use crate::error::call::{Full, Overload, Scarcity};
use crate::error::instance::InstanceId;
use crate::error::outage::{Began, Outage};
use crate::event::State;
use crate::limits::Limits;
use crate::policy::Retry;
use crate::prospects::Prospects;
use crate::proto::ledger::{Ledger, Place, Ticket};
use crate::proto::reconnect::Plan;
use crate::proto::retry::Budget;
use crate::proto::sequence::Sequence;
use crate::proto::tenure::Retirement;
use crate::proto::wakes::Wakes;
use crate::roster::link::{Link, Taken};
use crate::roster::no_place::NoPlace;
use crate::roster::resuming::Stranded;
use crate::roster::wish::{Patience, Until, Wish};

pub(crate) mod link;
pub(crate) mod no_place;
pub(crate) mod resuming;
mod sizing;
pub(crate) mod wish;

#[derive(Debug)]
pub(crate) struct Roster {
    pub(crate) endpoint: Arc<str>,
    pub(crate) ledger: Ledger,
    /// The connection of each slot, while it takes calls.
    pub(crate) links: Vec<Option<Arc<Link>>>,
    pub(crate) life: Life,
    /// While nothing is ready.
    pub(crate) downtime: Option<Downtime>,
    pub(crate) prospects: Prospects,
    size: Connections,
    /// The slots whose connections were taken off the list for a lease's sake, until their channels know.
    pub(crate) spoiled: BTreeMap<usize, Retirement>,
    /// The slots that have a channel.
    channels: BTreeSet<usize>,
    /// Of slots that are gone, for when they come back: a server sees no more attempts for a pool that changes its size.
    pub(crate) plans: BTreeMap<usize, Plan>,
    /// Who waits until something is ready, and makes no call.
    seekers: BTreeSet<Standby>,
    /// Since an attempt ended last, somebody was not let into the line, though there may be more connections.
    pub(crate) asked_in_vain: bool,
    /// Calls that may have run and wait to be sent again.
    resuming: Vec<Stranded>,
    /// How many have waited without a place in the line.
    standbys: u64,
    pub(crate) sequence: Sequence,
    pub(crate) budget: Budget,
    pub(crate) connections: u64,
    pub(crate) instance: Option<InstanceId>,
}

/// Somebody who waits and stands in no line: until when, and which of them it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Standby {
    until: Instant,
    number: u64,
}

/// Those whose time is over wait no more. True if there were any.
fn expire(waiting: &mut BTreeSet<Standby>, now: Instant) -> bool {
    let before = waiting.len();
    while waiting.first().is_some_and(|first| now >= first.until) {
        waiting.pop_first();
    }
    waiting.len() < before
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Running,
    Closing,
    Closed,
}

/// A new call's id, and the oldest one that is not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NewId {
    pub(crate) id: u64,
    pub(crate) oldest: u64,
}

impl Roster {
    pub(crate) fn new(
        endpoint: Arc<str>,
        connections: Connections,
        limits: &Limits,
        retry: &Retry,
    ) -> Self {
        let now = now();
        Self {
            endpoint,
            ledger: Ledger::new(limits.waiting, limits.queued_bytes),
            links: Vec::new(),
            size: connections,
            spoiled: BTreeMap::new(),
            channels: BTreeSet::new(),
            seekers: BTreeSet::new(),
            life: Life::Running,
            downtime: None,
            prospects: Prospects::default(),
            plans: BTreeMap::new(),
            asked_in_vain: false,
            resuming: Vec::new(),
            standbys: 0,
            sequence: Sequence::new(),
            budget: Budget::new(now, retry),
            connections: 0,
            instance: None,
        }
    }

    pub(crate) fn issue(&mut self) -> NewId {
        NewId { id: self.sequence.issue(), oldest: self.sequence.oldest_unfinished() }
    }

    pub(crate) fn try_place(&mut self, wish: Wish<'_>) -> Result<Option<Taken>, NoPlace> {
        if self.life != Life::Running {
            return Err(NoPlace::Closed);
        }
        if let Some(place) = self.ledger.place(wish.share, wish.avoid) {
            return Ok(self.taken(place));
        }
        self.unavailable(wish.patience).map_or(Ok(None), Err)
    }

    /// A place, or a ticket for the line of those who wait for one. `unneeded` is a waker to be dropped after the lock is
    /// released.
    pub(crate) fn poll_place(
        &mut self,
        wish: Wish<'_>,
        ticket: &mut Option<Ticket>,
        until: &mut Until,
        waker: &Waker,
        unneeded: &mut Option<Waker>,
    ) -> Poll<Result<Taken, NoPlace>> {
        if let Some(waiting) = *ticket {
            let claimed = ready!(self.claim(waiting, ticket, wish.patience, waker, unneeded));
            if let Some(taken) = claimed? {
                return Poll::Ready(Ok(taken));
            }
        }
        match self.try_place(wish) {
            Ok(Some(taken)) => Poll::Ready(Ok(taken)),
            Err(no_place) => Poll::Ready(Err(no_place)),
            Ok(None) => match self.join_line(wish, until, waker) {
                Ok(new) => {
                    *ticket = Some(new);
                    Poll::Pending
                }
                Err(overload) => Poll::Ready(Err(NoPlace::Overloaded(overload))),
            },
        }
    }

    /// The place of one who waits in the line, which takes the ticket. `None` if it is on a connection that has died meanwhile.
    fn claim(
        &mut self,
        waiting: Ticket,
        ticket: &mut Option<Ticket>,
        patience: Patience,
        waker: &Waker,
        unneeded: &mut Option<Waker>,
    ) -> Poll<Result<Option<Taken>, NoPlace>> {
        let place;
        (place, *unneeded) = self.ledger.claim(waiting, waker);
        if let Some(place) = place {
            *ticket = None;
            let taken = self.taken(place);
            if taken.is_none() {
                // Not reached: who has a place on a connection that ends is put back in the line.
                self.ledger.release(place, &mut Wakes::default());
            }
            return Poll::Ready(Ok(taken));
        }
        if !self.ledger.is_waiting(waiting) {
            *ticket = None;
            return Poll::Ready(Err(self.timed_out()));
        }
        self.why_not_wait(patience).map_or(Poll::Pending, |no_place| Poll::Ready(Err(no_place)))
    }

    fn join_line(
        &mut self,
        wish: Wish<'_>,
        until: &mut Until,
        waker: &Waker,
    ) -> Result<Ticket, Overload> {
        let joined = self.ledger.wait(wish.share, wish.bytes, waker);
        match joined {
            Ok(ticket) => {
                if let Some(until) = until.begin() {
                    self.ledger.limit(ticket, until);
                }
            }
            Err(_) => self.asked_in_vain |= !self.ledger.is_complete(),
        }
        joined
    }

    /// What is told of one who had no place in time.
    pub(crate) fn timed_out(&self) -> NoPlace {
        NoPlace::TimedOut(Some(
            self.why_not_ready().map_or(self.full(self.ledger.all_taken()), Scarcity::Outage),
        ))
    }

    fn full(&self, in_flight: usize) -> Scarcity {
        Scarcity::Full(Full { in_flight, connections: self.ledger.ready() })
    }

    /// Why one who waits should not go on, if so.
    fn why_not_wait(&self, patience: Patience) -> Option<NoPlace> {
        match self.life {
            Life::Running => self.unavailable(patience),
            Life::Closing | Life::Closed => Some(NoPlace::Closed),
        }
    }

    /// The outage, if it is none to be waited through.
    fn unavailable(&self, patience: Patience) -> Option<NoPlace> {
        let downtime = self.downtime.as_ref()?;
        let fails_fast = patience == Patience::FailFast && !self.is_untried(downtime);
        let final_word = fails_fast || downtime.is_permanent();
        final_word.then(|| NoPlace::Unavailable(self.report(downtime)))
    }

    /// The connections that take calls.
    pub(crate) fn connected(&self) -> Vec<Arc<Link>> {
        self.links.iter().flatten().cloned().collect()
    }

    /// Calls that wait for a connection.
    pub(crate) fn waiting(&self) -> usize {
        self.ledger.waiting() + self.resuming_calls()
    }

    /// Somebody waits until something is ready, for no longer than until then, even if nobody polls it.
    pub(crate) fn begin_seeking(&mut self, until: Instant) -> Standby {
        let seeker = self.stand_by(until);
        self.seekers.insert(seeker);
        seeker
    }

    fn stand_by(&mut self, until: Instant) -> Standby {
        self.standbys += 1;
        Standby { until, number: self.standbys }
    }

    pub(crate) fn end_seeking(&mut self, seeker: Standby) {
        self.seekers.remove(&seeker);
    }

    /// When [`expire`](Self::expire) should be asked.
    pub(crate) fn look_at(&self) -> Option<Instant> {
        let sought = self.seekers.first().map(|seeker| seeker.until);
        sought.into_iter().chain(self.first_resumed()).chain(self.ledger.look_at()).min()
    }

    /// Those whose time is over wait no more: for a place, to be sent again, or until something is ready.
    pub(crate) fn expire(&mut self, now: Instant, wake: &mut Wakes) {
        self.ledger.expire(now, wake);
        self.expire_resuming(now, wake);
        expire(&mut self.seekers, now);
    }

    /// If nothing is ready any more, an outage begins, or it becomes known why it did. Where nothing is kept it is one only
    /// for those who wait.
    pub(crate) fn went_down(&mut self, why: Began, wake: &mut Wakes) {
        let rests = self.size.min == 0 && !self.is_asked();
        if self.ledger.is_ready() {
            return;
        }
        match &mut self.downtime {
            Some(downtime) => downtime.because(why),
            None if rests => {}
            None => {
                self.downtime = Some(Downtime::new(now(), why));
                // Who is not to wait through an outage must hear of it.
                self.ledger.wake_all(wake);
            }
        }
    }

    pub(crate) fn state(&self) -> State {
        match self.life {
            Life::Running if self.ledger.is_ready() => State::Ready,
            Life::Running => match &self.downtime {
                None => State::Idle,
                Some(downtime) if downtime.is_first() || self.is_untried(downtime) => {
                    State::Connecting
                }
                Some(_) => State::Down,
            },
            Life::Closing => State::Closing,
            Life::Closed => State::Closed,
        }
    }

    /// `None` if the connection died since the place was given.
    pub(crate) fn taken(&self, place: Place) -> Option<Taken> {
        if !self.ledger.is_current(place) {
            return None;
        }
        let link = self.links[place.slot].clone()?;
        Some(Taken { place, link })
    }

    pub(crate) fn outage(&self) -> Option<Arc<Outage>> {
        self.downtime.as_ref().map(|downtime| self.report(downtime))
    }

    fn report(&self, downtime: &Downtime) -> Arc<Outage> {
        downtime.report(now(), &self.endpoint, self.outlook())
    }

    /// Why nothing is ready, also if no attempt is under way yet.
    pub(crate) fn why_not_ready(&self) -> Option<Arc<Outage>> {
        if self.ledger.is_ready() {
            return None;
        }
        self.outage().or_else(|| Some(self.report(&self.down_since_now())))
    }
}
