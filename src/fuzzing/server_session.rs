//! A serving end: whatever comes, no more requests are worked on than may be, none twice at a time, and each handler whose caller
//! has gone is told so once.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;

use crate::error::answer::{ErrorReply, Refusal};
use crate::fuzzing::end::End;
use crate::fuzzing::script::{Own, Script, Step};
use crate::policy::Heartbeat;
use crate::proto::replies::Response;
use crate::proto::serving::{Bounds, Event, Serving};

const LIMIT: usize = 100_000;
/// So few that a fuzzer comes to the bound.
const IN_FLIGHT: usize = 4;

pub(super) fn serving(now: Instant) -> Serving {
    let bounds = Bounds {
        send: LIMIT,
        receive: LIMIT,
        in_flight: IN_FLIGHT,
        held_bytes: 2 * LIMIT,
        idle_limit: None,
    };
    Serving::new(now, Heartbeat::default(), None, bounds)
}

/// The serving end of the native protocol.
pub fn server_session(data: &[u8]) {
    let (mut script, now) = (Script::new(data), Instant::now());
    let mut end = End::new(now, serving(now));
    let mut desk = Desk::default();
    while !script.is_over() && !end.is_over() {
        match script.step() {
            Step::Shell(step) => end.step(step, &mut script),
            Step::Own(step) => desk.step(step, &mut script, &mut end),
        }
        desk.look(&mut end);
    }
    end.lose();
    desk.look(&mut end);
    assert_eq!(desk.untold(), None, "a handler does not know that nobody waits");
}

/// What a desk knows: bodies of requests that are being worked on, and which are cancelled.
#[derive(Debug, Default)]
struct Desk {
    working: BTreeMap<u64, Told>,
    notifications: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Gone,
}

impl Desk {
    fn step(&mut self, step: Own, script: &mut Script<'_>, end: &mut End<Serving>) {
        match step {
            Own::Often => {
                let chosen = usize::from(script.byte()) % self.working.len().max(1);
                if let Some(id) = self.working.keys().nth(chosen).copied() {
                    self.working.remove(&id);
                    let body = Bytes::from(vec![2; usize::from(script.short())]);
                    let response = match script.byte() % 8 {
                        0 => Response::Error(ErrorReply::new(1, "no")),
                        1 => Response::Refused(Refusal::new(Refusal::OVERLOADED)),
                        _ => Response::Reply(body),
                    };
                    end.session.respond(end.now, id, &response);
                }
            }
            Own::Sometimes => {
                let _ = end.session.push(&Bytes::from(vec![3; usize::from(script.short())]));
            }
            Own::Rarely if script.byte() == 0 => end.session.go_away(0, None, "goodbye"),
            Own::Rarely => {
                if let Some(length) = self.notifications.pop() {
                    end.session.notification_done(length);
                }
            }
        }
    }

    fn look(&mut self, end: &mut End<Serving>) {
        for event in end.effects.events.drain(..) {
            match event {
                Event::Request { id, body, .. } => {
                    assert!(body.len() <= LIMIT);
                    let before = self.working.insert(id, Told::Nothing);
                    assert_eq!(before, None, "request {id} is handed out again, and not answered");
                }
                Event::Notification { body } => self.notifications.push(body.len()),
                Event::Cancelled { id } | Event::Orphaned { id } => {
                    if let Some(told) = self.working.get_mut(&id) {
                        assert_eq!(*told, Told::Nothing, "handler {id} is told twice");
                        *told = Told::Gone;
                    }
                }
            }
        }
        let working = self.working.values().filter(|told| **told == Told::Nothing).count();
        assert!(working <= IN_FLIGHT, "{working} requests are in flight");
        end.effects.wake.clear();
        end.effects.spent.clear();
    }

    fn untold(&self) -> Option<u64> {
        let mut all = self.working.iter();
        all.find(|(_, told)| **told == Told::Nothing).map(|(id, _)| *id)
    }
}
