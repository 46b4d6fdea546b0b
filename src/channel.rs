//! Keeps one connection alive against an endpoint. Each slot of a pool has one channel: one task, one owner.
//!
//! ```text
//!            time has come                handshake, hook             loss
//! waiting ──────────────────► connecting ─────────────────► ready ───────────► waiting
//!    ▲                            │ failed                    │ GOAWAY
//!    └────────────────────────────┘                           └──► waiting, while the old connection drains beside
//! ```
//!
//! [`Plan`] decides when; this file carries it out and reports to the [`Switchboard`].

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::sleep_until;
use tracing::debug;

use crate::clock::now;
use crate::connect::NotConnected;
use crate::connection::Tell;
use crate::dialer::{Dialer, Ready, Running, Settings};
use crate::error::connect::{ConnectCause, ConnectError, Phase};
use crate::error::loss::{GoAway, Loss};
use crate::error::outage::Began;
use crate::event::Event;
use crate::proto::reconnect::{Callers, Plan};
use crate::roster::Wanted;
use crate::switchboard::Switchboard;

/// When a connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upkeep {
    /// Also while nobody needs it.
    Always,
    /// Only when those that are ready have no room.
    OnDemand,
}

pub(crate) struct Channel {
    upkeep: Upkeep,
    dialer: Dialer,
    board: Arc<Switchboard>,
    plan: Plan,
    attempts: u32,
    /// Connections that the server sent away, finishing their calls.
    draining: FuturesUnordered<Running>,
}

impl Channel {
    pub(crate) fn new(
        slot: usize,
        upkeep: Upkeep,
        settings: Arc<Settings>,
        board: Arc<Switchboard>,
        seed: u64,
    ) -> Self {
        let plan = Plan::new(now(), settings.reconnect, seed);
        let dialer = Dialer { slot, settings, board: board.clone(), replaces: 0 };
        Self { upkeep, dialer, board, plan, attempts: 0, draining: FuturesUnordered::new() }
    }

    /// Runs until the pool is closed. Dropping the future ends the connection at once.
    pub(crate) async fn run(mut self) {
        while self.wait_to_dial().await {
            match self.dial().await {
                Ok(ready) => self.serve(ready).await,
                Err(error) => self.failed(error),
            }
        }
        while let Some(loss) = self.draining.next().await {
            report(&self.board, self.dialer.slot, loss);
        }
    }

    /// Waits until the plan says so, or waiting calls bring the attempt forward. False when the pool is being closed.
    async fn wait_to_dial(&mut self) -> bool {
        let Self { upkeep, dialer, board, plan, draining, .. } = self;
        let closing = &dialer.settings.closing;
        loop {
            let mut demand = pin!(board.demand.notified());
            // From here on no ring is missed.
            demand.as_mut().enable();
            let wanted = board.wanted(dialer.slot);
            let at = match (*upkeep, wanted) {
                (Upkeep::Always, Wanted::Connection) => plan.dial_at(Callers::Waiting),
                (Upkeep::Always, _) | (_, Wanted::MoreRoom) => plan.dial_at(Callers::None),
                (Upkeep::OnDemand, _) => None,
            };
            if at.is_some_and(|at| at <= now()) {
                return !closing.is_cancelled();
            }
            let alarm = async {
                match at {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = closing.cancelled() => return false,
                () = alarm => {}
                () = demand => {}
                Some(loss) = draining.next() => report(board, dialer.slot, loss),
            }
        }
    }

    fn failed(&mut self, error: ConnectError) {
        if self.dialer.settings.closing.is_cancelled() {
            return;
        }
        let now = now();
        self.plan.failed(now, error.phase, error.retry_after());
        let next_in = self.plan.dial_at(Callers::None).map_or(Duration::ZERO, |at| at - now);
        debug!(slot = self.dialer.slot, attempt = self.attempts, %error, ?next_in, "attempt failed");
        let error = Arc::new(error);
        // First the ledger, then the news: who hears it may ask.
        self.board.attempt_failed(self.dialer.slot, &error);
        self.board.events.send(&Event::DialFailed { slot: self.dialer.slot, error, next_in });
    }

    /// One attempt, from the name to a connection that calls can use.
    async fn dial(&mut self) -> Result<Ready, ConnectError> {
        let began = now();
        self.plan.dial();
        self.attempts += 1;
        let Self { dialer, attempts, draining, board, .. } = self;
        board.events.send(&Event::Dialing { slot: dialer.slot, attempt: *attempts });
        let settings = &dialer.settings;
        let mut dialing = pin!(dialer.dial(began));
        let result = loop {
            tokio::select! {
                () = settings.closing.cancelled() => break Err(NotConnected {
                    phase: Phase::Connect,
                    cause: ConnectCause::Closed,
                    address: None,
                }),
                result = &mut dialing => break result,
                Some(loss) = draining.next() => report(board, dialer.slot, loss),
            }
        };
        result.map_err(|NotConnected { phase, cause, address }| ConnectError {
            phase,
            cause,
            endpoint: settings.endpoint.text().clone(),
            address,
            took: now().saturating_duration_since(began),
        })
    }

    /// Lives with a connection until it dies or drains.
    async fn serve(&mut self, ready: Ready) {
        let Ready { connection, number, mut running, mut goodbye } = ready;
        self.plan.succeeded(now());
        self.attempts = 0;
        let mut may_go = true;
        let end = loop {
            tokio::select! {
                biased;
                loss = &mut running => break Err(loss),
                said = &mut goodbye, if may_go => match said {
                    Ok(said) => break Ok(said),
                    // The driver is at its end; it will say why.
                    Err(_) => may_go = false,
                },
                Some(loss) = self.draining.next() => {
                    report(&self.board, self.dialer.slot, loss);
                }
            }
        };
        match (end, goodbye.try_recv()) {
            (Ok(said), _) => {
                connection.with(|client| (client.drain(), Tell::Owner));
                self.draining.push(running);
                self.sent_away(number, said);
            }
            // The server went away in one breath: there was nothing to be finished.
            (Err(loss), Ok(said)) if loss.is_intended() => self.sent_away(number, said),
            (Err(loss), said) => self.lost(loss, said.ok()),
        }
    }

    fn sent_away(&mut self, connection: u64, goodbye: GoAway) {
        let slot = self.dialer.slot;
        // The old connection finishes what the server accepted, so nothing takes its place.
        self.dialer.replaces = 0;
        self.board.shut(slot, Began::SentAway(goodbye.clone()));
        self.plan.lost(now(), goodbye.retry_after);
        self.board.events.send(&Event::GoingAway { slot, connection, goodbye });
    }

    fn lost(&mut self, loss: Arc<Loss>, goodbye: Option<GoAway>) {
        self.dialer.replaces = loss.connection;
        self.board.shut(self.dialer.slot, Began::Lost(loss.clone()));
        let retry_after = goodbye.and_then(|goodbye| goodbye.retry_after);
        self.plan.lost(now(), retry_after.or(loss.retry_after()));
        report(&self.board, self.dialer.slot, loss);
    }
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
