//! Those who call, and hold what they are told against what passed on the wire:
//! each call is settled once, by its deadline, and its caller is woken then; a reply is one that the peer gave to this very call;
//! what is told as not sent never leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::fuzzing::end::End;
use crate::fuzzing::script::{Own, Script};
use crate::proto::calling::{Calling, Kind, Start};
use crate::proto::calls::Answer;

/// What passes between the two ends, as one who listens makes sense of it.
pub(super) trait Wire {
    /// These bytes left. Returns the calls that are whole with them: each has its [`MARK`].
    fn left(&mut self, bytes: &[u8]) -> Vec<u64>;

    /// These came.
    fn came(&mut self, bytes: &[u8]);

    /// Whether this may be the reply to that call.
    fn is_reply(&self, call: u64, body: &Bytes) -> bool;

    /// Whether what answers that call has come, as far as can be told.
    fn is_answered(&self, call: u64) -> bool;
}

/// The length of the number that a call's body begins with.
const MARK: usize = 8;

/// Of a call that nobody answers.
const UNANSWERED: u64 = 1 << 63;

/// The number at the beginning of a body.
pub(super) fn mark(body: &[u8]) -> Option<u64> {
    body.first_chunk().map(|mark| u64::from_be_bytes(*mark) & !UNANSWERED)
}

/// Whether such a body is answered.
pub(super) fn is_answered(body: &[u8]) -> bool {
    body.first_chunk().is_none_or(|mark| u64::from_be_bytes(*mark) & UNANSWERED == 0)
}

#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Caller {
    deadline: Instant,
    woken: Arc<Flag>,
}

#[derive(Debug)]
pub(super) struct Callers<W> {
    wire: W,
    made: u64,
    waiting: BTreeMap<u64, Caller>,
    /// Calls that have left to the last byte, and those that were told to have not.
    sent: BTreeSet<u64>,
    unsent: BTreeSet<u64>,
}

impl<W: Wire> Callers<W> {
    pub(super) fn new(wire: W) -> Self {
        let (sent, unsent) = (BTreeSet::new(), BTreeSet::new());
        Self { wire, made: 0, waiting: BTreeMap::new(), sent, unsent }
    }

    /// A caller does something; `speak` makes the head and the body of a call's frame.
    pub(super) fn step<S: Calling>(
        &mut self,
        step: Own,
        script: &mut Script<'_>,
        end: &mut End<S>,
        speak: impl Fn(u64, Bytes) -> Result<(Bytes, Bytes), ()>,
    ) {
        match step {
            Own::Often => self.call(script, end, speak),
            Own::Sometimes => {
                let chosen = usize::from(script.byte()) % self.waiting.len().max(1);
                if let Some(id) = self.waiting.keys().nth(chosen).copied() {
                    self.waiting.remove(&id);
                    end.session.leave(end.now, id);
                }
            }
            // Once in a while: nothing new comes behind it.
            Own::Rarely if script.byte() == 0 => end.session.drain(),
            Own::Rarely => end.session.probe(end.now),
        }
    }

    fn call<S: Calling>(
        &mut self,
        script: &mut Script<'_>,
        end: &mut End<S>,
        speak: impl Fn(u64, Bytes) -> Result<(Bytes, Bytes), ()>,
    ) {
        let flags = script.byte();
        let kind = match flags % 4 {
            0 => Kind::Notification,
            flags => Kind::Request { repeatable: flags == 1, resent: flags == 2 },
        };
        let length = if flags > 250 { usize::from(script.short()) } else { usize::from(flags) };
        self.made += 1;
        let flag = if kind == Kind::Notification { UNANSWERED } else { 0 };
        let mut body = (self.made | flag).to_be_bytes().to_vec();
        body.resize(MARK + length, 1);
        let Ok((head, body)) = speak(self.made, body.into()) else { return };
        let deadline = end.now + Duration::from_millis(u64::from(script.short()));
        let oldest = self.waiting.keys().next().copied().unwrap_or(self.made);
        let start =
            Start { id: self.made, kind, head: &head, body: &body, deadline, oldest, place: None };
        let woken = Arc::<Flag>::default();
        if end.session.start(end.now, &start, &woken.clone().into()).is_ok() {
            self.waiting.insert(self.made, Caller { deadline, woken });
        }
    }

    /// They take what is there for them.
    pub(super) fn look<S: Calling>(&mut self, end: &mut End<S>) {
        self.overhear(end);
        end.effects.wake.drain(..).for_each(Waker::wake);
        let waiting = std::mem::take(&mut self.waiting);
        for (id, caller) in waiting {
            match end.session.poll(id, &caller.woken.clone().into()).0 {
                Poll::Ready(answer) => {
                    assert!(caller.woken.0.load(Ordering::Relaxed), "call {id} was not woken");
                    self.judge(id, &answer);
                }
                Poll::Pending => {
                    assert!(caller.deadline >= end.now || end.is_over(), "call {id} is late");
                    let is_answered = !end.is_over() && self.wire.is_answered(id);
                    assert!(!is_answered, "call {id} is answered, and not told");
                    self.waiting.insert(id, caller);
                }
            }
        }
        end.effects.events.clear();
        end.effects.spent.clear();
    }

    fn overhear<S: Calling>(&mut self, end: &mut End<S>) {
        self.wire.came(&std::mem::take(&mut end.came));
        for call in self.wire.left(&std::mem::take(&mut end.left)) {
            assert!(!self.unsent.contains(&call), "call {call} leaves, and was told not to have");
            self.sent.insert(call);
        }
    }

    fn judge(&mut self, id: u64, answer: &Answer) {
        match answer {
            Answer::Reply(body) => {
                assert!(self.wire.is_reply(id, body), "that is not the reply to call {id}");
            }
            Answer::Written => assert!(self.sent.contains(&id), "call {id} has not left"),
            Answer::Expired { sent: false, .. }
            | Answer::SentAway { sent: false, .. }
            | Answer::Lost { sent: false, .. } => {
                assert!(!self.sent.contains(&id), "call {id} has left");
                self.unsent.insert(id);
            }
            _ => {}
        }
    }

    /// The connection ends, and with it everything is settled.
    pub(super) fn end<S: Calling>(&mut self, end: &mut End<S>) {
        end.lose();
        self.look(end);
        assert!(self.waiting.is_empty(), "not settled: {:?}", self.waiting.keys());
    }
}
