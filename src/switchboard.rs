//! Where callers and channels meet: which slots are ready, who waits, what the outage is.
//!
//! Channels report upward by calling in here; callers ask here for a place. One short lock, under which nothing of the
//! user's runs, nobody is woken, and no connection is dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use crate::clock::now;
use crate::connection::{Connection, Tell};
use crate::downtime::Downtime;
use crate::error::call::{CallCause, Overload};
use crate::error::connect::{Began, ConnectError, Outage};
use crate::event::{Event, State, Status};
use crate::fan_out::FanOut;
use crate::limits::Limits;
use crate::policy::Retry;
use crate::proto::client::Client;
use crate::proto::greeting::InstanceId;
use crate::proto::ledger::{Ledger, Place, Ticket};
use crate::proto::retry::Budget;
use crate::proto::sequence::Sequence;

pub(crate) struct Switchboard {
    core: Mutex<Core>,
    endpoint: Arc<str>,
    state: watch::Sender<State>,
    /// Rung when a call begins to wait, so that the next attempt to connect is brought forward.
    pub(crate) demand: Notify,
    pub(crate) events: FanOut<Event>,
    pub(crate) pushes: FanOut<Bytes>,
    /// Items that each stream holds for its reader.
    pub(crate) subscription: usize,
    /// The longest body that this side sends.
    pub(crate) longest: usize,
}

#[derive(Debug)]
struct Core {
    ledger: Ledger,
    /// The connection of each slot, while it takes calls.
    lines: Vec<Option<Connection<Client>>>,
    life: Life,
    /// While nothing is ready.
    downtime: Option<Downtime>,
    /// The slot that makes a connection because those that are ready have no room: one at a time.
    growing: Option<usize>,
    sequence: Sequence,
    budget: Budget,
    connections: u64,
    instance: Option<InstanceId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Running,
    Closing,
    Closed,
}

/// What a call asks of the switchboard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) bytes: usize,
    pub(crate) fail_fast: bool,
    /// A slot that has just refused this call.
    pub(crate) avoid: Option<usize>,
}

/// Why there is no place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoPlace {
    Closed,
    Unavailable(Arc<Outage>),
    Overloaded(Overload),
}

impl From<NoPlace> for CallCause {
    fn from(no_place: NoPlace) -> Self {
        match no_place {
            NoPlace::Closed => Self::Closed,
            NoPlace::Unavailable(outage) => Self::Unavailable(outage),
            NoPlace::Overloaded(overload) => Self::Overloaded(overload),
        }
    }
}

impl Switchboard {
    pub(crate) fn new(
        endpoint: Arc<str>,
        slots: usize,
        limits: &Limits,
        retry: &Retry,
        events: FanOut<Event>,
        pushes: FanOut<Bytes>,
    ) -> Self {
        let now = now();
        let core = Core {
            ledger: Ledger::new(slots, limits.waiting, limits.queued_bytes),
            lines: (0..slots).map(|_| None).collect(),
            life: Life::Running,
            downtime: Some(Downtime::new(now, Began::NeverConnected)),
            growing: None,
            sequence: Sequence::new(),
            budget: Budget::new(now, retry),
            connections: 0,
            instance: None,
        };
        Self {
            core: Mutex::new(core),
            endpoint,
            state: watch::Sender::new(State::Connecting),
            demand: Notify::new(),
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

    /// The number of the next connection.
    pub(crate) fn number_connection(&self) -> u64 {
        let mut core = self.lock();
        core.connections += 1;
        core.connections
    }

    /// A slot's attempt failed. If waiting cannot mend the cause, those who wait are told.
    pub(crate) fn attempt_failed(&self, slot: usize, error: &Arc<ConnectError>) {
        let mut wake = Vec::new();
        let mut core = self.lock();
        core.grown(slot);
        // An error can hold a user's, whose drop is the user's code: not under the lock.
        let before = core.downtime.as_mut().and_then(|downtime| downtime.failed(error.clone()));
        if error.is_permanent() {
            core.ledger.wake_all(&mut wake);
        }
        drop(core);
        drop(before);
        wake_each(wake);
    }

    /// A slot's connection takes calls. Returns the server process before, if it was another.
    pub(crate) fn opened(
        &self,
        slot: usize,
        connection: Connection<Client>,
        capacity: usize,
        instance: InstanceId,
    ) -> Option<InstanceId> {
        let mut wake = Vec::new();
        let mut core = self.lock();
        core.grown(slot);
        let before = core.instance.replace(instance).filter(|before| *before != instance);
        let running = core.life == Life::Running;
        let (old, downtime) = if running {
            core.ledger.open(slot, capacity, &mut wake);
            (core.lines[slot].replace(connection.clone()), core.downtime.take())
        } else {
            (None, None)
        };
        let more = core.ledger.waiting() > 0;
        drop(core);
        drop((old, downtime));
        if !running {
            connection.with(|client| (client.drain(), Tell::Owner));
        }
        self.publish();
        wake_each(wake);
        if more {
            self.demand.notify_waiters();
        }
        before
    }

    /// A slot's connection takes no more calls, and why.
    pub(crate) fn shut(&self, slot: usize, why: Began) {
        let mut wake = Vec::new();
        let mut core = self.lock();
        let line = core.lines[slot].take();
        core.ledger.shut(slot, &mut wake);
        core.went_down(why, &mut wake);
        drop(core);
        drop(line);
        self.publish();
        wake_each(wake);
    }

    /// A connection turned out to take no calls before its channel said so: nobody else shall run into it.
    pub(crate) fn distrust(&self, place: Place) {
        let mut wake = Vec::new();
        let mut core = self.lock();
        if core.ledger.is_current(place) {
            core.ledger.shut(place.slot, &mut wake);
            core.went_down(Began::Unknown, &mut wake);
        }
        drop(core);
        self.publish();
        wake_each(wake);
    }

    /// One connection died of silence: the others are asked at once, all in parallel, whether they live.
    pub(crate) fn probe_all(&self) {
        let lines: Vec<_> = self.lock().lines.iter().flatten().cloned().collect();
        let now = now();
        for line in lines {
            line.with(|client| (client.probe(now), Tell::Owner));
        }
    }

    /// What those who wait need of the slot that asks.
    pub(crate) fn wanted(&self, slot: usize) -> Wanted {
        let mut core = self.lock();
        match (core.ledger.waiting() > 0, core.ledger.is_ready()) {
            (false, _) => Wanted::Nothing,
            (true, false) => Wanted::Connection,
            (true, true) if *core.growing.get_or_insert(slot) == slot => Wanted::MoreRoom,
            (true, true) => Wanted::Nothing,
        }
    }

    // What callers ask.

    /// A place at once, or the reason why not; `Ok(None)` if waiting may bring one.
    pub(crate) fn try_place(&self, wish: Wish) -> Result<Option<Taken>, NoPlace> {
        self.lock().try_place(&self.endpoint, wish)
    }

    /// A place, or a ticket for the line of those who wait for one.
    pub(crate) fn poll_place(
        &self,
        wish: Wish,
        ticket: &mut Option<Ticket>,
        cx: &Context<'_>,
    ) -> Poll<Result<Taken, NoPlace>> {
        let mut core = self.lock();
        if let Some(waiting) = *ticket {
            let Some(place) = core.ledger.claim(waiting, cx.waker()) else {
                return core.why_wait(&self.endpoint, wish);
            };
            *ticket = None;
            if let Some(taken) = core.taken(place) {
                return Poll::Ready(Ok(taken));
            }
            // Not reached: who has a place on a connection that ends is put back in the line.
            core.ledger.release(place, &mut Vec::new());
        }
        match core.try_place(&self.endpoint, wish) {
            Ok(Some(taken)) => return Poll::Ready(Ok(taken)),
            Err(no_place) => return Poll::Ready(Err(no_place)),
            Ok(None) => {}
        }
        match core.ledger.wait(wish.bytes, cx.waker()) {
            Ok(new) => *ticket = Some(new),
            Err(overload) => return Poll::Ready(Err(NoPlace::Overloaded(overload))),
        }
        drop(core);
        self.demand.notify_waiters();
        Poll::Pending
    }

    /// Leaves the line. A place that was handed over at that moment goes to the next.
    pub(crate) fn leave(&self, ticket: Ticket) {
        let mut wake = Vec::new();
        self.lock().ledger.leave(ticket, &mut wake);
        wake_each(wake);
    }

    /// A new call's id, and the oldest one that is not finished.
    pub(crate) fn issue(&self) -> (u64, u64) {
        let mut core = self.lock();
        (core.sequence.issue(), core.sequence.oldest_unfinished())
    }

    /// A call is settled for good.
    pub(crate) fn finish(&self, id: u64, succeeded: bool) {
        let mut core = self.lock();
        core.sequence.finish(id);
        if succeeded {
            core.budget.deposit();
        }
    }

    /// Gives a place back.
    pub(crate) fn release(&self, place: Place) {
        let mut wake = Vec::new();
        self.lock().ledger.release(place, &mut wake);
        wake_each(wake);
    }

    /// Whether a connection other than that of slot `at` could take a call now.
    pub(crate) fn has_room_beside(&self, at: Option<usize>) -> bool {
        self.lock().ledger.has_room_beside(at)
    }

    /// Decides with the budget at hand.
    pub(crate) fn with_budget<R>(&self, decide: impl FnOnce(&mut Budget) -> R) -> R {
        decide(&mut self.lock().budget)
    }

    pub(crate) fn outage(&self) -> Option<Arc<Outage>> {
        self.lock().outage(&self.endpoint)
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
            waiting: core.ledger.waiting(),
            outage: core.outage(&self.endpoint).map(|outage| (*outage).clone()),
            instance: core.instance,
        }
    }

    // The end.

    /// No new calls; those that wait are told, those in flight are finished.
    pub(crate) fn close(&self) {
        let mut wake = Vec::new();
        let mut core = self.lock();
        if core.life == Life::Running {
            core.life = Life::Closing;
        }
        core.ledger.wake_all(&mut wake);
        let lines: Vec<_> = core.lines.iter().flatten().cloned().collect();
        drop(core);
        self.publish();
        for line in lines {
            line.with(|client| (client.drain(), Tell::Owner));
        }
        wake_each(wake);
    }

    /// Nothing is left.
    pub(crate) fn closed(&self) {
        let mut wake = Vec::new();
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
        wake_each(wake);
    }

    /// Calls that have a place or wait for one.
    pub(crate) fn unfinished(&self) -> usize {
        let core = self.lock();
        core.ledger.waiting() + core.ledger.in_flight()
    }

    /// Makes the state known. It is read while the watch is held, so that no older one can overwrite a newer.
    fn publish(&self) {
        self.state.send_if_modified(|state| {
            let now = self.lock().state();
            std::mem::replace(state, now) != now
        });
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Switchboard {
    /// Not what is under the lock: bodies and users' errors are nobody's business there.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Switchboard").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// What those who wait need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Nothing,
    /// Nothing is ready.
    Connection,
    /// What is ready has no room, and it is this slot's turn to make some.
    MoreRoom,
}

/// A place and the connection that it is on.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) place: Place,
    pub(crate) connection: Connection<Client>,
}

impl Core {
    fn try_place(&mut self, endpoint: &Arc<str>, wish: Wish) -> Result<Option<Taken>, NoPlace> {
        if self.life != Life::Running {
            return Err(NoPlace::Closed);
        }
        if let Some(place) = self.ledger.place(wish.avoid) {
            return Ok(self.taken(place));
        }
        match &self.downtime {
            Some(downtime) if wish.fail_fast || downtime.is_permanent() => {
                Err(NoPlace::Unavailable(downtime.report(now(), endpoint)))
            }
            _ => Ok(None),
        }
    }

    /// Whether one who waits should go on.
    fn why_wait(&self, endpoint: &Arc<str>, wish: Wish) -> Poll<Result<Taken, NoPlace>> {
        match &self.downtime {
            _ if self.life != Life::Running => Poll::Ready(Err(NoPlace::Closed)),
            Some(downtime) if wish.fail_fast || downtime.is_permanent() => {
                Poll::Ready(Err(NoPlace::Unavailable(downtime.report(now(), endpoint))))
            }
            _ => Poll::Pending,
        }
    }

    /// If nothing is ready any more, an outage begins, or it becomes known why it did.
    fn went_down(&mut self, why: Began, wake: &mut Vec<Waker>) {
        if self.ledger.is_ready() {
            return;
        }
        match &mut self.downtime {
            Some(downtime) => downtime.because(why),
            None => {
                self.downtime = Some(Downtime::new(now(), why));
                // Who is not to wait through an outage must hear of it.
                self.ledger.wake_all(wake);
            }
        }
    }

    /// The slot has made room, or could not.
    fn grown(&mut self, slot: usize) {
        if self.growing == Some(slot) {
            self.growing = None;
        }
    }

    fn state(&self) -> State {
        match self.life {
            Life::Running if self.ledger.is_ready() => State::Ready,
            Life::Running if self.instance.is_none() => State::Connecting,
            Life::Running => State::Down,
            Life::Closing => State::Closing,
            Life::Closed => State::Closed,
        }
    }

    /// `None` if the connection died since the place was given.
    fn taken(&self, place: Place) -> Option<Taken> {
        if !self.ledger.is_current(place) {
            return None;
        }
        let connection = self.lines[place.slot].clone()?;
        Some(Taken { place, connection })
    }

    fn outage(&self, endpoint: &Arc<str>) -> Option<Arc<Outage>> {
        self.downtime.as_ref().map(|downtime| downtime.report(now(), endpoint))
    }
}

fn wake_each(wake: Vec<Waker>) {
    for waker in wake {
        waker.wake();
    }
}
