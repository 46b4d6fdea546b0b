//! Series of calls whose line is cut, each at another byte, and the verdict on each of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use steadfast::Outcome;
use tokio::task::JoinSet;

use crate::bench::Bench;
use crate::series::{Fault, Promise, Series, Story, Trial};
use crate::support::proxy::{Cut, Direction, Way};
use crate::support::truth::Told;

/// The bytes that one call costs, in frames.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lengths([u64; 2]);

impl Lengths {
    pub(crate) fn of(self, direction: Direction) -> u64 {
        self.0[direction as usize]
    }
}

/// How often each outcome came, by the direction that was cut and whether all of the call's bytes had passed there.
pub(crate) type Tally = BTreeMap<(Direction, Passed, &'static str), usize>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Passed {
    Part,
    Whole,
}

impl Series {
    /// Makes a call for each fault, on so many lines at a time, and judges all of them when every server has ended: nothing
    /// is run any more then.
    pub(crate) async fn run(self, faults: Vec<Fault>, lines: usize) -> Tally {
        let lengths = self.lengths().await;
        let faults = Arc::new(Mutex::new(faults.into_iter()));
        let mut workers = JoinSet::new();
        for _ in 0..lines {
            workers.spawn(self.work(faults.clone(), lengths));
        }
        let mut tally = Tally::new();
        while let Some(done) = workers.join_next().await {
            for (what, count) in done.unwrap() {
                *tally.entry(what).or_default() += count;
            }
        }
        println!("{self:?}: {tally:?}");
        tally
    }

    /// What a call costs whose line is not cut, and that is made once.
    pub(crate) async fn lengths(self) -> Lengths {
        let mut bench = Bench::new(Self { promise: Promise::Honest, ..self }).await;
        bench.call(None).await;
        let (before, after) = (bench.before, bench.passed());
        bench.end().await;
        Lengths([after[0] - before[0], after[1] - before[1]])
    }

    async fn work(self, faults: Arc<Mutex<std::vec::IntoIter<Fault>>>, lengths: Lengths) -> Tally {
        let mut bench = Bench::new(self).await;
        let mut trials = Vec::new();
        loop {
            let fault = faults.lock().unwrap().next();
            match fault {
                Some(Fault::Cut(cut)) => bench.cut(cut, &mut trials).await,
                Some(Fault::Delay(delay)) => bench.delay(delay, &mut trials).await,
                None => break,
            }
        }
        let journal = bench.end().await;
        let mut tally = Tally::new();
        for trial in trials {
            let runs = journal.runs(trial.key);
            assert!(self.is_kept(&trial, runs, lengths), "{self:?} ran {runs} times: {trial:?}");
            let outcome = trial.outcome().map_or("ok", Outcome::as_str);
            if let Some(Cut { direction, after, .. }) = trial.cut {
                let whole = after == lengths.of(direction);
                let passed = if whole { Passed::Whole } else { Passed::Part };
                *tally.entry((direction, passed, outcome)).or_default() += 1;
            }
        }
        tally
    }

    /// Whether the promise is kept by a call that ran so often.
    fn is_kept(self, trial: &Trial, runs: u32, lengths: Lengths) -> bool {
        let cut_short = trial.cut.is_some_and(|cut| {
            cut.direction == Direction::Requests && cut.after < lengths.of(Direction::Requests)
        });
        let outcome = trial.outcome();
        let told = match Told::of(&trial.result) {
            Told::Unknown if cut_short => Told::NotRun,
            told => told,
        };
        let answered = match self.story {
            Story::Answered | Story::AnsweredLate | Story::Refused => outcome.is_none(),
            Story::Failed => outcome == Some(Outcome::Remote),
        };
        match self.promise {
            Promise::Honest => told.is_true(runs, 1),
            Promise::Once => answered && told.is_true(runs, 1),
            Promise::AtLeastOnce => answered && told.is_true(runs, u32::MAX),
        }
    }
}

/// A cut in each of these ways at each of these bytes.
pub(crate) fn cuts(
    direction: Direction,
    bytes: impl Iterator<Item = u64> + Clone,
    ways: &[Way],
) -> Vec<Fault> {
    let cut = |after, way| Fault::Cut(Cut { direction, after, way });
    bytes.flat_map(|after| ways.iter().map(move |way| cut(after, *way))).collect()
}
