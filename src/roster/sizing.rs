//! A pool's slots: which there are, which have a channel, which should have a connection, and which should let it go.

use std::sync::Arc;
use std::time::Instant;

use crate::clock::now;
use crate::connections::Connections;
use crate::downtime::Downtime;
use crate::error::outage::Began;
use crate::prospects::Outlook;
use crate::proto::reconnect::Plan;
use crate::proto::sizing::{Scene, Size, Wanted};
use crate::proto::tenure::{Retirement, Tenure, Terms, Verdict};
use crate::proto::wakes::Wakes;
use crate::roster::link::Link;
use crate::roster::{Life, Roster};

impl Roster {
    /// From now on the pool has this size. Returns the slots that need a channel; those that are too many find out when they
    /// ask.
    pub(crate) fn resize(&mut self, connections: Connections) -> Vec<usize> {
        if self.life != Life::Running {
            return Vec::new();
        }
        self.size = connections.over(self.size);
        self.fit();
        if self.size.min > 0 {
            self.seek();
        }
        (0..self.size.max).filter(|slot| self.channels.insert(*slot)).collect()
    }

    /// What a slot without a connection should do. If it is gone, its channel departs under the same lock, so that who makes the
    /// pool larger again in between gives it another.
    pub(crate) fn ask_or_depart(&mut self, slot: usize, now: Instant, plan: &mut Plan) -> Wanted {
        let wanted = self.wanted(slot);
        if wanted == Wanted::Gone {
            plan.broke_off(now);
            self.plans.insert(slot, plan.clone());
            self.prospects.forget(slot);
            self.channels.remove(&slot);
            self.fit();
        }
        wanted
    }

    /// What is to come, while nothing is ready.
    pub(crate) fn outlook(&self) -> Outlook {
        if self.life != Life::Running {
            return Outlook::default();
        }
        self.prospects.outlook(|slot| self.wanted(slot))
    }

    /// What is to become of a slot's connection. One that is to be let go takes no calls any more when this returns; it is
    /// returned to be dropped after the lock is released.
    pub(crate) fn review(
        &mut self,
        slot: usize,
        now: Instant,
        tenure: &mut Tenure,
        wake: &mut Wakes,
    ) -> (Verdict, Option<Arc<Link>>) {
        if self.links[slot].is_none() && self.life == Life::Running {
            // It was taken off the list before: only a lease does so.
            let why = self.spoiled.remove(&slot).unwrap_or(Retirement::Lease);
            return (Verdict::Retire(why), None);
        }
        let terms = Terms {
            standing: self.slots().standing(slot, self.ledger.ready()),
            idle_limit: self.size.idle_after(),
            lifetime: self.size.old_after(),
        };
        let verdict = tenure.look(now, terms, self.ledger.usage(slot));
        let Verdict::Retire(_) = verdict else {
            return (verdict, None);
        };
        self.ledger.shut(slot, wake);
        (verdict, self.links[slot].take())
    }

    /// An attempt is made. If nothing is ready, this is the time without a connection that callers are told of.
    pub(crate) fn seek(&mut self) {
        if self.life == Life::Running && !self.ledger.is_ready() && self.downtime.is_none() {
            self.downtime = Some(self.down_since_now());
        }
    }

    /// If nobody asks for a connection and none is kept, that there is none is no outage. Returns what is to be dropped after
    /// the lock is released.
    pub(crate) fn rest(&mut self) -> Option<Downtime> {
        let rests = self.size.min == 0 && !self.ledger.is_ready() && !self.is_asked();
        if rests { self.downtime.take() } else { None }
    }

    /// Whether anybody waits for a connection.
    pub(crate) fn is_asked(&self) -> bool {
        let Scene { waiting, others, .. } = self.scene();
        waiting + others > 0
    }

    /// Nobody has been told of an outage: an attempt is to be waited for.
    pub(crate) fn is_untried(&self, downtime: &Downtime) -> bool {
        self.size.min == 0 && !downtime.was_tried()
    }

    pub(crate) fn down_since_now(&self) -> Downtime {
        let began = if self.ledger.was_ever_ready() { Began::Idle } else { Began::NeverConnected };
        Downtime::new(now(), began)
    }

    fn wanted(&self, slot: usize) -> Wanted {
        if self.life != Life::Running {
            // The channels may hear later that the pool is being closed.
            return Wanted::Nothing;
        }
        let scene = Scene { stranded: self.strands(slot), ..self.scene() };
        self.slots().wanted(slot, &scene)
    }

    fn slots(&self) -> Size {
        Size { min: self.size.min, max: self.size.max }
    }

    fn scene(&self) -> Scene {
        // Those that are kept are on their way, whoever waits until they are ready.
        let seeking = if self.size.min == 0 { self.seekers.len() } else { 0 };
        let held_up = self.held_up();
        Scene {
            ready: self.ledger.ready(),
            waiting: self.ledger.waiting() + held_up + usize::from(self.asked_in_vain),
            others: self.resuming_calls() - held_up + seeking,
            stranded: false,
            first_shut: self.ledger.first_shut(),
            outage: self.downtime.is_some(),
        }
    }

    /// As many slots as the pool should have, and no fewer than have a channel.
    fn fit(&mut self) {
        let with_channel = self.channels.last().map_or(0, |last| last + 1);
        let slots = self.size.max.max(with_channel);
        self.links.resize_with(slots, || None);
        self.ledger.resize(slots, self.size.min);
        // There are no more to be had.
        self.asked_in_vain &= !self.ledger.is_complete();
    }
}
