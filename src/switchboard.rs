//! Where callers and channels meet: which slots are ready, who waits, what the outage is.
//!
//! Channels report upward by calling in here; callers ask here for a place. One short lock, under which nothing of the
//! user's runs, nobody is woken, and no connection is dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use crate::clock::now;
use crate::connection::{Connection, Tell};
use crate::error::call::{CallCause, Overload};
use crate::error::connect::{ConnectError, Outage};
use crate::error::loss::Loss;
use crate::event::{Event, State, Status};
use crate::fan_out::FanOut;
use crate::limits::Limits;
use crate::policy::Retry;
use crate::proto::client::Client;
use crate::proto::greeting::InstanceId;
use crate::proto::ledger::{Ledger, Place, Ticket};
use crate::proto::retry::Budget;
use crate::proto::sequence::Sequence;

#[derive(Debug)]
pub(crate) struct Switchboard {
    core: Mutex<Core>,
    endpoint: Arc<str>,
    state: watch::Sender<State>,
    /// Rung when the first call begins to wait, so that the next attempt to connect is brought forward.
    pub(crate) demand: Notify,
    pub(crate) events: FanOut<Event>,
    pub(crate) pushes: FanOut<Bytes>,
    /// Items that each stream holds for its reader.
    pub(crate) subscription: usize,
}

#[derive(Debug)]
struct Core {
    ledger: Ledger,
    /// The connection of each slot, while it takes calls.
    lines: Vec<Option<Connection<Client>>>,
    life: Life,
    sequence: Sequence,
    budget: Budget,
    connections: u64,
    instance: Option<InstanceId>,
}

#[derive(Debug)]
enum Life {
    /// Connections come and go. The outage is kept while nothing is ready.
    Running {
        outage: Option<Down>,
    },
    Closing,
    Closed,
}

#[derive(Debug, Clone)]
struct Down {
    since: Instant,
    attempts: u32,
    last: Option<Arc<ConnectError>>,
    loss: Option<Arc<Loss>>,
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
        let outage = Down { since: now, attempts: 0, last: None, loss: None };
        let core = Core {
            ledger: Ledger::new(slots, limits.waiting, limits.queued_bytes),
            lines: (0..slots).map(|_| None).collect(),
            life: Life::Running { outage: Some(outage) },
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

    /// An attempt failed. If waiting cannot mend the cause, those who wait are told.
    pub(crate) fn attempt_failed(&self, error: &Arc<ConnectError>) {
        let mut wake = Vec::new();
        let mut core = self.lock();
        // An error can hold a user's, whose drop is the user's code: not under the lock.
        let mut before = None;
        if let Life::Running { outage: Some(outage) } = &mut core.life {
            outage.attempts += 1;
            before = outage.last.replace(error.clone());
        }
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
        let (closing, outage) = match &mut core.life {
            Life::Running { outage } => (false, outage.take()),
            Life::Closing | Life::Closed => (true, None),
        };
        let before = core.instance.replace(instance).filter(|before| *before != instance);
        let old = if closing {
            core.lines[slot].take()
        } else {
            core.ledger.open(slot, capacity, &mut wake);
            core.lines[slot].replace(connection.clone())
        };
        drop(core);
        drop((old, outage));
        if closing {
            connection.with(|client| (client.drain(), Tell::Owner));
        } else {
            self.state.send_replace(State::Ready);
        }
        wake_each(wake);
        before
    }

    /// A slot's connection takes no more calls; `loss` is there if it died.
    pub(crate) fn shut(&self, slot: usize, loss: Option<Arc<Loss>>) {
        let mut core = self.lock();
        let line = core.lines[slot].take();
        core.ledger.shut(slot);
        let ready = core.ledger.is_ready();
        let down = match &mut core.life {
            Life::Running { outage } if !ready => {
                let outage = outage.get_or_insert_with(|| Down {
                    since: now(),
                    attempts: 0,
                    last: None,
                    loss: None,
                });
                outage.loss = loss.or(outage.loss.take());
                true
            }
            _ => false,
        };
        drop(core);
        drop(line);
        if down {
            self.state.send_if_modified(|state| {
                *state == State::Ready && {
                    *state = State::Down;
                    true
                }
            });
        }
    }

    /// One connection died of silence: the others are asked at once, all in parallel, whether they live.
    pub(crate) fn probe_all(&self) {
        let lines: Vec<_> = self.lock().lines.iter().flatten().cloned().collect();
        let now = now();
        for line in lines {
            line.with(|client| (client.probe(now), Tell::Owner));
        }
    }

    /// Whether calls wait: `Some(true)` if they do although something is ready.
    pub(crate) fn wanted(&self) -> Wanted {
        let core = self.lock();
        match (core.ledger.waiting() > 0, core.ledger.is_ready()) {
            (false, _) => Wanted::Not,
            (true, false) => Wanted::Connection,
            (true, true) => Wanted::MoreConnections,
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
                return core.why_wait(&self.endpoint);
            };
            *ticket = None;
            if let Some(taken) = core.taken(place) {
                return Poll::Ready(Ok(taken));
            }
            // The connection died between the hand-over and now: join again.
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

    /// A connection turned out to take no calls before its channel said so: nobody else shall run into it.
    pub(crate) fn distrust(&self, place: Place) {
        self.lock().ledger.shut_place(place);
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
            state: *self.state.borrow(),
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
        let running = match core.life {
            Life::Running { .. } => Some(std::mem::replace(&mut core.life, Life::Closing)),
            Life::Closing | Life::Closed => None,
        };
        core.ledger.wake_all(&mut wake);
        let lines: Vec<_> = core.lines.iter().flatten().cloned().collect();
        drop(core);
        drop(running);
        self.state.send_if_modified(|state| {
            *state != State::Closed && {
                *state = State::Closing;
                true
            }
        });
        for line in lines {
            line.with(|client| (client.drain(), Tell::Owner));
        }
        wake_each(wake);
    }

    /// Nothing is left.
    pub(crate) fn closed(&self) {
        let mut wake = Vec::new();
        let mut core = self.lock();
        let life = std::mem::replace(&mut core.life, Life::Closed);
        core.ledger.wake_all(&mut wake);
        let lines: Vec<_> = core.lines.iter_mut().map(Option::take).collect();
        drop(core);
        drop((life, lines));
        self.state.send_replace(State::Closed);
        self.events.close();
        self.pushes.close();
        wake_each(wake);
    }

    /// Calls that have a place or wait for one.
    pub(crate) fn unfinished(&self) -> usize {
        let core = self.lock();
        core.ledger.waiting() + core.ledger.in_flight()
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What those who wait need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Not,
    /// Nothing is ready.
    Connection,
    /// What is ready has no room.
    MoreConnections,
}

/// A place and the connection that it is on.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) place: Place,
    pub(crate) connection: Connection<Client>,
}

impl Core {
    fn try_place(&mut self, endpoint: &Arc<str>, wish: Wish) -> Result<Option<Taken>, NoPlace> {
        if !matches!(self.life, Life::Running { .. }) {
            return Err(NoPlace::Closed);
        }
        if let Some(place) = self.ledger.place(wish.avoid) {
            return Ok(self.taken(place));
        }
        match self.outage(endpoint) {
            Some(outage) if wish.fail_fast || outage.is_permanent() => {
                Err(NoPlace::Unavailable(outage))
            }
            _ => Ok(None),
        }
    }

    /// Whether one who waits should go on.
    fn why_wait(&self, endpoint: &Arc<str>) -> Poll<Result<Taken, NoPlace>> {
        match (&self.life, self.outage(endpoint)) {
            (Life::Closing | Life::Closed, _) => Poll::Ready(Err(NoPlace::Closed)),
            (_, Some(outage)) if outage.is_permanent() => {
                Poll::Ready(Err(NoPlace::Unavailable(outage)))
            }
            _ => Poll::Pending,
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
        let Life::Running { outage: Some(down) } = &self.life else {
            return None;
        };
        let Down { since, attempts, last, loss } = down.clone();
        let lasted = now().saturating_duration_since(since);
        Some(Arc::new(Outage { endpoint: endpoint.clone(), lasted, attempts, last, loss }))
    }
}

fn wake_each(wake: Vec<Waker>) {
    for waker in wake {
        waker.wake();
    }
}
