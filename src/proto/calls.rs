//! The calls in flight on one connection, and what became of each.
//!
//! ```text
//!          insert                answer, deadline, loss                poll
//! (none) ────────► Waiting ─────────────────────────────► Settled ────────► (none)
//!                     │ remove                               │ remove
//!                     └──────────────► (none) ◄──────────────┘
//! ```
//!
//! A call leaves the table only through whoever made it. No timer per call: a lower bound of all deadlines is kept, and
//! the table is looked through when it is reached.
//!
//! Nothing answers a notification: it is settled when the operating system has accepted it to its last byte.

use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use bytes::Bytes;

use crate::error::answer::{ErrorReply, Refusal};
use crate::error::call::Stage;
use crate::error::loss::{GoAway, Loss};
use crate::proto::id_map::{IdMap, in_order};
use crate::proto::outgoing::Mark;

#[derive(Debug, Default)]
pub(crate) struct Calls {
    table: IdMap<Call>,
    /// Calls in the table that are not settled.
    waiting: usize,
    /// Requests that have begun to go out.
    requests: u64,
    unwritten: Unwritten,
    /// No unsettled call has an earlier deadline. It may be too early: then the wake-up does nothing.
    earliest_deadline: Option<Instant>,
}

#[derive(Debug)]
enum Call {
    Waiting(Waiting),
    Settled(Answer),
}

#[derive(Debug)]
struct Waiting {
    mark: Mark,
    deadline: Instant,
    order: Order,
    waker: Waker,
}

/// Where a call stands among the requests of its connection, of which a goodbye says how many were accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Nowhere: notifications are not counted.
    Notification,
    /// It has not begun to go out: no server can have accepted it.
    NotOut,
    /// From 1, in the order in which they go out, which is not that in which they were started.
    Out(u64),
}

/// Notifications that wait to be written, in no order. Those that were settled otherwise stay for a while: a second look
/// at each of the others for each of them would cost too much.
#[derive(Debug, Default)]
struct Unwritten {
    ids: Vec<u64>,
    /// How many of them still wait.
    waiting: usize,
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Reply(Bytes),
    /// A notification was accepted by the operating system to its last byte.
    Written,
    Error(ErrorReply),
    Refused(Refusal),
    /// The server went away and will not run this call.
    SentAway {
        goodbye: GoAway,
        sent: bool,
    },
    Expired {
        sent: bool,
        stage: Stage,
        vacancy: Vacancy,
    },
    Lost {
        sent: bool,
        loss: Arc<Loss>,
    },
}

/// When the place of a call that has ended becomes free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vacancy {
    /// Now: whoever made the call gives it back.
    Now,
    /// When its answer has come: the connection gives it back, with [`Event::Vacated`](crate::proto::calling::Event).
    Later,
}

/// A call that was taken out of the table.
#[derive(Debug)]
pub(crate) enum Removed {
    /// It still waited: where its bytes are, and who would have been woken.
    Waiting(Mark, Waker),
    Settled(Answer),
}

impl Calls {
    pub(crate) fn insert(
        &mut self,
        id: u64,
        mark: Mark,
        deadline: Instant,
        order: Order,
        waker: Waker,
    ) {
        self.table.insert(id, Call::Waiting(Waiting { mark, deadline, order, waker }));
        self.waiting += 1;
        if order == Order::Notification {
            self.unwritten.ids.push(id);
            self.unwritten.waiting += 1;
        }
        let earliest = self.earliest_deadline.map_or(deadline, |first| first.min(deadline));
        self.earliest_deadline = Some(earliest);
    }

    /// What became of a call. After `Ready` it is forgotten. Also returns a waker that is not needed any more, to be dropped
    /// after the lock is released.
    pub(crate) fn poll(&mut self, id: u64, waker: &Waker) -> (Poll<Answer>, Option<Waker>) {
        let Entry::Occupied(mut call) = self.table.entry(id) else {
            // Polled again after `Ready`, which futures may not be.
            return (Poll::Pending, None);
        };
        match call.get_mut() {
            Call::Waiting(Waiting { waker: old, .. }) if old.will_wake(waker) => {
                (Poll::Pending, None)
            }
            Call::Waiting(Waiting { waker: old, .. }) => {
                (Poll::Pending, Some(std::mem::replace(old, waker.clone())))
            }
            Call::Settled(_) => match call.remove() {
                Call::Settled(answer) => (Poll::Ready(answer), None),
                Call::Waiting(_) => (Poll::Pending, None),
            },
        }
    }

    /// Forgets a call.
    pub(crate) fn remove(&mut self, id: u64) -> Option<Removed> {
        match self.table.remove(&id)? {
            Call::Waiting(Waiting { mark, order, waker, .. }) => {
                self.settled(order);
                Some(Removed::Waiting(mark, waker))
            }
            Call::Settled(answer) => Some(Removed::Settled(answer)),
        }
    }

    /// Whether it is a notification that is still waiting.
    pub(crate) fn is_notification(&self, id: u64) -> bool {
        self.waiting_call(id).is_some_and(Waiting::is_notification)
    }

    /// Where the bytes of a request are, if it is still waiting. Nothing answers a notification.
    pub(crate) fn pending_request(&self, id: u64) -> Option<Mark> {
        self.waiting_call(id).filter(|call| !call.is_notification()).map(|call| call.mark)
    }

    /// Where the bytes of a call are, if it is still waiting.
    pub(crate) fn pending(&self, id: u64) -> Option<Mark> {
        self.waiting_call(id).map(|call| call.mark)
    }

    fn waiting_call(&self, id: u64) -> Option<&Waiting> {
        self.table.get(&id).and_then(Call::waiting)
    }

    /// Settles a call, if it still waits, and returns who is to be woken.
    pub(crate) fn settle(&mut self, id: u64, answer: Answer) -> Option<Waker> {
        let Waiting { order, waker, .. } = self.table.get_mut(&id)?.settle(answer)?;
        self.settled(order);
        Some(waker)
    }

    /// A call waits no more.
    fn settled(&mut self, order: Order) {
        self.waiting -= 1;
        if order == Order::Notification {
            self.unwritten.waiting -= 1;
            if self.unwritten.has_too_many() {
                let table = &self.table;
                self.unwritten
                    .ids
                    .retain(|id| table.get(id).is_some_and(|call| call.waiting().is_some()));
            }
        }
    }

    /// A request has begun to go out.
    pub(crate) fn went_out(&mut self, id: u64) {
        self.requests += 1;
        if let Some(Call::Waiting(call)) = self.table.get_mut(&id) {
            call.order = Order::Out(self.requests);
        }
    }

    /// How many requests have begun to go out.
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    /// Something has left: settles the notifications that have.
    pub(crate) fn written(&mut self, is_sent: impl Fn(u64, Mark) -> bool, wake: &mut Vec<Waker>) {
        if self.unwritten.ids.is_empty() {
            return;
        }
        let (table, mut written) = (&mut self.table, 0);
        // Small ones overtake long ones, so their order says nothing.
        self.unwritten.ids.retain(|id| {
            let Some(call) = table.get_mut(id) else {
                return false;
            };
            let Some(mark) = call.waiting().map(|call| call.mark) else {
                return false;
            };
            let sent = is_sent(*id, mark);
            if sent {
                wake.extend(call.settle(Answer::Written).map(|call| call.waker));
                written += 1;
            }
            !sent
        });
        self.waiting -= written;
        self.unwritten.waiting = self.unwritten.ids.len();
    }

    /// The waiting requests behind the first so many, and the notifications.
    pub(crate) fn beyond(&self, accepted: u64) -> Vec<(u64, Mark)> {
        let beyond = |call: &Waiting| match call.order {
            Order::Notification | Order::NotOut => true,
            Order::Out(number) => number > accepted,
        };
        let waiting = self.table.iter().filter_map(|(id, call)| Some((*id, call.waiting()?)));
        in_order(waiting.filter(|(_, call)| beyond(call)).map(|(id, call)| (id, call.mark)))
    }

    /// The waiting calls whose time is up.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<(u64, Mark)> {
        let mut expired = Vec::new();
        if self.earliest_deadline.is_none_or(|first| now < first) {
            return expired;
        }
        self.earliest_deadline = None;
        for (id, call) in &self.table {
            let Some(call) = call.waiting() else {
                continue;
            };
            if call.deadline <= now {
                expired.push((*id, call.mark));
            } else if self.earliest_deadline.is_none_or(|first| call.deadline < first) {
                self.earliest_deadline = Some(call.deadline);
            }
        }
        in_order(expired)
    }

    /// When [`expired`](Self::expired) should be asked.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.earliest_deadline
    }

    /// The connection is dead: settles all that wait.
    pub(crate) fn lose(
        &mut self,
        loss: &Arc<Loss>,
        is_sent: impl Fn(u64, Mark) -> bool,
        wake: &mut Vec<Waker>,
    ) {
        let waiting = self.table.iter_mut().filter(|(_, call)| call.waiting().is_some());
        for (id, call) in in_order(waiting.map(|(id, call)| (*id, call))) {
            let sent = call.waiting().is_some_and(|waiting| is_sent(id, waiting.mark));
            let settled = call.settle(Answer::Lost { sent, loss: loss.clone() });
            wake.extend(settled.map(|call| call.waker));
        }
        self.waiting = 0;
        self.unwritten = Unwritten::default();
        self.earliest_deadline = None;
    }

    /// Calls that are not settled.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Settled calls that nobody has looked at since, but for those whose places are free only [later](Vacancy::Later).
    pub(crate) fn unclaimed(&self) -> usize {
        let leaves_place_now = |call: &&Call| match call {
            Call::Waiting(_) => false,
            Call::Settled(answer) => {
                !matches!(answer, Answer::Expired { vacancy: Vacancy::Later, .. })
            }
        };
        self.table.values().filter(leaves_place_now).count()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty() && self.waiting == 0 && !self.awaits_writing()
    }

    #[cfg(test)]
    pub(crate) fn awaits_writing(&self) -> bool {
        self.unwritten.waiting > 0
    }
}

impl Unwritten {
    /// Whether to look for those that wait no more.
    fn has_too_many(&self) -> bool {
        self.ids.len() > 2 * self.waiting
    }
}

impl Call {
    fn waiting(&self) -> Option<&Waiting> {
        match self {
            Self::Waiting(call) => Some(call),
            Self::Settled(_) => None,
        }
    }

    /// What it was while it waited, if it did.
    fn settle(&mut self, answer: Answer) -> Option<Waiting> {
        match std::mem::replace(self, Self::Settled(answer)) {
            Self::Waiting(call) => Some(call),
            // The first answer stands.
            settled @ Self::Settled(_) => {
                *self = settled;
                None
            }
        }
    }
}

impl Waiting {
    fn is_notification(&self) -> bool {
        self.order == Order::Notification
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]

    use std::sync::Mutex;
    use std::task::Wake;
    use std::time::Duration;

    use super::*;
    use crate::error::loss::LossCause;

    /// Writes down who was woken.
    struct Named(u64, Arc<Mutex<Vec<u64>>>);

    impl Wake for Named {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    #[test]
    fn what_befalls_many_calls_at_once_befalls_them_in_the_order_in_which_they_were_made() {
        let (now, woken) = (Instant::now(), Arc::default());
        let mut calls = Calls::default();
        for id in 1..=100 {
            let waker = Waker::from(Arc::new(Named(id, Arc::clone(&woken))));
            calls.insert(id, Mark::Apart, now + Duration::from_secs(id), Order::NotOut, waker);
        }
        let ids = |calls: Vec<(u64, Mark)>| Vec::from_iter(calls.into_iter().map(|(id, _)| id));
        assert_eq!(ids(calls.beyond(0)), Vec::from_iter(1..=100));
        assert_eq!(ids(calls.expired(now + Duration::from_secs(50))), Vec::from_iter(1..=50));
        let (mut wake, loss) = (Vec::new(), Arc::new(Loss::example(LossCause::ClosedByPeer)));
        calls.lose(&loss, |_, _| true, &mut wake);
        wake.into_iter().for_each(Waker::wake);
        assert_eq!(*woken.lock().unwrap(), Vec::from_iter(1..=100));
    }
}
