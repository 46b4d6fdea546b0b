//! Where callers and channels meet: which slots are ready, who waits, what the outage is.
//!
//! Channels report upward by calling in here ([`reports`]); callers ask here for a place. One short lock, under which nothing of the
//! user's runs, nobody is woken, and no connection is dropped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use crate::clock::now;
use crate::connection::Tell;
use crate::connections::Connections;
use crate::error::call::Scarcity;
use crate::error::outage::Outage;
use crate::event::{Event, State, Status};
use crate::fan_out::FanOut;
use crate::limits::Limits;
use crate::panics::{caught, discard};
use crate::policy::Retry;
use crate::proto::ledger::{Place, Ticket};
use crate::proto::resume::Resume;
use crate::proto::retry::{Budget, Elsewhere};
use crate::proto::wakes::Wakes;
use crate::roster::link::Taken;
use crate::roster::no_place::NoPlace;
use crate::roster::resuming::Resumed;
use crate::roster::wish::{Patience, Until, Wish};
use crate::roster::{Life, NewId, Roster};
use crate::switchboard::aftermath::Aftermath;
use crate::switchboard::waiting::{Seeking, Waiting};

mod aftermath;
mod reports;
mod waiting;

/// As good as for ever, and no clock overflows.
const FOR_EVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);

pub(crate) struct Switchboard {
    roster: Mutex<Roster>,
    /// The last one who came had to wait, so the next one looks at the clock before the lock is taken, not under it.
    is_crowded: AtomicBool,
    endpoint: Arc<str>,
    state: watch::Sender<State>,
    /// Rung when a call begins to wait, so that the next attempt to connect is brought forward.
    pub(crate) demand: Notify,
    /// Rung when somebody begins to wait whose time is over before that of all others.
    pub(crate) sooner: Notify,
    /// Rung when a connection may not be needed any more that was.
    pub(crate) review: Notify,
    /// Rung, while calls wait to be sent again, when a connection was opened or shut, an attempt failed, room may have been made, or
    /// the pool was resized or closed.
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
        let roster = Roster::new(endpoint.clone(), connections, limits, retry);
        Self {
            endpoint,
            state: watch::Sender::new(roster.state()),
            roster: Mutex::new(roster),
            is_crowded: AtomicBool::new(false),
            demand: Notify::new(),
            sooner: Notify::new(),
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

    // What callers ask.

    /// A place at once, or the reason why not; `Ok(None)` if waiting may bring one.
    pub(crate) fn try_place(&self, wish: Wish<'_>) -> Result<Option<Taken>, NoPlace> {
        self.lock().try_place(wish)
    }

    /// A place and an id for a new call, at once, or the reason why not; `Ok(None)` if waiting may bring them.
    pub(crate) fn try_begin(&self, wish: Wish<'_>) -> Result<Option<(Taken, NewId)>, NoPlace> {
        let mut roster = self.lock();
        let taken = roster.try_place(wish)?;
        Ok(taken.map(|taken| (taken, roster.issue())))
    }

    /// A place, or a ticket for the line of those who wait for one.
    pub(crate) fn poll_place(
        &self,
        wish: Wish<'_>,
        ticket: &mut Option<Ticket>,
        until: &mut Until,
        cx: &Context<'_>,
    ) -> Poll<Result<Taken, NoPlace>> {
        let before = *ticket;
        let is_crowded = self.is_crowded.load(Ordering::Relaxed);
        if is_crowded && before.is_none() {
            until.begin();
        }
        let (polled, unneeded) = self.change(|roster, after| {
            let mut unneeded = None;
            let polled = roster.poll_place(wish, ticket, until, cx.waker(), &mut unneeded);
            let is_refused = matches!(&polled, Poll::Ready(Err(NoPlace::Overloaded(_))));
            let wants_more = is_refused || ticket.is_some() && *ticket != before;
            after.demand = wants_more && !roster.ledger.is_complete();
            (polled, unneeded)
        });
        if before.is_none() && is_crowded != polled.is_pending() {
            self.is_crowded.store(polled.is_pending(), Ordering::Relaxed);
        }
        // A waker, whose drop is the user's code.
        discard(unneeded);
        polled
    }

    /// Those whose time is over leave the line, and are told. Returns when to look again, unless [`sooner`](Self::sooner) rings.
    pub(crate) fn expire(&self) -> Option<Instant> {
        let now = now();
        self.change(|roster, after| {
            roster.expire(now, &mut after.wake);
            // A place that nobody claimed is free.
            after.changed = true;
            roster.look_at()
        })
    }

    /// Leaves the line. A place that was handed over at that moment goes to the next.
    pub(crate) fn leave(&self, ticket: Ticket) {
        let waker = self.change(|roster, after| {
            after.changed = !roster.ledger.is_waiting(ticket);
            roster.ledger.leave(ticket, &mut after.wake)
        });
        discard(waker);
    }

    pub(crate) fn issue(&self) -> NewId {
        self.lock().issue()
    }

    /// A call is settled for good.
    pub(crate) fn finish(&self, id: u64) {
        self.lock().sequence.finish(id);
    }

    /// A call is settled for good, with success, and gives its place back, unless somebody else does.
    pub(crate) fn succeeded(&self, id: u64, place: Option<Place>) {
        let mut roster = self.lock();
        roster.sequence.finish(id);
        roster.budget.deposit();
        self.give_back(roster, place);
    }

    /// Gives a place back.
    pub(crate) fn release(&self, place: Place) {
        self.give_back(self.lock(), Some(place));
    }

    /// Each call comes by here, and neither the state nor the next time to look changes: it spares itself a [change](Self::change).
    fn give_back(&self, mut roster: MutexGuard<'_, Roster>, place: Option<Place>) {
        let mut wake = Wakes::default();
        if let Some(place) = place {
            roster.ledger.release(place, &mut wake);
        }
        let is_resuming = roster.is_resuming();
        drop(roster);
        wake.wake();
        if is_resuming {
            self.tell_resuming();
        }
    }

    /// Where a call that may have run can go again.
    pub(crate) fn resume(&self, resume: Resume, patience: Patience) -> Result<Resumed, NoPlace> {
        self.lock().resume(resume, patience)
    }

    /// A call waits to be sent again, until then, or until what this returns is dropped.
    pub(crate) fn resuming(&self, resume: Resume, until: Instant) -> Waiting<'_> {
        let call = self.change(|roster, after| {
            after.demand = true;
            roster.begin_resuming(resume, until)
        });
        Waiting { board: self, resume, call }
    }

    /// Somebody waits until something is ready, for so long, or until what this returns is dropped.
    pub(crate) fn seeking(&self, limit: Duration) -> Seeking<'_> {
        let until = now() + limit.min(FOR_EVER);
        let seeker = self.change(|roster, after| {
            after.demand = true;
            roster.begin_seeking(until)
        });
        Seeking { board: self, seeker }
    }

    /// From now on the pool has this size. Returns the slots that need a channel. A pool that is closed stays as it is.
    pub(crate) fn resize(&self, connections: Connections) -> Vec<usize> {
        self.change(|roster, after| {
            // A slot that does not come back is not waited for.
            (after.demand, after.review, after.changed) = (true, true, true);
            roster.resize(connections)
        })
    }

    /// Whether a connection other than that of slot `at` could take a call now.
    pub(crate) fn elsewhere(&self, at: Option<usize>) -> Elsewhere {
        Elsewhere::from_room(self.lock().ledger.has_room_beside(at))
    }

    /// The same for a call that may have run.
    pub(crate) fn elsewhere_to_resume(&self, resume: Resume) -> Elsewhere {
        Elsewhere::from_room(self.lock().has_room_to_resume(resume))
    }

    /// See [`Roster::timed_out`].
    pub(crate) fn timed_out(&self) -> NoPlace {
        self.lock().timed_out()
    }

    /// See [`Roster::why_not_resumed`].
    pub(crate) fn why_not_resumed(&self, resume: Resume) -> Scarcity {
        self.lock().why_not_resumed(resume)
    }

    /// Decides with the budget at hand.
    pub(crate) fn with_budget<R>(&self, decide: impl FnOnce(&mut Budget) -> R) -> R {
        decide(&mut self.lock().budget)
    }

    pub(crate) fn outage(&self) -> Option<Arc<Outage>> {
        self.lock().outage()
    }

    /// Why nothing is ready, if nothing is.
    pub(crate) fn why_not_ready(&self) -> Option<Arc<Outage>> {
        self.lock().why_not_ready()
    }

    pub(crate) fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    pub(crate) fn status(&self) -> Status {
        let roster = self.lock();
        Status {
            state: roster.state(),
            ready: roster.ledger.ready(),
            in_flight: roster.ledger.in_flight(),
            waiting: roster.waiting(),
            outage: roster.outage().map(|outage| (*outage).clone()),
            instance: roster.instance,
        }
    }

    // The end.

    /// No new calls; those that wait are told, those in flight are finished.
    pub(crate) fn close(&self) {
        let links = self.change(|roster, after| {
            if roster.life == Life::Running {
                roster.life = Life::Closing;
            }
            roster.ledger.wake_all(&mut after.wake);
            after.changed = true;
            roster.connected()
        });
        for link in links {
            link.connection.with(|client| (client.drain(), Tell::Owner));
        }
    }

    /// Nothing is left.
    pub(crate) fn closed(&self) {
        let links = self.change(|roster, after| {
            roster.life = Life::Closed;
            roster.ledger.shut_all();
            roster.ledger.wake_all(&mut after.wake);
            after.changed = true;
            Vec::from_iter(roster.links.iter_mut().map(Option::take))
        });
        self.events.close();
        self.pushes.close();
        links.into_iter().for_each(discard);
    }

    /// Calls that have a place or wait for one. One that was given up, or answered, is none any more, though it may have its place
    /// yet.
    pub(crate) fn unfinished(&self) -> usize {
        let roster = self.lock();
        let calls = roster.waiting() + roster.ledger.in_flight();
        let links = roster.connected();
        drop(roster);
        let settled = links
            .iter()
            .map(|link| link.connection.with(|calling| (calling.settled_places(), Tell::Nobody)));
        calls.saturating_sub(settled.sum())
    }

    /// Changes the roster; what comes of it is done when the lock has been released. What is not needed any more and may be the
    /// user's is returned by `change`, to be [discarded](discard) behind that.
    fn change<R>(&self, change: impl FnOnce(&mut Roster, &mut Aftermath) -> R) -> R {
        let mut after = Aftermath::default();
        let mut roster = self.lock();
        let (state, look_at) = (roster.state(), roster.look_at());
        let result = change(&mut roster, &mut after);
        let is_news = roster.state() != state;
        let is_sooner = roster.look_at().is_some_and(|at| look_at.is_none_or(|before| at < before));
        let is_resuming = roster.is_resuming();
        drop(roster);
        if is_news {
            self.publish();
        }
        let Aftermath { wake, demand, review, changed } = after;
        wake.wake();
        if is_sooner {
            self.sooner.notify_one();
        }
        if changed && is_resuming {
            self.tell_resuming();
        }
        if demand {
            self.demand.notify_waiters();
        }
        if review {
            self.review.notify_waiters();
        }
        result
    }

    /// Makes the state known. It is read while the watch is held, so that no older one can overwrite a newer.
    fn publish(&self) {
        // Wakes those who watch.
        caught(|| {
            self.state.send_if_modified(|state| {
                let now = self.lock().state();
                std::mem::replace(state, now) != now
            })
        });
    }

    /// Calls that wait to be sent again look again.
    fn tell_resuming(&self) {
        caught(|| self.changed.notify_waiters());
    }

    fn lock(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Switchboard {
    /// Not what is under the lock: bodies and users' errors are nobody's business there.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Switchboard").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
