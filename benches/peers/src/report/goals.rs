//! What must be reached, and whether it is.

use super::tables::{digits, table};
use crate::everything::Results;
use crate::grid::Row;
use crate::peers::Name::{self, Raw1, Rawpipe, Redis, Steadfast};
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

/// Of one of those compared, or not a number where it was not measured.
fn of_row(results: &Results, name: Name, load: (usize, usize), of: fn(&Row) -> f64) -> f64 {
    results.row(name, load.0, load.1).map_or(f64::NAN, of)
}

fn throughput(results: &Results) -> Vec<Goal> {
    let rate = |name, load| of_row(results, name, load, Row::rate);
    let mut goals = Vec::new();
    for (load, title) in [
        ((64, 64), "64 B x64"),
        ((64, 1024), "64 B x1024"),
        ((4096, 64), "4 KiB x64"),
        ((4096, 1024), "4 KiB x1024"),
    ] {
        let ratio = rate(Steadfast, load) / rate(Rawpipe, load);
        goals.push(at_least(format!("calls a second, {title}, to rawpipe"), 0.9, ratio));
    }
    for (load, title) in [((64, 64), "64 B x64"), ((4096, 64), "4 KiB x64")] {
        let ratio = rate(Steadfast, load) / rate(Redis, load);
        goals.push(at_least(format!("calls a second, {title}, to redis-rs"), 2.5, ratio));
    }
    for (load, title) in [((1 << 20, 1), "1 MiB x1"), ((1 << 20, 64), "1 MiB x64")] {
        let best = rate(Raw1, load).max(rate(Rawpipe, load));
        let what = format!("calls a second, {title}, to the better of raw1 and rawpipe");
        goals.push(at_least(what, 1.0, rate(Steadfast, load) / best));
    }
    goals
}

fn costs(results: &Results) -> Vec<Goal> {
    let (one, many) = ((64, 1), (64, 64));
    let ratio = |load, to, of| of_row(results, Steadfast, load, of) / of_row(results, to, load, of);
    let p50 = |row: &Row| row.median(|sample| sample.quantile(0.5));
    let p999 = |row: &Row| row.median(|sample| sample.quantile(0.999));
    let cpu = |row: &Row| row.median(Sample::cpu_per_call);
    let own = |load, of| of_row(results, Steadfast, load, of);
    let allocations = |row: &Row| row.allocations.unwrap_or(f64::NAN);
    let system_calls = |row: &Row| row.system_calls.unwrap_or(f64::NAN);
    vec![
        at_most("p50, 64 B x1, to raw1", 1.05, ratio(one, Raw1, p50)),
        // 15 of 5,000 calls may be ticks of the clock.
        at_most("system calls per call, 64 B x1", 3.02, own(one, system_calls)),
        at_most(
            "threads that go to sleep per call, 64 B x1",
            1.05,
            own(one, |row| row.median(Sample::sleeps_per_call)),
        ),
        at_most("allocations per call, 64 B x1", 0.1, own(one, allocations)),
        at_most("allocations per call, 64 B x64", 0.1, own(many, allocations)),
        at_most("system calls per call, 64 B x64", 0.15, own(many, system_calls)),
        at_most("client CPU per call, 64 B x64, to rawpipe", 1.25, ratio(many, Rawpipe, cpu)),
        at_most("p999, 64 B x64, to rawpipe", 2.0, ratio(many, Rawpipe, p999)),
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
        let costs = rows.iter().filter(|row| row.name == name);
        let mut costs = costs.map(|row| row.median(Sample::cpu_per_call));
        let first = costs.next().unwrap_or(f64::NAN);
        costs.last().unwrap_or(f64::NAN) / first
    };
    let (in_flight, connections) = (&results.growth.in_flight, &results.growth.connections);
    vec![
        at_most(
            "CPU per call with 10,000 calls in flight, to 16",
            1.0,
            grows(in_flight, Steadfast),
        ),
        at_most(
            "CPU per call with 100 connections, to 1; to the same of rawpipe",
            1.25,
            grows(connections, Steadfast) / grows(connections, Rawpipe),
        ),
    ]
}
