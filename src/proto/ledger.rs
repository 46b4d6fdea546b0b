//! A pool's places: which slots are ready, how many calls each carries, and who waits.
//!
//! ```text
//!            place: a slot has room ──────────────► Taken ── release ──► next waiter, or free
//! newcomer ──┤
//!            └ nothing has room ──► Waiting ── hand-over ──► Granted ── claim ──► Taken
//!                                    │ │ ▲                    │ │
//!                       expire: out ◄┘ │ └── shut: in line ───┘ │
//!                                      └ leave, expire: the place goes to the next
//! ```
//!
//! Waiters are served first in, first out, by direct hand-over: while anybody waits, a newcomer waits behind. Whoever
//! gives up is out of the line at once. A place is room for one call, or, for a lease, the whole connection. It belongs to one
//! connection of its slot: what is given back when the next one is there makes no room on that. Nothing here wakes anybody:
//! wakers are handed out to be woken after the lock is released.

use std::task::Waker;
use std::time::Instant;

use crate::error::call::Overload;
use crate::proto::ledger::slot::Slot;
pub(crate) use crate::proto::ledger::slot::{Place, Share};
use crate::proto::line_up::LineUp;
pub(crate) use crate::proto::line_up::Ticket;
use crate::proto::tenure::Usage;
use crate::proto::wakes::Wakes;

mod slot;

#[derive(Debug)]
pub(crate) struct Ledger {
    slots: Vec<Slot>,
    /// The slots before this one are kept, and equals. Those from it on are spare: used the less, the higher their number, so
    /// that what is not needed any more gets no calls.
    kept: usize,
    /// Connections that were opened so far.
    epochs: u64,
    /// Kept with the slots, because whoever waits makes many ask for it.
    survey: Survey,
    /// Places on earlier connections of the slots, not given back yet.
    elsewhere: usize,
    /// Where the search for the least loaded slot begins, so that equals take turns.
    turn: usize,
    waiting: LineUp<Waiter>,
    /// Places that were handed over and not claimed yet, and by whom.
    granted: LineUp<(Place, Waiter)>,
    next_ticket: u64,
    /// Nobody's time is over before. It is not moved back when somebody leaves: that costs one look in vain.
    look_at: Option<Instant>,
    /// How many places were in use when somebody last joined the line, of those that there are now.
    most_taken: usize,
    waiting_bytes: usize,
    max_waiting: usize,
    max_waiting_bytes: usize,
}

/// Which slots take calls.
#[derive(Debug, Clone, Copy, Default)]
struct Survey {
    ready: usize,
    /// Of those that are spare.
    ready_spare: usize,
    first_shut: Option<usize>,
}

#[derive(Debug)]
struct Waiter {
    /// `None` when it has been woken.
    waker: Option<Waker>,
    share: Share,
    bytes: usize,
    /// The end of its time.
    until: Option<Instant>,
}

impl Ledger {
    /// Without slots, until it is [resized](Self::resize).
    pub(crate) fn new(max_waiting: usize, max_waiting_bytes: usize) -> Self {
        Self {
            slots: Vec::new(),
            kept: 0,
            epochs: 0,
            survey: Survey::default(),
            elsewhere: 0,
            turn: 0,
            waiting: LineUp::default(),
            granted: LineUp::default(),
            next_ticket: 0,
            look_at: None,
            most_taken: 0,
            waiting_bytes: 0,
            max_waiting,
            max_waiting_bytes,
        }
    }

    /// So many slots there are, and so many of them are kept. Places on those that are not there any more stay valid; they
    /// count until they are given back.
    pub(crate) fn resize(&mut self, slots: usize, kept: usize) {
        let gone = self.slots.iter().skip(slots);
        self.elsewhere += gone.map(|slot| slot.in_flight).sum::<usize>();
        self.slots.resize(slots, Slot::default());
        self.kept = kept;
        self.look_round();
    }

    /// A place on the ready slot with the fewest calls in flight. Those to be avoided are taken only if no other has room,
    /// the first of them first. `None` if nothing has room or others wait already.
    pub(crate) fn place(&mut self, share: Share, avoid: &[usize]) -> Option<Place> {
        if self.waiting.is_empty() { self.take(share, avoid) } else { None }
    }

    /// A place on this very slot, if it has room, also past those who wait.
    pub(crate) fn place_on(&mut self, slot: usize) -> Option<Place> {
        self.has_room_on(slot).then(|| self.slots[slot].give(slot, Share::One))
    }

    /// Whether a call that was there before those who wait in the line has room on a slot's connection.
    pub(crate) fn has_room_on(&self, slot: usize) -> bool {
        let state = &self.slots[slot];
        state.in_flight < state.capacity && !state.lent
    }

    /// Joins the line.
    pub(crate) fn wait(
        &mut self,
        share: Share,
        bytes: usize,
        waker: &Waker,
    ) -> Result<Ticket, Overload> {
        if self.waiting.len() >= self.max_waiting {
            return Err(Overload::Waiting { limit: self.max_waiting });
        }
        if self.waiting_bytes + bytes > self.max_waiting_bytes {
            return Err(Overload::Bytes { limit: self.max_waiting_bytes });
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.most_taken = self.in_flight();
        self.waiting_bytes += bytes;
        let waiter = Waiter { waker: Some(waker.clone()), share, bytes, until: None };
        self.waiting.insert(ticket, waiter);
        Ok(ticket)
    }

    /// One who waits does so until then, and [leaves](Self::expire) if nothing was handed over.
    pub(crate) fn limit(&mut self, ticket: Ticket, until: Instant) {
        if let Some(waiter) = self.waiting.get_mut(ticket) {
            waiter.until = Some(until);
            self.look_at = self.look_at.into_iter().chain([until]).min();
        }
    }

    /// When [`expire`](Self::expire) should be asked.
    pub(crate) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// Those whose time is over leave the line, and are to be told; so do those who were handed a place and have not claimed it.
    pub(crate) fn expire(&mut self, now: Instant, wake: &mut Wakes) {
        if self.look_at.is_none_or(|look_at| now < look_at) {
            return;
        }
        let (mut next, mut held_up, mut unclaimed) = (None, false, Vec::new());
        let mut is_late = |waiter: &Waiter| match waiter.until {
            Some(until) if now >= until => true,
            until => {
                next = next.into_iter().chain(until).min();
                false
            }
        };
        let waiting_bytes = &mut self.waiting_bytes;
        self.waiting.retain(|waiter| {
            let is_late = is_late(waiter);
            if is_late {
                *waiting_bytes -= waiter.bytes;
                held_up |= waiter.share == Share::Whole;
                waiter.waker.take().into_iter().for_each(|waker| wake.push(waker));
            }
            !is_late
        });
        self.granted.retain(|(place, waiter)| {
            let is_late = is_late(waiter);
            if is_late {
                unclaimed.push(*place);
            }
            !is_late
        });
        self.look_at = next;
        for place in unclaimed {
            self.release(place, wake);
        }
        if held_up {
            self.hand_over(wake);
        }
    }

    /// Whether one who began to wait, and was handed nothing, still does.
    pub(crate) fn is_waiting(&self, ticket: Ticket) -> bool {
        self.waiting.contains(ticket)
    }

    /// Takes the place that was handed over, or goes on waiting. Also returns a waker that is not needed any more, to be
    /// dropped after the lock is released.
    pub(crate) fn claim(
        &mut self,
        ticket: Ticket,
        waker: &Waker,
    ) -> (Option<Place>, Option<Waker>) {
        if let Some((place, waiter)) = self.granted.remove(ticket) {
            return (Some(place), waiter.waker);
        }
        let before = match self.waiting.get_mut(ticket) {
            Some(waiter) if !waiter.waker.as_ref().is_some_and(|own| own.will_wake(waker)) => {
                waiter.waker.replace(waker.clone())
            }
            _ => None,
        };
        (None, before)
    }

    /// Leaves the line. A place that had been handed over goes to the next. Returns a waker that is not needed any more,
    /// to be dropped after the lock is released.
    pub(crate) fn leave(&mut self, ticket: Ticket, wake: &mut Wakes) -> Option<Waker> {
        if let Some(waiter) = self.waiting.remove(ticket) {
            self.waiting_bytes -= waiter.bytes;
            if waiter.share == Share::Whole {
                // It may have held up others, who want less.
                self.hand_over(wake);
            }
            return waiter.waker;
        }
        let (place, waiter) = self.granted.remove(ticket)?;
        self.release(place, wake);
        waiter.waker
    }

    /// Gives a place back.
    pub(crate) fn release(&mut self, place: Place, wake: &mut Wakes) {
        match self.slots.get_mut(place.slot).filter(|slot| slot.epoch == place.epoch) {
            Some(slot) => {
                slot.in_flight -= 1;
                slot.lent = false;
                self.refill(place.slot, wake);
            }
            None => self.elsewhere -= 1,
        }
    }

    /// Reserves so many of a slot's places for those who must go [there](Self::place_on).
    pub(crate) fn reserve(&mut self, slot: usize, places: usize) {
        self.slots[slot].reserved = places;
    }

    /// A slot's new connection takes so many calls at a time.
    pub(crate) fn open(&mut self, slot: usize, capacity: usize, wake: &mut Wakes) {
        self.epochs += 1;
        let epoch = self.epochs;
        let slot = &mut self.slots[slot];
        self.elsewhere += slot.in_flight;
        *slot =
            Slot { in_flight: 0, capacity, epoch, given: 0, lent: false, reserved: slot.reserved };
        self.look_round();
        self.hand_over(wake);
    }

    /// A slot's connection takes no more calls. Who had a place there and has not claimed it stands in the line again,
    /// where they stood.
    pub(crate) fn shut(&mut self, slot: usize, wake: &mut Wakes) {
        self.slots[slot].capacity = 0;
        self.look_round();
        let mut granted = std::mem::take(&mut self.granted);
        while let Some((ticket, (place, waiter))) = granted.pop_first() {
            if place.slot == slot {
                self.slots[slot].in_flight -= 1;
                self.slots[slot].lent = false;
                self.waiting_bytes += waiter.bytes;
                self.waiting.insert(ticket, waiter);
            } else {
                self.granted.insert(ticket, (place, waiter));
            }
        }
        self.hand_over(wake);
    }

    /// Whether the connection that a place is on still takes calls.
    pub(crate) fn is_current(&self, place: Place) -> bool {
        let slot = self.slots.get(place.slot);
        slot.is_some_and(|slot| slot.epoch == place.epoch && slot.capacity > 0)
    }

    /// No slot takes calls any more.
    pub(crate) fn shut_all(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.capacity = 0);
        self.look_round();
    }

    /// Everybody who waits, so that they can look why.
    pub(crate) fn wake_all(&self, wake: &mut Wakes) {
        self.waiting
            .values()
            .filter_map(|waiter| waiter.waker.clone())
            .for_each(|waker| wake.push(waker));
    }

    /// Whether a slot other than `at` has room.
    pub(crate) fn has_room_beside(&self, at: Option<usize>) -> bool {
        self.slots
            .iter()
            .enumerate()
            .any(|(slot, state)| at != Some(slot) && state.has_room(Share::One))
    }

    /// How much a slot's connection is used.
    pub(crate) fn usage(&self, slot: usize) -> Usage {
        let Slot { given, in_flight, .. } = self.slots[slot];
        Usage { given, in_flight }
    }

    /// The first slot that takes no calls, of those that are spare.
    pub(crate) fn first_shut(&self) -> Option<usize> {
        self.survey.first_shut
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.survey.ready > 0
    }

    pub(crate) fn was_ever_ready(&self) -> bool {
        self.epochs > 0
    }

    /// Whether one of the slots that are spare takes calls.
    pub(crate) fn has_spare_ready(&self) -> bool {
        self.survey.ready_spare > 0
    }

    pub(crate) fn ready(&self) -> usize {
        self.survey.ready
    }

    /// Whether all slots take calls: no more connections can be made.
    pub(crate) fn is_complete(&self) -> bool {
        self.survey.ready == self.slots.len()
    }

    /// Waiters that have no place yet.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many places were in use when there was none: at this moment some may be free of others whose time is over, too.
    pub(crate) fn all_taken(&self) -> usize {
        self.in_flight().max(self.most_taken)
    }

    /// Calls that have a place, also on a connection that drains.
    pub(crate) fn in_flight(&self) -> usize {
        self.elsewhere + self.slots.iter().map(|slot| slot.in_flight).sum::<usize>()
    }

    fn take(&mut self, share: Share, avoid: &[usize]) -> Option<Place> {
        let count = self.slots.len();
        let (mut best, mut load) = (None, (usize::MAX, usize::MAX, usize::MAX));
        for at in (self.turn..count).chain(0..self.turn.min(count)) {
            let slot = &self.slots[at];
            let last_resort =
                avoid.iter().position(|avoid| *avoid == at).map_or(0, |order| order + 1);
            let rank = (at + 1).saturating_sub(self.kept);
            let candidate = (last_resort, slot.in_flight, rank);
            if slot.has_room(share) && candidate < load {
                (best, load) = (Some(at), candidate);
                if load == (0, 0, 0) {
                    break;
                }
            }
        }
        let at = best?;
        self.turn = if at + 1 < count { at + 1 } else { 0 };
        Some(self.slots[at].give(at, share))
    }

    fn look_round(&mut self) {
        self.most_taken = 0;
        let mut survey = Survey::default();
        for (at, slot) in self.slots.iter().enumerate() {
            match slot.capacity {
                0 if at >= self.kept => survey.first_shut = survey.first_shut.or(Some(at)),
                0 => {}
                _ => {
                    survey.ready += 1;
                    survey.ready_spare += usize::from(at >= self.kept);
                }
            }
        }
        self.survey = survey;
    }

    /// Free places go to those who wait.
    pub(crate) fn hand_over(&mut self, wake: &mut Wakes) {
        while let Some(share) = self.waiting.first().map(|first| first.share) {
            let Some(place) = self.take(share, &[]) else {
                return;
            };
            self.grant(place, wake);
        }
    }

    /// A slot has room, or more of it, and as long as somebody waits no other had any for the first of them.
    fn refill(&mut self, slot: usize, wake: &mut Wakes) {
        while let Some(share) = self.waiting.first().map(|first| first.share) {
            let state = &mut self.slots[slot];
            if !state.has_room(share) {
                return;
            }
            let place = state.give(slot, share);
            self.grant(place, wake);
            let next = self.waiting.first().map(|next| next.share);
            if (share, next) == (Share::Whole, Some(Share::One)) {
                // Who wanted more held up those who want less, elsewhere too.
                return self.hand_over(wake);
            }
        }
    }

    /// The first who waits has this place.
    fn grant(&mut self, place: Place, wake: &mut Wakes) {
        let Some((ticket, mut waiter)) = self.waiting.pop_first() else {
            return;
        };
        self.waiting_bytes -= waiter.bytes;
        waiter.waker.take().into_iter().for_each(|waker| wake.push(waker));
        self.granted.insert(ticket, (place, waiter));
    }
}

#[cfg(test)]
mod tests;
