//! Calls a second, latencies, and what a call costs the client.
//!
//! Each measurement is a process that does nothing else, against a server in another process that is there for the
//! whole run. Allocations are counted in runs of their own, by a program with another allocator.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::child::{self, Server};
use crate::peers::Name;
use crate::rounds::median;
use crate::sample::Sample;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Each is measured so many times, in turns.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Sizes of bodies, in bytes.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 4096])]
    body: Vec<usize>,
    /// Numbers of callers.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 1024])]
    callers: Vec<usize>,
    /// Only these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Name>,
    /// How long each measurement lasts.
    #[arg(long, default_value_t = 700)]
    measured_ms: u64,
    /// Do not count allocations.
    #[arg(long)]
    no_counts: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Case {
    pub(crate) body: usize,
    pub(crate) callers: usize,
}

/// What the rounds of one of those compared gave.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) samples: Vec<Sample>,
    pub(crate) allocations: Option<f64>,
}

impl Measured {
    pub(crate) fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(&self.samples.iter().map(of).collect::<Vec<_>>())
    }
}

pub(crate) fn run(arguments: &Arguments) {
    let names: Vec<_> = Name::ALL.into_iter().filter(|name| arguments.takes(*name)).collect();
    let servers: Vec<_> = names.iter().map(|name| (*name, Server::start(*name))).collect();
    let counted = if arguments.no_counts { None } else { child::counted() };
    for body in &arguments.body {
        for callers in &arguments.callers {
            let case = Case { body: *body, callers: *callers };
            let measured = measure(arguments, case, &servers, counted.as_deref());
            print(case, &names, &measured);
        }
    }
}

impl Arguments {
    fn takes(&self, name: Name) -> bool {
        let asked = self.only.is_empty() || self.only.contains(&name);
        asked && (name != Name::Redis || child::has_redis())
    }
}

fn measure(
    arguments: &Arguments,
    case: Case,
    servers: &[(Name, Server)],
    counted: Option<&Path>,
) -> BTreeMap<&'static str, Measured> {
    let mut all: BTreeMap<_, Measured> = BTreeMap::new();
    for round in 0..arguments.rounds {
        for turn in 0..servers.len() {
            let (name, server) = &servers[(turn + round) % servers.len()];
            if !name.takes(case.callers) {
                continue;
            }
            let measured = all.entry(name.as_str()).or_default();
            let once = |program, millis| once(program, millis, *name, server, case);
            measured.samples.push(once(child::this(), arguments.measured_ms));
            if let (0, Some(counted)) = (round, counted) {
                measured.allocations = once(Command::new(counted), 300).allocations_per_call();
            }
        }
    }
    all
}

fn once(mut program: Command, millis: u64, name: Name, server: &Server, case: Case) -> Sample {
    let output = program
        .args(["once", "--peer", name.as_str(), "--address", &server.address])
        .args(["--body", &case.body.to_string(), "--callers", &case.callers.to_string()])
        .args(["--measured-ms", &millis.to_string()])
        .stderr(std::process::Stdio::inherit())
        .output()
        .expect("this program can be started again");
    let line = String::from_utf8_lossy(&output.stdout);
    let sample: Sample = serde_json::from_str(&line).unwrap_or_else(|error| {
        panic!("{name} with {case:?} gave no sample: {error}: {line}");
    });
    if let Some(failure) = &sample.failure {
        eprintln!("{name}: {} of {case:?} failed: {failure}", sample.failed);
    }
    sample
}

fn print(case: Case, names: &[Name], measured: &BTreeMap<&'static str, Measured>) {
    println!("\n{} bytes, {} callers", case.body, case.callers);
    println!(
        "{:<10} {:>11} {:>6} {:>10} {:>10} {:>10} {:>8} {:>8} {:>7} {:>6}",
        "", "calls/s", "ratio", "p50 us", "p99 us", "p999 us", "cpu us", "sleeps", "allocs", "fair"
    );
    let limit = measured.get("rawpipe").map(|limit| limit.median(Sample::rate));
    for name in names {
        let Some(all) = measured.get(name.as_str()) else { continue };
        let rate = all.median(Sample::rate);
        println!(
            "{name:<10} {rate:>11.0} {:>6.2} {:>10.1} {:>10.1} {:>10.1} {:>8.2} {:>8.3} {:>7.2} {:>6.2}",
            limit.map_or(f64::NAN, |limit| rate / limit),
            all.median(|sample| sample.quantile(0.5)),
            all.median(|sample| sample.quantile(0.99)),
            all.median(|sample| sample.quantile(0.999)),
            all.median(Sample::cpu_per_call),
            all.median(|sample| sample.per_call(sample.sleeps as f64)),
            all.allocations.unwrap_or(f64::NAN),
            all.median(Sample::fairness),
        );
    }
}
