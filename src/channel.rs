//! Keeps one connection alive against an endpoint. Each slot of a pool has one channel: one task, one owner.
//!
//! ```text
//!            time has come                handshake, hook             loss, not needed any more
//! waiting ──────────────────► connecting ─────────────────► ready ────────────────────────────► waiting
//!    ▲                            │ failed                  │   │ GOAWAY
//!    └────────────────────────────┘             old enough  │   └──► waiting, while the old connection drains beside
//!                                                           ▼
//!      ready, while the old one drains ◄── connecting, while the old one goes on
//! ```
//!
//! [`Plan`] decides when to connect, the [`Switchboard`] whether, and [`Tenure`] for how long; this file carries it out and
//! reports.

use std::ops::ControlFlow::{self, Break, Continue};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures::future::{BoxFuture, OptionFuture};
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::oneshot;
use tokio::time::sleep_until;
use tracing::{debug, info, warn};

use crate::clock::now;
use crate::connect::NotConnected;
use crate::connection::{Connection, Tell};
use crate::dialer::{Dialer, Ready, Running, Settings};
use crate::dormant::Dormant;
use crate::error::connect::ConnectError;
use crate::error::loss::{GoAway, Loss};
use crate::error::outage::Began;
use crate::event::Event;
use crate::panics::{caught, discard};
use crate::proto::calling::Calling;
use crate::proto::reconnect::{Callers, Lost, Plan};
use crate::proto::sizing::Wanted;
use crate::proto::tenure::{Retirement, Tenure, Verdict};
use crate::switchboard::Switchboard;

pub(crate) struct Channel {
    dialer: Dialer,
    board: Arc<Switchboard>,
    plan: Plan,
    /// Nobody has needed a connection since an attempt could be made.
    is_resting: bool,
    rng: Rng,
    attempts: u32,
    attempt: Option<BoxFuture<'static, Result<Ready, ConnectError>>>,
    current: Option<Current>,
    /// The pool is being closed, or has no such slot any more, or another channel has it: only what drains is left.
    is_over: bool,
    /// Connections that were let go, or sent away by the server, finishing their calls.
    draining: FuturesUnordered<Running>,
}

/// The connection that takes the slot's calls.
struct Current {
    connection: Connection<dyn Calling>,
    number: u64,
    running: Running,
    /// `None` when nothing can come any more.
    goodbye: Option<oneshot::Receiver<GoAway>>,
    /// See [`Ready::idle_limit`].
    idle_limit: Option<Duration>,
    tenure: Tenure,
    /// When to try to replace it, once it is old enough.
    renewal: Option<Plan>,
}

impl Current {
    /// What a goodbye means. One that cannot have been idle for so long as the server had named is not believed to have been: who
    /// sends away what has just come shall see the backoff's rate.
    fn lost_to(&self, goodbye: &GoAway) -> Lost {
        // The server counts from another moment than this side.
        let may_be = self.idle_limit.is_some_and(|limit| self.tenure.age(now()) >= limit / 2);
        if goodbye.code == GoAway::IDLE && may_be { Lost::Idleness } else { Lost::Mishap }
    }
}

/// What a channel wakes up for.
enum Wakeup {
    Attempted(Result<Ready, ConnectError>),
    Lost(Arc<Loss>),
    /// `None`: the driver is at its end; it will say why.
    SentAway(Option<GoAway>),
    Drained(Arc<Loss>),
    /// Time has passed, or somebody rang.
    Woken,
    Closing,
}

impl Channel {
    pub(crate) fn new(
        slot: usize,
        settings: Arc<Settings>,
        board: Arc<Switchboard>,
        seed: u64,
    ) -> Self {
        let mut rng = Rng::with_seed(seed);
        let plan = Plan::new(now(), settings.reconnect, rng.u64(..));
        let plan = board.take_plan(slot).unwrap_or(plan);
        let dialer = Dialer { slot, settings, board: board.clone(), replaces: None };
        Self {
            dialer,
            board,
            is_resting: plan.is_due(now()),
            plan,
            rng,
            attempts: 0,
            attempt: None,
            current: None,
            is_over: false,
            draining: FuturesUnordered::new(),
        }
    }

    /// Runs until the pool is closed, or has no such slot any more. Dropping the channel ends the connection at once.
    pub(crate) async fn run(&mut self) {
        while !self.is_over {
            match self.turn().await {
                Continue(Wakeup::Attempted(Ok(ready))) => self.ready(ready),
                Continue(Wakeup::Attempted(Err(error))) => self.failed(error),
                Continue(Wakeup::Lost(loss)) => self.lost(loss),
                Continue(Wakeup::SentAway(said)) => self.sent_away(said),
                Continue(Wakeup::Drained(loss)) => report(&self.board, self.dialer.slot, loss),
                Continue(Wakeup::Woken) => {}
                Continue(Wakeup::Closing) | Break(()) => self.is_over = true,
            }
        }
        discard(self.attempt.take());
        if let Some(current) = self.current.take() {
            self.drain(current);
        }
        while let Some(loss) = self.draining.next().await {
            report(&self.board, self.dialer.slot, loss);
        }
    }

    /// Something in it has panicked that was not caught before, as a `tracing` subscriber may: the attempt and the connection are
    /// given up, because nobody knows which of them would panic again, and it begins again. (Of what drains, one that panics has
    /// gone by itself.)
    pub(crate) fn begin_again(&mut self) {
        discard(self.attempt.take());
        if let Some(current) = self.current.take() {
            self.dialer.replaces = Some(current.number);
            discard(current);
        }
        if !self.is_over {
            // Also what an attempt has opened, and could not say any more.
            if self.board.is_open(self.dialer.slot) {
                self.board.shut(self.dialer.slot, Began::Unknown);
            }
            self.plan.broke_off(now());
            self.say_when_it_dials();
        }
        caught(|| warn!(slot = self.dialer.slot, "begins again behind a panic"));
    }

    /// Does what there is to do, and waits for what happens next.
    async fn turn(&mut self) -> ControlFlow<(), Wakeup> {
        let board = self.board.clone();
        let bell = if self.current.is_some() { &board.review } else { &board.demand };
        let mut rung = pin!(bell.notified());
        // From here on no ring is missed.
        rung.as_mut().enable();
        let alarm = match self.look()? {
            Look::Again => return Continue(Wakeup::Woken),
            Look::At(alarm) => OptionFuture::from(alarm.map(|at| sleep_until(at.into()))),
        };
        let Self { dialer, attempt, current, draining, .. } = self;
        let (running, goodbye) = match current {
            Some(Current { running, goodbye, .. }) => (Some(running), goodbye.as_mut()),
            None => (None, None),
        };
        let closing = pin!(dialer.settings.closing.cancelled());
        let rest = pin!(async {
            tokio::select! {
                biased;
                Some(said) = OptionFuture::from(goodbye) => Wakeup::SentAway(said.ok()),
                Some(result) = OptionFuture::from(attempt.as_mut()) => Wakeup::Attempted(result),
                Some(loss) = draining.next() => Wakeup::Drained(loss),
                () = rung => Wakeup::Woken,
                Some(()) = alarm => Wakeup::Woken,
            }
        });
        Continue(tokio::select! {
            biased;
            () = Dormant::new(closing) => Wakeup::Closing,
            Some(loss) = OptionFuture::from(running) => Wakeup::Lost(loss),
            wakeup = Dormant::new(rest) => wakeup,
        })
    }

    /// Breaks at the end: the pool is being closed, or has no such slot any more.
    fn look(&mut self) -> ControlFlow<(), Look> {
        if self.dialer.settings.closing.is_cancelled() {
            return Break(());
        }
        let now = now();
        match &mut self.current {
            Some(_) => Continue(self.look_after(now)),
            None => self.look_for(now),
        }
    }

    /// With a connection: whether it stays.
    fn look_after(&mut self, now: Instant) -> Look {
        let Some(current) = &mut self.current else {
            return Look::Again;
        };
        match self.board.review(self.dialer.slot, now, &mut current.tenure) {
            Verdict::Keep(next_look) => Look::At(next_look),
            Verdict::Renew if self.attempt.is_some() => Look::At(None),
            Verdict::Renew => {
                let (policy, seed) = (self.dialer.settings.reconnect, self.rng.u64(..));
                let plan = current.renewal.get_or_insert_with(|| Plan::new(now, policy, seed));
                let at = plan.dial_at(Callers::None);
                self.dial_if_due(now, at)
            }
            Verdict::Retire(why) => {
                discard(self.attempt.take());
                match why {
                    // The next one will probably be no better; and who resizes a pool over and over dials no faster than the backoff.
                    Retirement::Unlendable | Retirement::Resized => {
                        self.plan.lost(now, Lost::Mishap, None);
                    }
                    _ => self.plan.retired(now),
                }
                self.say_when_it_dials();
                if let Some(current) = self.current.take() {
                    self.retire(current, why);
                }
                Look::Again
            }
        }
    }

    /// Without a connection: whether one is made. Breaks if there is no such slot any more.
    fn look_for(&mut self, now: Instant) -> ControlFlow<(), Look> {
        let callers = match self.board.ask_or_depart(self.dialer.slot, now, &mut self.plan) {
            Wanted::Gone => return Break(()),
            _ if self.attempt.is_some() => return Continue(Look::At(None)),
            Wanted::Nothing => {
                self.is_resting |= self.plan.is_due(now);
                return Continue(Look::At(None));
            }
            Wanted::Rest => return Continue(self.rest_if_due(now)),
            Wanted::Now => Callers::Waiting,
            Wanted::Connection => Callers::None,
        };
        if std::mem::take(&mut self.is_resting) {
            self.plan.needed(now);
        }
        let at = self.plan.dial_at(callers);
        Continue(self.dial_if_due(now, at))
    }

    fn rest_if_due(&mut self, now: Instant) -> Look {
        if !self.plan.is_due(now) {
            return Look::At(self.plan.dial_at(Callers::None));
        }
        self.is_resting = true;
        self.board.rest();
        Look::At(None)
    }

    fn dial_if_due(&mut self, now: Instant, at: Option<Instant>) -> Look {
        if at.is_none_or(|at| at > now) {
            return Look::At(at);
        }
        self.plan_of_attempts().dial();
        self.attempts += 1;
        // First the ledger, then the news: who hears it may ask.
        self.board.dialing(self.dialer.slot);
        let (slot, attempt) = (self.dialer.slot, self.attempts);
        self.board.events.send(&Event::Dialing { slot, attempt });
        self.attempt = Some(Box::pin(attempt_of(self.dialer.clone(), now)));
        Look::At(None)
    }

    /// The plan that says when to try: that of the replacement, if there is something to replace.
    fn plan_of_attempts(&mut self) -> &mut Plan {
        match &mut self.current {
            Some(Current { renewal: Some(plan), .. }) => plan,
            _ => &mut self.plan,
        }
    }

    fn failed(&mut self, error: ConnectError) {
        discard(self.attempt.take());
        let now = now();
        let plan = self.plan_of_attempts();
        plan.failed(now, error.phase, error.retry_after());
        let next = plan.dial_at(Callers::None).unwrap_or(now);
        let (slot, next_in, error) = (self.dialer.slot, next - now, Arc::new(error));
        // First the ledger, then the news: who hears it may ask.
        self.board.attempt_failed(slot, &error, next);
        // An error of a hook is the user's, also when it is shown.
        caught(|| debug!(slot, attempt = self.attempts, %error, ?next_in, "attempt failed"));
        let event = Event::DialFailed { slot, error, next_in };
        self.board.events.send(&event);
        discard(event);
    }

    /// It takes the slot's calls already; the one before it takes none any more.
    fn ready(&mut self, ready: Ready) {
        let Ready { connection, number, running, idle_limit, goodbye } = ready;
        let now = now();
        discard(self.attempt.take());
        self.attempts = 0;
        self.dialer.replaces = None;
        self.plan.succeeded(now);
        let (goodbye, tenure) = (Some(goodbye), Tenure::new(now, &mut self.rng));
        let current =
            Current { connection, number, running, goodbye, idle_limit, tenure, renewal: None };
        if let Some(old) = self.current.replace(current) {
            self.retire(old, Retirement::Lifetime);
        }
    }

    /// Lets go a connection that takes no calls any more and that nothing is wrong with.
    fn retire(&mut self, old: Current, why: Retirement) {
        let (slot, connection) = (self.dialer.slot, old.number);
        info!(slot, connection, %why, "connection retired");
        self.drain(old);
        self.board.events.send(&Event::Retired { slot, connection, why });
    }

    /// It finishes what it has.
    fn drain(&mut self, Current { connection, running, .. }: Current) {
        connection.with(|session| (session.drain(), Tell::Owner));
        self.draining.push(running);
    }

    fn sent_away(&mut self, said: Option<GoAway>) {
        let Some(current) = &mut self.current else {
            return;
        };
        let Some(goodbye) = said else {
            current.goodbye = None;
            return;
        };
        let (number, to) = (current.number, current.lost_to(&goodbye));
        if let Some(current) = self.current.take() {
            self.drain(current);
        }
        self.went_away(number, to, goodbye);
    }

    fn lost(&mut self, loss: Arc<Loss>) {
        let Some(mut current) = self.current.take() else {
            return;
        };
        let goodbye = current.goodbye.take().and_then(|mut goodbye| goodbye.try_recv().ok());
        match goodbye {
            // The server went away in one breath: there was nothing to be finished.
            Some(goodbye) if loss.is_intended() => {
                self.went_away(current.number, current.lost_to(&goodbye), goodbye);
            }
            goodbye => self.died(loss, goodbye),
        }
    }

    fn went_away(&mut self, connection: u64, to: Lost, goodbye: GoAway) {
        let slot = self.dialer.slot;
        // The old connection finishes what the server accepted, so nothing takes its place.
        self.dialer.replaces = None;
        self.board.shut(slot, Began::SentAway(goodbye.clone()));
        let now = now();
        self.plan.lost(now, to, goodbye.retry_after);
        self.say_when_it_dials();
        self.board.events.send(&Event::GoingAway { slot, connection, goodbye });
    }

    /// For those who ask why there is no connection. An attempt may be under way that was to replace one.
    fn say_when_it_dials(&self) {
        if let (Some(at), None) = (self.plan.dial_at(Callers::None), &self.attempt) {
            self.board.dials_at(self.dialer.slot, at);
        }
    }

    fn died(&mut self, loss: Arc<Loss>, goodbye: Option<GoAway>) {
        self.dialer.replaces = Some(loss.connection);
        self.board.shut(self.dialer.slot, Began::Lost(loss.clone()));
        let retry_after = goodbye.and_then(|goodbye| goodbye.retry_after);
        match loss.is_intended() {
            // A lease has ended it: nothing is wrong with the server.
            true => self.plan.retired(now()),
            false => self.plan.lost(now(), Lost::Mishap, retry_after.or(loss.retry_after())),
        }
        self.say_when_it_dials();
        report(&self.board, self.dialer.slot, loss);
    }
}

/// What looking at a slot came to.
enum Look {
    /// Something has changed.
    Again,
    /// Nothing to do before that time, if nothing happens.
    At(Option<Instant>),
}

/// One attempt, from the name to a connection that takes calls.
async fn attempt_of(dialer: Dialer, began: Instant) -> Result<Ready, ConnectError> {
    dialer.dial(began).await.map_err(|NotConnected { phase, cause, address }| ConnectError {
        phase,
        cause,
        endpoint: dialer.settings.endpoint.text().clone(),
        address,
        took: now().saturating_duration_since(began),
    })
}

/// A connection is gone, whether it was in use or draining.
fn report(board: &Switchboard, slot: usize, loss: Arc<Loss>) {
    if loss.is_intended() {
        return;
    }
    if loss.is_silence() {
        board.probe_all();
    }
    board.events.send(&Event::Lost { slot, loss });
}
