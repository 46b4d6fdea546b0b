//! What must be reached, and whether it is.

use super::tables::{digits, table};
use crate::grid::Row;
use crate::peers::Name::{self, Raw1, Rawpipe, Redis, Steadfast};
use crate::results::Results;
use crate::sample::Sample;

struct Goal {
    what: String,
    bound: Bound,
    measured: f64,
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    fn line(&self) -> Vec<String> {
        let (goal, ratio, reached) = match self.bound {
            Bound::AtLeast(least) => {
                (format!("at least {least}"), self.measured / least, self.measured >= least)
            }
            // Nothing at all is as much under the bound as there is.
            Bound::AtMost(most) => {
                (format!("at most {most}"), self.measured / most, self.measured <= most)
            }
        };
        let ratio = if ratio.is_finite() { digits(ratio) } else { String::new() };
        let reached = match (self.measured.is_nan(), reached) {
            (true, _) => "not measured",
            (_, true) => "yes",
            (_, false) => "**no**",
        };
        vec![self.what.clone(), goal, digits(self.measured), ratio, reached.to_owned()]
    }
}

pub(super) fn of(results: &Results) -> String {
    let goals = [throughput(results), costs(results), others(results), growth(results)];
    let head = ["", "goal", "measured", "measured / goal", "reached"].map(str::to_owned);
    table(&head, goals.iter().flatten().map(Goal::line))
}

fn at_least(what: impl Into<String>, least: f64, measured: f64) -> Goal {
    Goal { what: what.into(), bound: Bound::AtLeast(least), measured }
}

fn at_most(what: impl Into<String>, most: f64, measured: f64) -> Goal {
    Goal { what: what.into(), bound: Bound::AtMost(most), measured }
}

/// Of steadfast to another, or not a number where one of them was not measured.
fn ratio(results: &Results, load: (usize, usize), to: Name, of: fn(&Sample) -> f64) -> f64 {
    let row = |name| results.row(name, load.0, load.1);
    row(Steadfast).zip(row(to)).map_or(f64::NAN, |(own, other)| own.ratio(other, of))
}

fn throughput(results: &Results) -> Vec<Goal> {
    let to = |name, load| ratio(results, load, name, Sample::rate);
    let mut goals = Vec::new();
    for (load, title) in [
        ((64, 64), "64 B x64"),
        ((64, 1024), "64 B x1024"),
        ((4096, 64), "4 KiB x64"),
        ((4096, 1024), "4 KiB x1024"),
    ] {
        let what = format!("calls a second, {title}, to rawpipe");
        goals.push(at_least(what, 0.9, to(Rawpipe, load)));
    }
    for (load, title) in [((64, 64), "64 B x64"), ((4096, 64), "4 KiB x64")] {
        let what = format!("calls a second, {title}, to redis-rs");
        goals.push(at_least(what, 2.5, to(Redis, load)));
    }
    for (load, title) in [((1 << 20, 1), "1 MiB x1"), ((1 << 20, 64), "1 MiB x64")] {
        let what = format!("calls a second, {title}, to the better of raw1 and rawpipe");
        goals.push(at_least(what, 1.0, to(Raw1, load).min(to(Rawpipe, load))));
    }
    goals
}

fn costs(results: &Results) -> Vec<Goal> {
    let (one, many) = ((64, 1), (64, 64));
    let own = |load: (usize, usize), of: fn(&Row) -> f64| {
        results.row(Steadfast, load.0, load.1).map_or(f64::NAN, of)
    };
    let p50 = ratio(results, one, Raw1, |sample| sample.quantile(0.5));
    let p999 = ratio(results, many, Rawpipe, |sample| sample.quantile(0.999));
    let cpu = ratio(results, many, Rawpipe, Sample::cpu_per_call);
    let allocations = |row: &Row| row.allocations.unwrap_or(f64::NAN);
    let system_calls = |row: &Row| row.system_calls.unwrap_or(f64::NAN);
    vec![
        at_most("p50, 64 B x1, to raw1", 1.05, p50),
        // One call in fifty may meet a tick of some clock.
        at_most("system calls per call, 64 B x1", 3.02, own(one, system_calls)),
        at_most(
            "threads that go to sleep per call, 64 B x1",
            1.05,
            own(one, |row| row.median(Sample::sleeps_per_call)),
        ),
        at_most("allocations per call, 64 B x1", 0.1, own(one, allocations)),
        at_most("allocations per call, 64 B x64", 0.1, own(many, allocations)),
        at_most("system calls per call, 64 B x64", 0.15, own(many, system_calls)),
        at_most("client CPU per call, 64 B x64, to rawpipe", 1.25, cpu),
        at_most("p999, 64 B x64, to rawpipe", 2.0, p999),
    ]
}

fn others(results: &Results) -> Vec<Goal> {
    let mut goals = vec![
        at_most("memory of an idle connection, KiB", 8.0, results.idle.client.bytes / 1024.0),
        at_most(
            "CPU for the heartbeats of 10,000 idle connections, % of a core",
            2.0,
            results.idle.client.cpu_share * 100.0,
        ),
    ];
    let table = &results.checkout;
    let lines =
        ["no pool", "steadfast", "deadpool"].map(|name| table.line(name).unwrap_or_default());
    let [none, steadfast, deadpool] = &lines;
    for (column, title) in table.columns.iter().enumerate() {
        let added = (steadfast[column] - none[column]) / (deadpool[column] - none[column]);
        let what = format!("added by check-out and return, {title}, to deadpool");
        goals.push(at_most(what, 0.5, added));
    }
    let own = results.recovery.iter().find(|recovery| recovery.name == Steadfast);
    if let Some(recovery) = own {
        goals.push(at_most("errors per restart", 0.0, recovery.errors_per_restart()));
        let gap = recovery.median(|restart| restart.last);
        goals.push(at_most("median gap after a restart, of the last caller, ms", 25.0, gap));
    }
    goals
}

/// Flat is what does not grow more than it does in the hand-written pipe, whose growth is that of caches and sockets.
fn growth(results: &Results) -> Vec<Goal> {
    let grows = |rows: &[Row], name| {
        let mut costs = costs_of(rows, name);
        let (few, many) = (costs.next(), costs.next_back());
        many.unwrap_or(f64::NAN) / few.unwrap_or(f64::NAN)
    };
    let above_the_cheapest = |rows: &[Row], name| {
        let cheapest = costs_of(rows, name).fold(f64::NAN, f64::min);
        costs_of(rows, name).next_back().unwrap_or(f64::NAN) / cheapest
    };
    let (in_flight, connections) = (&results.growth.in_flight, &results.growth.connections);
    vec![
        at_most(
            "CPU per call with 10,000 calls in flight, to 16",
            1.0,
            grows(in_flight, Steadfast),
        ),
        at_most(
            "CPU per call with 10,000 calls in flight, to the cheapest; to the same of rawpipe",
            1.25,
            above_the_cheapest(in_flight, Steadfast) / above_the_cheapest(in_flight, Rawpipe),
        ),
        at_most("CPU per call with 100 connections, to 1", 1.25, grows(connections, Steadfast)),
        at_most(
            "CPU per call with 100 connections, to 1; to the same of rawpipe",
            1.25,
            grows(connections, Steadfast) / grows(connections, Rawpipe),
        ),
    ]
}

/// Of a call, with few and with many.
fn costs_of(rows: &[Row], name: Name) -> impl DoubleEndedIterator<Item = f64> {
    rows.iter().filter(move |row| row.name == name).map(|row| row.median(Sample::cpu_per_call))
}
