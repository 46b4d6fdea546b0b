//! Which loads are measured for whom, and the rounds in which that is done.
//!
//! Each measurement is a process that does nothing else, against a server in another process that is there for the
//! whole run. Counts are taken in runs of their own: allocations by a program with another allocator, system calls by
//! `strace`.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::child::{self, Server};
use crate::peers::Name;
use crate::rounds::median;
use crate::sample::Sample;

/// A load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Case {
    pub(crate) body: usize,
    pub(crate) callers: usize,
    pub(crate) connections: usize,
}

impl Case {
    /// How often in each round. What one caller reaches depends most on whether a processor was asleep, so it is measured
    /// more often, and for a shorter time.
    fn turns(self) -> usize {
        if self.callers == 1 { 3 } else { 1 }
    }
}

/// What the rounds of one case gave for one of those compared.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: Name,
    pub(crate) case: Case,
    pub(crate) samples: Vec<Sample>,
    /// Of each call.
    pub(crate) allocations: Option<f64>,
    /// Of each call.
    pub(crate) system_calls: Option<f64>,
}

impl Row {
    fn new(name: Name, case: Case) -> Self {
        Self { name, case, samples: Vec::new(), allocations: None, system_calls: None }
    }

    pub(crate) fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(&self.samples.iter().map(of).collect::<Vec<_>>())
    }

    pub(crate) fn rate(&self) -> f64 {
        self.median(Sample::rate)
    }

    /// To another's of the same case, each sample to that which was taken with it: what slows down both is out of it.
    pub(crate) fn ratio(&self, to: &Self, of: impl Fn(&Sample) -> f64) -> f64 {
        let pairs = self.samples.iter().zip(&to.samples);
        median(&pairs.map(|(own, other)| of(own) / of(other)).collect::<Vec<_>>())
    }

    /// From the slowest to the fastest round, to the median.
    pub(crate) fn spread(&self) -> f64 {
        let rates = || self.samples.iter().map(Sample::rate);
        (rates().fold(0.0, f64::max) - rates().fold(f64::MAX, f64::min)) / self.rate()
    }
}

/// What is measured.
#[derive(Debug)]
pub(crate) struct Grid {
    pub(crate) names: Vec<Name>,
    pub(crate) cases: Vec<Case>,
    pub(crate) rounds: usize,
    pub(crate) measured_ms: u64,
    pub(crate) counts: Counts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    Taken,
    NotTaken,
}

impl Grid {
    /// Takes turns: in each round all cases, in each case all those compared, and who begins changes with the rounds.
    pub(crate) fn measure(&self) -> Vec<Row> {
        let servers: BTreeMap<_, _> =
            self.names.iter().map(|name| (name.argument(), Server::start(*name))).collect();
        let mut rows: Vec<_> = self.rows().collect();
        let counted = match self.counts {
            Counts::Taken => child::counted(),
            Counts::NotTaken => None,
        };
        for round in 0..self.rounds {
            for case in &self.cases {
                self.progress(round, *case);
                let mut rows: Vec<_> = rows.iter_mut().filter(|row| row.case == *case).collect();
                let turns = case.turns();
                for turn in 0..turns {
                    let first = (round + turn) % rows.len().max(1);
                    rows.rotate_left(first);
                    for row in &mut rows {
                        let client = Client { row, server: &servers[&row.name.argument()] };
                        let sample = client.sample(child::this(), self.measured_ms / turns as u64);
                        row.samples.push(sample);
                    }
                }
            }
        }
        if let Some(counted) = counted {
            for row in &mut rows {
                Client { row, server: &servers[&row.name.argument()] }.count(&counted).note(row);
            }
        }
        rows
    }

    /// For whoever watches.
    fn progress(&self, round: usize, Case { body, callers, connections }: Case) {
        if std::io::stderr().is_terminal() {
            let round = round + 1;
            eprint!(
                "\rround {round}: {body} bytes, {callers} callers, {connections} connections      "
            );
        }
    }

    fn rows(&self) -> impl Iterator<Item = Row> {
        let cases = self.cases.iter();
        cases.flat_map(|case| {
            let names = self.names.iter().filter(|name| name.takes(case.callers));
            names.map(|name| Row::new(*name, *case))
        })
    }
}

struct Client<'a> {
    row: &'a Row,
    server: &'a Server,
}

/// Of each call.
struct Counted {
    allocations: Option<f64>,
    system_calls: Option<f64>,
}

impl Counted {
    fn note(self, row: &mut Row) {
        row.allocations = self.allocations;
        row.system_calls = self.system_calls;
    }
}

/// How long allocations are counted.
const COUNTED_MS: u64 = 300;
/// System calls are counted in so many calls more than in the other of two runs, so that only those of calls count.
const TRACED: u64 = 5_000;
/// There are about as many of them, whatever the body, so one size will do.
const TRACED_BODY: usize = 64;
const TRACED_CALLERS: usize = 64;

impl Client<'_> {
    fn sample(&self, mut program: Command, millis: u64) -> Sample {
        let sample =
            self.run(program.args(self.arguments()).args(["--measured-ms", &millis.to_string()]));
        if let Some(failure) = &sample.failure {
            eprintln!("{}: {} calls failed: {failure}", self.row.name, sample.failed);
        }
        sample
    }

    fn count(&self, program: &PathBuf) -> Counted {
        let Case { body, callers, connections } = self.row.case;
        let traced = body == TRACED_BODY && callers <= TRACED_CALLERS && connections == 1;
        Counted {
            allocations: self.sample(Command::new(program), COUNTED_MS).allocations_per_call(),
            system_calls: if traced { self.system_calls() } else { None },
        }
    }

    /// In two runs, one longer than the other, so that what is done only once does not count.
    fn system_calls(&self) -> Option<f64> {
        let each = TRACED / self.row.case.callers as u64;
        let (short, long) = (self.trace(each / 10)?, self.trace(each / 10 + each)?);
        Some((long - short) / (each * self.row.case.callers as u64) as f64)
    }

    /// All system calls of a client that makes so many calls with each caller.
    fn trace(&self, calls: u64) -> Option<f64> {
        let log = std::env::temp_dir().join(format!("peers-strace-{}", std::process::id()));
        let mut strace = Command::new("strace");
        strace.args(["-f", "-c", "-o"]).arg(&log).arg(child::this().get_program());
        let status = strace.args(self.arguments()).args(["--calls", &calls.to_string()]).output();
        let counts = std::fs::read_to_string(&log);
        let _ = std::fs::remove_file(&log);
        status.ok().filter(|output| output.status.success())?;
        let counts = counts.ok()?;
        let total = counts.lines().find(|line| line.ends_with("total"))?;
        total.split_whitespace().nth(3)?.parse().ok()
    }

    fn arguments(&self) -> Vec<String> {
        let Case { body, callers, connections } = self.row.case;
        let options = [
            ("--peer", self.row.name.argument()),
            ("--address", self.server.address.clone()),
            ("--server", self.server.id().to_string()),
            ("--body", body.to_string()),
            ("--callers", callers.to_string()),
            ("--connections", connections.to_string()),
        ];
        let options = options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        std::iter::once("once".to_owned()).chain(options).collect()
    }

    fn run(&self, program: &mut Command) -> Sample {
        let output = program.stderr(std::process::Stdio::inherit()).output();
        let output = output.expect("this program can be started again");
        let line = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&line).unwrap_or_else(|error| {
            panic!("{} gave no sample of {:?}: {error}: {line}", self.row.name, self.row.case);
        })
    }
}

/// To standard output.
pub(crate) fn print(rows: &[Row]) {
    let mut before = None;
    for row in rows {
        if before.replace(row.case) != Some(row.case) {
            let Case { body, callers, connections } = row.case;
            println!("\n{body} bytes, {callers} callers, {connections} connections");
            println!(
                "{:<10} {:>11} {:>6} {:>10} {:>10} {:>10} {:>8} {:>8} {:>8} {:>7} {:>7} {:>6}",
                "",
                "calls/s",
                "ratio",
                "p50 us",
                "p99 us",
                "p999 us",
                "cpu us",
                "srv us",
                "sleeps",
                "allocs",
                "sysc",
                "fair"
            );
        }
        let limit = rows.iter().find(|limit| limit.name == Name::Rawpipe && limit.case == row.case);
        println!(
            "{:<10} {:>11.0} {:>6.2} {:>10.1} {:>10.1} {:>10.1} {:>8.2} {:>8.2} {:>8.3} {:>7.2} {:>7.3} {:>6.2}",
            row.name,
            row.rate(),
            limit.map_or(f64::NAN, |limit| row.ratio(limit, Sample::rate)),
            row.median(|sample| sample.quantile(0.5)),
            row.median(|sample| sample.quantile(0.99)),
            row.median(|sample| sample.quantile(0.999)),
            row.median(Sample::cpu_per_call),
            row.median(Sample::server_cpu_per_call),
            row.median(Sample::sleeps_per_call),
            row.allocations.unwrap_or(f64::NAN),
            row.system_calls.unwrap_or(f64::NAN),
            row.median(Sample::fairness),
        );
    }
}
