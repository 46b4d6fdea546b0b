//! Where calls go again that may have run, and those that wait until they can.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::{Roster, Standby, expire};
use crate::error::call::Scarcity;
use crate::error::instance::InstanceId;
use crate::proto::resume::{Memory, Resume, Way};
use crate::proto::wakes::Wakes;
use crate::roster::link::{Link, Taken};
use crate::roster::no_place::NoPlace;
use crate::roster::wish::Patience;

/// Calls that may have run and wait to be sent again, which were lost on the same slot and are known to the same memory.
#[derive(Debug)]
pub(super) struct Stranded {
    memory: Memory,
    slot: usize,
    calls: BTreeSet<Standby>,
}

impl Stranded {
    fn is_like(&self, resume: Resume) -> bool {
        (self.memory, self.slot) == (resume.memory, resume.slot)
    }
}

/// Where a call can go that may have run.
#[derive(Debug)]
pub(crate) enum Resumed {
    /// Nowhere: the process is the same, and has forgotten.
    Forgotten,
    /// There are connections for it, and none has room.
    Full,
    Taken(Taken),
    /// Another server process answers in that one's place.
    Replaced(InstanceId),
    /// Neither is known yet.
    Wait,
}

impl Roster {
    /// Where a call that may have run can go.
    pub(crate) fn resume(
        &mut self,
        resume: Resume,
        patience: Patience,
    ) -> Result<Resumed, NoPlace> {
        if let Some(no_place) = self.why_not_wait(patience) {
            return Err(no_place);
        }
        let links = self.links.iter().enumerate();
        let links = links.filter_map(|(slot, link)| link.as_ref()?.seen_at(slot));
        match resume.way(self.size.min, links) {
            Way::Replaced(instance) => Ok(Resumed::Replaced(instance)),
            Way::Forgotten => Ok(Resumed::Forgotten),
            Way::Wait => Ok(Resumed::Wait),
            Way::Known => Ok(self.take_on(resume).map_or(Resumed::Full, Resumed::Taken)),
        }
    }

    /// A place on a connection over which the call is known, if one has room: if possible on another than that of its last attempt.
    fn take_on(&mut self, Resume { memory, slot: last, .. }: Resume) -> Option<Taken> {
        let Self { links, ledger, .. } = self;
        let beside = slots_to(links, memory).filter(|slot| *slot != last);
        let the_same = slots_to(links, memory).filter(|slot| *slot == last);
        let place = beside.chain(the_same).find_map(|slot| ledger.place_on(slot))?;
        self.taken(place)
    }

    /// Whether there is room for a call that may have run beside the connection of its last attempt.
    pub(crate) fn has_room_to_resume(&self, resume: Resume) -> bool {
        slots_to(&self.links, resume.memory)
            .any(|slot| slot != resume.slot && self.ledger.has_room_on(slot))
    }

    /// Why a call that may have run could not be sent again in time.
    pub(crate) fn why_not_resumed(&self, resume: Resume) -> Scarcity {
        match self.why_not_ready() {
            Some(outage) => Scarcity::Outage(outage),
            None if self.reaches(resume.memory) => self.full(self.ledger.in_flight()),
            None => Scarcity::OutOfReach,
        }
    }

    pub(super) fn resuming_calls(&self) -> usize {
        self.resuming.iter().map(|stranded| stranded.calls.len()).sum()
    }

    pub(crate) fn is_resuming(&self) -> bool {
        !self.resuming.is_empty()
    }

    /// A call waits to be sent again, for no longer than until then, even if nobody polls it.
    pub(crate) fn begin_resuming(&mut self, resume: Resume, until: Instant) -> Standby {
        let (Resume { memory, slot, .. }, call) = (resume, self.stand_by(until));
        match self.resuming.iter_mut().find(|stranded| stranded.is_like(resume)) {
            Some(stranded) => _ = stranded.calls.insert(call),
            None => self.resuming.push(Stranded { memory, slot, calls: BTreeSet::from([call]) }),
        }
        self.reserve_places();
        call
    }

    /// A call waits no more to be sent again.
    pub(crate) fn end_resuming(&mut self, resume: Resume, call: Standby, wake: &mut Wakes) {
        for stranded in self.resuming.iter_mut().filter(|stranded| stranded.is_like(resume)) {
            stranded.calls.remove(&call);
        }
        self.let_go_resumed(wake);
    }

    /// When the first of them waits no more.
    pub(super) fn first_resumed(&self) -> Option<Instant> {
        self.resuming.iter().filter_map(|stranded| Some(stranded.calls.first()?.until)).min()
    }

    /// Those whose time is over wait no more.
    pub(super) fn expire_resuming(&mut self, now: Instant, wake: &mut Wakes) {
        let mut late = false;
        for Stranded { calls, .. } in &mut self.resuming {
            late |= expire(calls, now);
        }
        if late {
            self.let_go_resumed(wake);
        }
    }

    /// Places are for others that were reserved for calls which wait no more to be sent again.
    fn let_go_resumed(&mut self, wake: &mut Wakes) {
        self.resuming.retain(|stranded| !stranded.calls.is_empty());
        self.reserve_places();
        self.ledger.hand_over(wake);
    }

    /// Whether calls wait for this slot's next connection, because there is none over which they could be sent again.
    pub(super) fn strands(&self, slot: usize) -> bool {
        let mut stranded = self.resuming.iter().filter(|stranded| stranded.slot == slot);
        stranded.any(|stranded| !self.reaches(stranded.memory))
    }

    fn reaches(&self, memory: Memory) -> bool {
        slots_to(&self.links, memory).next().is_some()
    }

    /// Calls that could be sent again, if there were room.
    pub(super) fn held_up(&self) -> usize {
        let held_up = self.resuming.iter().filter(|stranded| self.reaches(stranded.memory));
        held_up.map(|stranded| stranded.calls.len()).sum()
    }

    /// Calls that may have run can go nowhere else, and were there before those who wait for their first place: who stands in
    /// the line gets none of theirs.
    pub(crate) fn reserve_places(&mut self) {
        for (slot, link) in self.links.iter().enumerate() {
            let leads_to = |stranded: &&Stranded| {
                link.as_ref().is_some_and(|link| link.leads_to(stranded.memory))
            };
            let stranded = self.resuming.iter().filter(leads_to);
            let calls = stranded.map(|stranded| stranded.calls.len()).sum();
            self.ledger.reserve(slot, calls);
        }
    }
}

/// The slots whose connections lead to where a call is known.
fn slots_to(links: &[Option<Arc<Link>>], memory: Memory) -> impl Iterator<Item = usize> + '_ {
    let links = links.iter().enumerate();
    links.filter_map(move |(slot, link)| link.as_ref()?.leads_to(memory).then_some(slot))
}
