//! Where callers and channels meet: which slots are ready, who waits, what the outage is.
//!
//! Channels report upward by calling in here; callers ask here for a place. One short lock, under which nothing of the
//! user's runs, nobody is woken, and no connection is dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use crate::clock::now;
use crate::connection::Tell;
use crate::connections::Connections;
use crate::downtime::Downtime;
use crate::error::call::Full;
use crate::error::connect::ConnectError;
use crate::error::instance::InstanceId;
use crate::error::outage::{Began, Outage};
use crate::event::{Event, State, Status};
use crate::fan_out::FanOut;
use crate::limits::Limits;
use crate::policy::Retry;
use crate::proto::ledger::{Place, Ticket};
use crate::proto::resume::Resume;
use crate::proto::retry::{Budget, Elsewhere};
use crate::proto::sizing::Wanted;
use crate::proto::tenure::{Tenure, Verdict};
use crate::proto::wakes::Wakes;
use crate::roster::{End, Life, Line, NoPlace, Patience, Resumed, Roster, Taken, Wish};
use crate::switchboard::waiting::{Resuming, Seeking};

mod waiting;

pub(crate) struct Switchboard {
    core: Mutex<Roster>,
    endpoint: Arc<str>,
    state: watch::Sender<State>,
    /// Rung when a call begins to wait, so that the next attempt to connect is brought forward.
    pub(crate) demand: Notify,
    /// Rung when a connection may not be needed any more that was.
    pub(crate) review: Notify,
    /// Rung when a connection was opened or shut, an attempt failed, or room was made while calls wait to be sent again.
    pub(crate) changed: Notify,
    pub(crate) events: FanOut<Event>,
    pub(crate) pushes: FanOut<Bytes>,
    /// Items that each stream holds for its reader.
    pub(crate) subscription: usize,
    /// The longest body that this side sends.
    pub(crate) longest: usize,
}

impl Switchboard {
    pub(crate) fn new(
        endpoint: Arc<str>,
        connections: Connections,
        limits: &Limits,
        retry: &Retry,
        events: FanOut<Event>,
        pushes: FanOut<Bytes>,
    ) -> Self {
        let core = Roster::new(connections, limits, retry);
        Self {
            endpoint,
            state: watch::Sender::new(core.state()),
            core: Mutex::new(core),
            demand: Notify::new(),
            review: Notify::new(),
            changed: Notify::new(),
            events,
            pushes,
            subscription: limits.subscription,
            longest: limits.message,
        }
    }

    pub(crate) fn endpoint(&self) -> &Arc<str> {
        &self.endpoint
    }

    // What channels report.

    /// The number of the next connection, and the smallest id that no call has been given yet.
    pub(crate) fn number_connection(&self) -> (u64, u64) {
        let mut core = self.lock();
        core.connections += 1;
        (core.connections, core.sequence.next_id())
    }

    /// An attempt begins.
    pub(crate) fn dialing(&self) {
        self.lock().seek();
        self.publish();
    }

    /// An attempt failed. If waiting cannot mend the cause, those who wait are told.
    pub(crate) fn attempt_failed(&self, error: &Arc<ConnectError>) {
        let mut wake = Wakes::default();
        let mut core = self.lock();
        core.seek();
        // An error can hold a user's, whose drop is the user's code: not under the lock.
        let before = core.downtime.as_mut().and_then(|downtime| downtime.failed(error.clone()));
        // Who does not wait through outages has waited for this attempt, if it was the first.
        let is_first = core.downtime.as_ref().is_some_and(Downtime::was_tried_once);
        if error.is_permanent() || is_first {
            core.ledger.wake_all(&mut wake);
        }
        drop(core);
        drop(before);
        self.publish();
        wake.wake();
        self.changed.notify_waiters();
        if is_first {
            // It may be another slot's turn to see that nobody asks.
            self.demand.notify_waiters();
        }
    }

    /// A slot's connection takes calls. Returns the server process before and now, if it was another.
    pub(crate) fn opened(
        &self,
        slot: usize,
        line: Line,
        capacity: usize,
    ) -> Option<(InstanceId, InstanceId)> {
        let mut wake = Wakes::default();
        let mut core = self.lock();
        let (connection, instance) = (line.connection.clone(), line.server.instance);
        let before =
            instance.and_then(|now| core.instance.replace(now).map(|before| (before, now)));
        let running = core.life == Life::Running;
        let (old, downtime) = if running {
            let old = core.lines[slot].replace(line);
            core.keep_places();
            // Who was handed a place on the connection before and has not taken it is handed another.
            core.ledger.shut(slot, &mut wake);
            core.ledger.open(slot, capacity, &mut wake);
            (old, core.downtime.take())
        } else {
            (None, None)
        };
        let (more, spare) = (core.ledger.waiting() > 0, core.ledger.has_others_ready());
        drop(core);
        drop((old, downtime));
        if !running {
            connection.with(|client| (client.drain(), Tell::Owner));
        }
        self.publish();
        wake.wake();
        self.changed.notify_waiters();
        if more {
            self.demand.notify_waiters();
        }
        if spare {
            self.review.notify_waiters();
        }
        before.filter(|(before, now)| before != now)
    }

    /// A slot's connection takes no more calls, and why.
    pub(crate) fn shut(&self, slot: usize, why: Began) {
        let mut wake = Wakes::default();
        let mut core = self.lock();
        let line = core.lines[slot].take();
        core.ledger.shut(slot, &mut wake);
        core.went_down(why, &mut wake);
        let more = core.is_asked();
        drop(core);
        drop(line);
        self.publish();
        wake.wake();
        self.changed.notify_waiters();
        if more {
            self.demand.notify_waiters();
        }
    }

    /// A connection turned out to take no calls before its channel said so: nobody else shall run into it.
    pub(crate) fn distrust(&self, place: Place) {
        let mut wake = Wakes::default();
        let mut core = self.lock();
        if core.ledger.is_current(place) {
            core.ledger.shut(place.slot, &mut wake);
            core.went_down(Began::Unknown, &mut wake);
        }
        drop(core);
        self.publish();
        wake.wake();
    }

    /// Nobody else can use this connection: its slot gets another, while it is being closed.
    pub(crate) fn spoil(&self, place: Place) {
        let mut wake = Wakes::default();
        let mut core = self.lock();
        let mut line = None;
        if core.ledger.is_current(place) {
            line = core.lines[place.slot].take();
            core.ledger.shut(place.slot, &mut wake);
            core.went_down(Began::Unknown, &mut wake);
        }
        drop(core);
        drop(line);
        self.publish();
        wake.wake();
        self.review.notify_waiters();
    }

    /// One connection died of silence: the others are asked at once, all in parallel, whether they live.
    pub(crate) fn probe_all(&self) {
        let lines: Vec<_> = self.lock().lines.iter().flatten().cloned().collect();
        let now = now();
        for line in lines {
            line.connection.with(|client| (client.probe(now), Tell::Owner));
        }
    }

    /// What a slot without a connection should do. If it is gone, its channel must not ask again.
    pub(crate) fn wanted(&self, slot: usize) -> Wanted {
        self.lock().wanted(slot)
    }

    /// What is to become of a slot's connection. One that is to be let go takes no calls any more when this returns.
    pub(crate) fn review(&self, slot: usize, now: Instant, tenure: &mut Tenure) -> Verdict {
        let mut wake = Wakes::default();
        let mut core = self.lock();
        let (verdict, line) = core.review(slot, now, tenure, &mut wake);
        let more = core.is_asked();
        drop(core);
        drop(line);
        if let Verdict::Retire(_) = verdict {
            self.publish();
            self.changed.notify_waiters();
            if more {
                self.demand.notify_waiters();
            }
        }
        wake.wake();
        verdict
    }

    /// Nobody asks for a connection any more, and none is kept.
    pub(crate) fn rest(&self) {
        let downtime = self.lock().rest();
        drop(downtime);
        self.publish();
    }

    // What callers ask.

    /// A place at once, or the reason why not; `Ok(None)` if waiting may bring one.
    pub(crate) fn try_place(&self, wish: Wish<'_>) -> Result<Option<Taken>, NoPlace> {
        self.lock().try_place(&self.endpoint, wish)
    }

    /// A place, or a ticket for the line of those who wait for one.
    pub(crate) fn poll_place(
        &self,
        wish: Wish<'_>,
        ticket: &mut Option<Ticket>,
        cx: &Context<'_>,
    ) -> Poll<Result<Taken, NoPlace>> {
        let before = *ticket;
        let mut core = self.lock();
        let (polled, waker) = core.poll_place(&self.endpoint, wish, ticket, cx.waker());
        let is_complete = core.ledger.is_complete();
        drop(core);
        // A user's, whose drop is the user's code: not under the lock.
        drop(waker);
        if !is_complete && ticket.is_some() && *ticket != before {
            self.demand.notify_waiters();
        }
        polled
    }

    /// Leaves the line. A place that was handed over at that moment goes to the next.
    pub(crate) fn leave(&self, ticket: Ticket) {
        let mut wake = Wakes::default();
        let waker = self.lock().ledger.leave(ticket, &mut wake);
        drop(waker);
        wake.wake();
    }

    /// A new call's id, and the oldest one that is not finished.
    pub(crate) fn issue(&self) -> (u64, u64) {
        let mut core = self.lock();
        (core.sequence.issue(), core.sequence.oldest_unfinished())
    }

    /// A call is settled for good.
    pub(crate) fn finish(&self, id: u64, end: End) {
        let mut core = self.lock();
        core.sequence.finish(id);
        if end == End::Succeeded {
            core.budget.deposit();
        }
    }

    /// Gives a place back.
    pub(crate) fn release(&self, place: Place) {
        let mut wake = Wakes::default();
        let mut core = self.lock();
        core.ledger.release(place, &mut wake);
        let resuming = core.is_resuming();
        drop(core);
        wake.wake();
        if resuming {
            self.changed.notify_waiters();
        }
    }

    /// Where a call that may have run can go again.
    pub(crate) fn resume(&self, resume: Resume, patience: Patience) -> Result<Resumed, NoPlace> {
        self.lock().resume(&self.endpoint, resume, patience)
    }

    /// A call waits to be sent again, until what this returns is dropped.
    pub(crate) fn resuming(&self, instance: InstanceId) -> Resuming<'_> {
        self.lock().resumes(instance);
        self.demand.notify_waiters();
        Resuming { board: self, instance }
    }

    /// Somebody waits until something is ready, until what this returns is dropped.
    pub(crate) fn seeking(&self) -> Seeking<'_> {
        self.lock().seeking += 1;
        self.demand.notify_waiters();
        Seeking { board: self }
    }

    /// From now on the pool has this size. Returns the slots that need a channel. A pool that is closed stays as it is.
    pub(crate) fn resize(&self, connections: Connections) -> Vec<usize> {
        let slots = self.lock().resize(connections);
        self.publish();
        self.review.notify_waiters();
        self.demand.notify_waiters();
        slots
    }

    /// Whether a connection other than that of slot `at` could take a call now.
    pub(crate) fn elsewhere(&self, at: Option<usize>) -> Elsewhere {
        match self.lock().ledger.has_room_beside(at) {
            true => Elsewhere::Room,
            false => Elsewhere::NoRoom,
        }
    }

    /// Decides with the budget at hand.
    pub(crate) fn with_budget<R>(&self, decide: impl FnOnce(&mut Budget) -> R) -> R {
        decide(&mut self.lock().budget)
    }

    pub(crate) fn outage(&self) -> Option<Arc<Outage>> {
        self.lock().outage(&self.endpoint)
    }

    /// Why nothing is ready, if nothing is.
    pub(crate) fn why_not_ready(&self) -> Option<Arc<Outage>> {
        self.lock().why_not_ready(&self.endpoint)
    }

    /// Why there is no place: nothing is ready, or what is ready has no room.
    pub(crate) fn scarcity(&self) -> (Option<Arc<Outage>>, Option<Full>) {
        let core = self.lock();
        let outage = core.why_not_ready(&self.endpoint);
        let full = outage
            .is_none()
            .then(|| Full { in_flight: core.ledger.in_flight(), connections: core.ledger.ready() });
        (outage, full)
    }

    pub(crate) fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    pub(crate) fn status(&self) -> Status {
        let core = self.lock();
        Status {
            state: core.state(),
            ready: core.ledger.ready(),
            in_flight: core.ledger.in_flight(),
            waiting: core.waiting(),
            outage: core.outage(&self.endpoint).map(|outage| (*outage).clone()),
            instance: core.instance,
        }
    }

    // The end.

    /// No new calls; those that wait are told, those in flight are finished.
    pub(crate) fn close(&self) {
        let mut wake = Wakes::default();
        let mut core = self.lock();
        if core.life == Life::Running {
            core.life = Life::Closing;
        }
        core.ledger.wake_all(&mut wake);
        let lines: Vec<_> = core.lines.iter().flatten().cloned().collect();
        drop(core);
        self.publish();
        for line in lines {
            line.connection.with(|client| (client.drain(), Tell::Owner));
        }
        wake.wake();
        self.changed.notify_waiters();
    }

    /// Nothing is left.
    pub(crate) fn closed(&self) {
        let mut wake = Wakes::default();
        let mut core = self.lock();
        core.life = Life::Closed;
        core.ledger.shut_all();
        core.ledger.wake_all(&mut wake);
        let lines: Vec<_> = core.lines.iter_mut().map(Option::take).collect();
        drop(core);
        drop(lines);
        self.publish();
        self.events.close();
        self.pushes.close();
        wake.wake();
        self.changed.notify_waiters();
    }

    /// Calls that have a place or wait for one.
    pub(crate) fn unfinished(&self) -> usize {
        let core = self.lock();
        core.waiting() + core.ledger.in_flight()
    }

    /// Makes the state known. It is read while the watch is held, so that no older one can overwrite a newer.
    fn publish(&self) {
        self.state.send_if_modified(|state| {
            let now = self.lock().state();
            std::mem::replace(state, now) != now
        });
    }

    fn lock(&self) -> MutexGuard<'_, Roster> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Switchboard {
    /// Not what is under the lock: bodies and users' errors are nobody's business there.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Switchboard").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
