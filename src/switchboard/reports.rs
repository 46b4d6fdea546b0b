//! What becomes of the connections of slots, as channels report it, or callers find out; and which are wanted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::clock::now;
use crate::connection::Tell;
use crate::downtime::Downtime;
use crate::error::connect::ConnectError;
use crate::error::instance::InstanceId;
use crate::error::outage::Began;
use crate::panics::discard;
use crate::prospects::Prospect;
use crate::proto::ledger::Place;
use crate::proto::reconnect::Plan;
use crate::proto::sizing::Wanted;
use crate::proto::tenure::{Retirement, Tenure, Verdict};
use crate::roster::Life;
use crate::roster::link::Link;
use crate::switchboard::Switchboard;

impl Switchboard {
    /// The number of the next connection, and the smallest id that no call has been given yet.
    pub(crate) fn number_connection(&self) -> (u64, u64) {
        let mut roster = self.lock();
        roster.connections += 1;
        (roster.connections, roster.sequence.next_id())
    }

    /// An attempt begins.
    pub(crate) fn dialing(&self, slot: usize) {
        self.change(|roster, _| {
            roster.seek();
            roster.prospects.set(slot, Prospect::Dialing(None));
        });
    }

    /// An attempt has connected, to there if the transport knows, and waits for the handshake.
    pub(crate) fn awaits_handshake(&self, slot: usize, address: Option<SocketAddr>) {
        self.lock().prospects.set(slot, Prospect::Dialing(address));
    }

    /// An attempt waits for the handshake no more: it is done, or has failed.
    pub(crate) fn handshake_over(&self, slot: usize) {
        self.lock().prospects.set(slot, Prospect::Dialing(None));
    }

    /// A slot's next attempt is made then at the latest, if it is wanted then.
    pub(crate) fn dials_at(&self, slot: usize, next: Instant) {
        self.lock().prospects.set(slot, Prospect::Waiting(next));
    }

    /// The plan that a slot had when it was there last.
    pub(crate) fn take_plan(&self, slot: usize) -> Option<Plan> {
        self.lock().plans.remove(&slot)
    }

    /// An attempt failed; the slot's next is made then at the latest, if it is wanted then. If waiting cannot mend the cause, those
    /// who wait are told.
    pub(crate) fn attempt_failed(&self, slot: usize, error: &Arc<ConnectError>, next: Instant) {
        let before = self.change(|roster, after| {
            roster.seek();
            roster.asked_in_vain = false;
            roster.prospects.set(slot, Prospect::Waiting(next));
            let downtime = roster.downtime.as_mut();
            let before = downtime.and_then(|downtime| downtime.failed(error.clone()));
            // Who does not wait through outages has waited for this attempt, if it was the first.
            let is_first = roster.downtime.as_ref().is_some_and(Downtime::was_tried_once);
            if error.is_permanent() || is_first {
                roster.ledger.wake_all(&mut after.wake);
            }
            // It may be another slot's turn to see that nobody asks.
            after.demand = is_first;
            after.changed = true;
            before
        });
        // An error can hold a user's.
        discard(before);
    }

    /// A slot's connection takes calls. Returns the server process before and now, if it was another.
    pub(crate) fn opened(
        &self,
        slot: usize,
        link: Link,
        capacity: usize,
    ) -> Option<(InstanceId, InstanceId)> {
        let (connection, instance) = (link.connection.clone(), link.server.instance);
        let (before, old, downtime, unused) = self.change(|roster, after| {
            let before = instance.and_then(|current| roster.instance.replace(current));
            roster.prospects.forget(slot);
            roster.asked_in_vain = false;
            let (mut old, mut downtime, mut unused) = (None, None, None);
            if roster.life == Life::Running {
                old = roster.links[slot].replace(Arc::new(link));
                roster.reserve_places();
                // Who was handed a place on the connection before and has not taken it is handed another.
                roster.ledger.shut(slot, &mut after.wake);
                roster.ledger.open(slot, capacity, &mut after.wake);
                downtime = roster.downtime.take();
            } else {
                unused = Some(link);
            }
            after.demand = roster.ledger.waiting() > 0;
            after.review = roster.ledger.has_spare_ready();
            after.changed = true;
            (before, old, downtime, unused)
        });
        if unused.is_some() {
            connection.with(|client| (client.drain(), Tell::Owner));
        }
        discard(old);
        discard(downtime);
        discard(unused);
        before.zip(instance).filter(|(before, current)| before != current)
    }

    /// Whether a slot's connection takes calls, as far as is known.
    pub(crate) fn is_open(&self, slot: usize) -> bool {
        self.lock().links.get(slot).is_some_and(Option::is_some)
    }

    /// A slot's connection takes no more calls, and why.
    pub(crate) fn shut(&self, slot: usize, why: Began) {
        let link = self.change(|roster, after| {
            let link = roster.links[slot].take();
            roster.ledger.shut(slot, &mut after.wake);
            roster.went_down(why, &mut after.wake);
            after.demand = roster.is_asked();
            after.changed = true;
            link
        });
        discard(link);
    }

    /// A connection turned out to take no calls before its channel said so: nobody else shall run into it.
    pub(crate) fn distrust(&self, place: Place) {
        self.change(|roster, after| {
            if roster.ledger.is_current(place) {
                roster.ledger.shut(place.slot, &mut after.wake);
                roster.went_down(Began::Unknown, &mut after.wake);
            }
        });
    }

    /// Nobody else can use this connection, and why: its slot gets another, while it is being closed.
    pub(crate) fn spoil(&self, place: Place, why: Retirement) {
        let link = self.change(|roster, after| {
            after.review = true;
            if !roster.ledger.is_current(place) {
                return None;
            }
            let link = roster.links[place.slot].take();
            roster.spoiled.insert(place.slot, why);
            roster.ledger.shut(place.slot, &mut after.wake);
            roster.went_down(Began::Unknown, &mut after.wake);
            link
        });
        discard(link);
    }

    /// One connection died of silence: the others are asked at once, all in parallel, whether they live.
    pub(crate) fn probe_all(&self) {
        let now = now();
        let links = self.lock().connected();
        for link in links {
            link.connection.with(|client| (client.probe(now), Tell::Owner));
        }
    }

    /// What a slot without a connection should do. If it is gone, its channel has departed and must not ask again.
    pub(crate) fn ask_or_depart(&self, slot: usize, now: Instant, plan: &mut Plan) -> Wanted {
        self.lock().ask_or_depart(slot, now, plan)
    }

    /// What is to become of a slot's connection. One that is to be let go takes no calls any more when this returns.
    pub(crate) fn review(&self, slot: usize, now: Instant, tenure: &mut Tenure) -> Verdict {
        let (verdict, link) = self.change(|roster, after| {
            let (verdict, link) = roster.review(slot, now, tenure, &mut after.wake);
            let retires = matches!(verdict, Verdict::Retire(_));
            after.demand = retires && roster.is_asked();
            after.changed = retires;
            (verdict, link)
        });
        discard(link);
        verdict
    }

    /// Nobody asks for a connection any more, and none is kept.
    pub(crate) fn rest(&self) {
        let downtime = self.change(|roster, _| roster.rest());
        discard(downtime);
    }
}
