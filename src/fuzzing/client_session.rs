//! A calling end: whatever comes, each call is settled exactly once.

use std::collections::BTreeSet;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::fuzzing::end::End;
use crate::fuzzing::script::Script;
use crate::policy::Heartbeat;
use crate::proto::calling::{Bounds, Calling, Kind, Start};
use crate::proto::client::Client;

pub(super) const LIMIT: usize = 100_000;
const BOUNDS: Bounds = Bounds { send: LIMIT, receive: LIMIT, queued_bytes: 2 * LIMIT };

/// The calling end of the native protocol.
pub fn client_session(data: &[u8]) {
    let (mut script, now) = (Script::new(data), Instant::now());
    let client = Client::new(now, Heartbeat::default(), None, BOUNDS);
    let mut end = End::new(now, client);
    let mut callers = Callers::default();
    while !script.is_over() && !end.is_over() {
        let step = script.byte() % 12;
        if !end.step(step, &mut script) {
            callers.step(step, &mut script, &mut end, |_, body| Ok((Bytes::new(), body)));
        }
        callers.look(&mut end);
    }
    callers.end(&mut end);
}

pub(super) fn bounds() -> Bounds {
    BOUNDS
}

/// Those who wait for answers.
#[derive(Debug, Default)]
pub(super) struct Callers {
    made: u64,
    waiting: BTreeSet<u64>,
}

impl Callers {
    /// A caller does something; `speak` makes the head and the body of a call's frame.
    pub(super) fn step<S: Calling>(
        &mut self,
        step: u8,
        script: &mut Script<'_>,
        end: &mut End<S>,
        speak: impl Fn(u64, Bytes) -> Result<(Bytes, Bytes), ()>,
    ) {
        match step {
            7..=9 => self.call(script, end, speak),
            10 => {
                let chosen = usize::from(script.byte()) % self.waiting.len().max(1);
                if let Some(id) = self.waiting.iter().nth(chosen).copied() {
                    self.waiting.remove(&id);
                    end.session.leave(end.now, id);
                }
            }
            // Once in a while: nothing new comes behind it.
            _ if script.byte() == 0 => end.session.drain(),
            _ => end.session.probe(end.now),
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
        let Ok((head, body)) = speak(self.made, Bytes::from(vec![1; length])) else { return };
        let deadline = end.now + Duration::from_millis(u64::from(script.short()));
        let oldest = self.waiting.first().copied().unwrap_or(self.made);
        let start =
            Start { id: self.made, kind, head: &head, body: &body, deadline, oldest, place: None };
        if end.session.start(end.now, &start, Waker::noop()).is_ok() {
            self.waiting.insert(self.made);
        }
    }

    /// They take what is there for them.
    pub(super) fn look<S: Calling>(&mut self, end: &mut End<S>) {
        self.waiting.retain(|id| end.session.poll(*id, Waker::noop()).0.is_pending());
        end.effects.events.clear();
        end.effects.wake.clear();
        end.effects.spent.clear();
    }

    /// The connection ends, and with it everything is settled.
    pub(super) fn end<S: Calling>(&mut self, end: &mut End<S>) {
        end.lose();
        for id in std::mem::take(&mut self.waiting) {
            let told = end.session.poll(id, Waker::noop()).0;
            assert!(matches!(told, Poll::Ready(_)), "call {id} is not settled");
        }
    }
}
