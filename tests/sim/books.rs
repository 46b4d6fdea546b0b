//! What was executed and what callers were told, and the promise that they agree.

use std::collections::HashMap;
use std::ops::AddAssign;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use steadfast::{Bytes, CallError, Outcome};

use crate::support::truth::Told;

/// One tick of the simulation's clock, and the millisecond below which tokio's timers do not count.
pub(crate) const TICK: Duration = Duration::from_millis(2);

/// A call, as it was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made {
    pub(crate) number: u64,
    pub(crate) length: usize,
    pub(crate) timeout: Duration,
    /// It may be executed twice.
    pub(crate) idempotent: bool,
    /// The caller goes away after so long.
    pub(crate) dropped_after: Option<Duration>,
}

impl Made {
    pub(crate) fn body(&self) -> Bytes {
        let mut body = self.number.to_be_bytes().to_vec();
        body.resize(self.length.max(8), self.number as u8);
        body.into()
    }
}

/// Shared by all hosts: it is outside of what crashes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Books(Arc<Mutex<Pages>>);

#[derive(Debug, Default)]
struct Pages {
    executed: HashMap<u64, u32>,
    /// Nothing, if the caller did not wait to be told.
    told: HashMap<u64, (Made, Option<Told>)>,
    trace: Vec<String>,
    accepted: Vec<Duration>,
}

/// What became of all calls.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    answered: u64,
    not_run: u64,
    unknown: u64,
    gone: u64,
    executed_twice: u64,
    connections: u64,
}

impl Books {
    pub(crate) fn execute(&self, number: u64) {
        *self.0.lock().unwrap().executed.entry(number).or_default() += 1;
    }

    pub(crate) fn accept(&self) {
        let now = turmoil::sim_elapsed().expect("within a simulation");
        self.0.lock().unwrap().accepted.push(now);
    }

    /// The simulated times at which the server accepted connections.
    pub(crate) fn accepted(&self) -> Vec<Duration> {
        self.0.lock().unwrap().accepted.clone()
    }

    pub(crate) fn note(&self, now: Duration, line: &str) {
        self.0.lock().unwrap().trace.push(format!("{:.3} {line}", now.as_secs_f64()));
    }

    /// `result` is `None` if the caller did not wait for it.
    pub(crate) fn tell(
        &self,
        made: Made,
        result: Option<&Result<Bytes, CallError>>,
        waited: Duration,
    ) {
        match result {
            Some(Ok(answer)) => {
                assert_eq!(*answer, made.body(), "call {} got something else", made.number);
            }
            Some(Err(error)) if error.outcome() == Outcome::Remote => {
                panic!("the server says no such thing: {error}");
            }
            _ => {}
        }
        assert!(waited <= made.timeout + TICK, "{made:?} waited for {waited:?}");
        let told = (made, result.map(Told::of));
        let before = self.0.lock().unwrap().told.insert(made.number, told);
        assert!(before.is_none(), "{made:?} was settled twice");
    }

    pub(crate) fn is_answered(&self, number: u64) -> bool {
        matches!(self.0.lock().unwrap().told.get(&number), Some((_, Some(Told::Ran))))
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.0.lock().unwrap().trace.clone()
    }

    pub(crate) fn check(&self, calls: usize) {
        let pages = self.0.lock().unwrap();
        assert_eq!(pages.told.len(), calls, "calls that were made and settled");
        for (made, told) in pages.told.values() {
            let times = pages.executed.get(&made.number).copied().unwrap_or(0);
            let most = if made.idempotent { u32::MAX } else { 1 };
            let right = told.unwrap_or(Told::Unknown).is_true(times, most);
            assert!(right, "{made:?} was executed {times} times, its caller: {told:?}");
        }
        let unknown = pages.executed.keys().find(|number| !pages.told.contains_key(number));
        assert_eq!(unknown, None, "executed, and never made");
    }

    pub(crate) fn seen(&self) -> Seen {
        let pages = self.0.lock().unwrap();
        let count = |wanted| pages.told.values().filter(|(_, told)| *told == wanted).count() as u64;
        Seen {
            answered: count(Some(Told::Ran)),
            not_run: count(Some(Told::NotRun)),
            unknown: count(Some(Told::Unknown)),
            gone: count(None),
            executed_twice: pages.executed.values().filter(|times| **times > 1).count() as u64,
            connections: pages.accepted.len() as u64,
        }
    }
}

impl Seen {
    /// Enough happened in so many runs for their promises to be worth something.
    pub(crate) fn check(&self, runs: u64) {
        let Self { answered, not_run, unknown, gone, executed_twice, connections } = *self;
        assert!(answered >= 20 * runs && connections >= runs, "{self:?}");
        if runs >= 20 {
            assert!(not_run > 0 && unknown > 0 && gone > 0 && executed_twice > 0, "{self:?}");
        }
    }
}

impl AddAssign for Seen {
    fn add_assign(&mut self, other: Self) {
        self.answered += other.answered;
        self.not_run += other.not_run;
        self.unknown += other.unknown;
        self.gone += other.gone;
        self.executed_twice += other.executed_twice;
        self.connections += other.connections;
    }
}
