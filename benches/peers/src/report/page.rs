//! What stands between the markers.

use super::goals;
use super::tables::{by_load, digits, optional, short, table, title};
use crate::grid::Row;
use crate::machine::versions;
use crate::peers::Name;
use crate::results::Results;
use crate::rounds::median;
use crate::sample::Sample;

const SMALL: [(usize, usize); 5] = [(64, 1), (64, 8), (64, 64), (64, 256), (64, 1024)];
const LARGER: [(usize, usize); 5] =
    [(4096, 1), (4096, 64), (4096, 1024), (1 << 20, 1), (1 << 20, 64)];

pub(super) fn of(results: &Results) -> String {
    let sections = [
        ("What must be reached", goals::of(results)),
        ("Calls a second", calls(results)),
        ("Latency", latency(results)),
        ("What a call costs the client", costs(results)),
        ("Taking a connection out of a pool", checkout(results)),
        ("As work grows", growth(results)),
        ("Idle connections", idle(results)),
        ("A server that is killed and restarted", recovery(results)),
        ("Calls that failed", failures(results)),
        ("Where and when", machine(results)),
        ("What is noise", noise(results)),
    ];
    sections.iter().map(|(title, text)| format!("## {title}\n\n{}\n\n", text.trim())).collect()
}

fn calls(results: &Results) -> String {
    let cell = |row: &Row| {
        let Row { case, .. } = row;
        let limit = results.row(Name::Rawpipe, case.body, case.callers);
        let ratio = limit.map_or(f64::NAN, |limit| row.ratio(limit, Sample::rate));
        format!("{} ({ratio:.2})", short(row.rate()))
    };
    format!(
        "In brackets: to rawpipe.\n\n![Throughput over the number of callers](throughput.svg)\n\n{}\n{}",
        by_load(results, &SMALL, cell),
        by_load(results, &LARGER, cell)
    )
}

fn latency(results: &Results) -> String {
    let cell = |row: &Row| {
        let at = |quantile| digits(row.median(|sample| sample.quantile(quantile)));
        let starves = if row.median(|sample| sample.fewest as f64) == 0.0 { " †" } else { "" };
        format!("{} / {} / {}{starves}", at(0.5), at(0.99), at(0.999))
    };
    format!(
        "p50 / p99 / p999 in µs, of the calls that were answered. †: some callers were never served, and the others by so \
         much faster.\n\n![Latencies of 64 callers](latency.svg)\n\n{}\n{}",
        by_load(results, &SMALL, cell),
        by_load(results, &LARGER, cell)
    )
}

fn costs(results: &Results) -> String {
    let cpu = |row: &Row| digits(row.median(Sample::cpu_per_call));
    let server = |row: &Row| digits(row.median(Sample::server_cpu_per_call));
    let allocations = |row: &Row| optional(row.allocations);
    let counts = |row: &Row| {
        let sleeps = row.median(Sample::sleeps_per_call);
        format!("{} ({sleeps:.2})", optional(row.system_calls))
    };
    let fairness = |row: &Row| {
        format!("{} : {}", row.median(|s| s.fewest as f64), row.median(|s| s.most as f64))
    };
    let few = [(64, 1), (64, 64)];
    format!(
        "µs of the client's CPU time, user and system:\n\n{}\n\
         The server's, for comparison:\n\n{}\n\
         Allocations of the client:\n\n{}\n\
         System calls (in brackets: how often a thread goes to sleep):\n\n{}\n\
         Calls of the slowest caller and of the fastest one:\n\n{}",
        by_load(results, &[&SMALL[..], &LARGER[..]].concat(), cpu),
        by_load(results, &[&SMALL[..], &LARGER[..]].concat(), server),
        by_load(results, &[&few[..], &LARGER[..]].concat(), allocations),
        by_load(results, &few, counts),
        by_load(results, &[(64, 1024), (4096, 1024)], fairness),
    )
}

fn checkout(results: &Results) -> String {
    let mut head = vec![String::new()];
    head.extend(results.checkout.columns.iter().cloned());
    let lines = results.checkout.names.iter().map(|name| {
        let medians = results.checkout.line(name).unwrap_or_default();
        std::iter::once(name.clone()).chain(medians.iter().map(|ns| format!("{ns:.0}"))).collect()
    });
    format!(
        "ns for a check-out and return, from a pool of 8; held over one yield, but for the first column.\n\n{}",
        table(&head, lines)
    )
}

fn growth(results: &Results) -> String {
    let lines = |rows: &[Row], by: fn(&Row) -> usize| {
        let own = rows.iter().filter(|row| row.name == Name::Steadfast);
        let lines = own.map(|row| {
            let limit =
                rows.iter().find(|limit| limit.name == Name::Rawpipe && limit.case == row.case);
            let cells = |row: &Row| [short(row.rate()), digits(row.median(Sample::cpu_per_call))];
            let mut line = vec![by(row).to_string()];
            line.extend(cells(row));
            line.extend(limit.into_iter().flat_map(cells));
            line
        });
        lines.collect::<Vec<_>>()
    };
    let head =
        |by: &str| [by, "calls/s", "CPU µs", "rawpipe: calls/s", "CPU µs"].map(str::to_owned);
    let growth = &results.growth;
    format!(
        "64 B bodies. Calls in flight on one connection:\n\n{}\nConnections, shared by 1,024 callers:\n\n{}",
        table(&head("in flight"), lines(&growth.in_flight, |row| row.case.callers)),
        table(&head("connections"), lines(&growth.connections, |row| row.case.connections)),
    )
}

fn idle(results: &Results) -> String {
    let idle = &results.idle;
    let head = ["", "memory of each, KiB", "CPU for all, % of a core"].map(str::to_owned);
    let lines = [("client", &idle.client), ("server", &idle.server)].map(|(end, cost)| {
        vec![end.to_owned(), digits(cost.bytes / 1024.0), digits(cost.cpu_share * 100.0)]
    });
    format!(
        "{} connections of one pool, all ready after {:.1} s, with the default heartbeat.\n\n{}",
        idle.connections,
        idle.seconds_to_connect,
        table(&head, lines)
    )
}

fn recovery(results: &Results) -> String {
    let head = ["", "first answer, ms", "last caller's first answer, ms", "longest, ms", "errors"];
    let lines = results.recovery.iter().map(|recovery| {
        vec![
            title(recovery.name),
            digits(recovery.median(|restart| restart.first)),
            digits(recovery.median(|restart| restart.last)),
            digits(recovery.longest()),
            digits(recovery.errors_per_restart()),
        ]
    });
    let restarts = results.recovery.first().map_or(0, |recovery| recovery.restarts.len());
    format!(
        "16 callers; `SIGKILL`; away for 300 ms. Times are from when it listens again, medians of {restarts} restarts; \
         errors are per restart. Under a millisecond is 0.\n\n\
         ![Throughput over time around a restart](restart.svg)\n\n{}",
        table(&head.map(str::to_owned), lines)
    )
}

/// No call is counted that failed, and none is hidden.
fn failures(results: &Results) -> String {
    let growth = results.growth.in_flight.iter().chain(&results.growth.connections);
    let lines: Vec<_> = results.calls.iter().chain(growth).filter_map(failure).collect();
    if lines.is_empty() {
        return "None, but for those around a restart, in the table above.".to_owned();
    }
    let head = ["", "bytes", "callers", "failed", "the first, in its words"].map(str::to_owned);
    format!(
        "Not counted as calls; those around a restart are in the table above.\n\n{}",
        table(&head, lines)
    )
}

fn failure(row: &Row) -> Option<Vec<String>> {
    let failed: u64 = row.samples.iter().map(|sample| sample.failed).sum();
    let words = row.samples.iter().find_map(|sample| sample.failure.clone())?;
    let Row { name, case, .. } = row;
    Some(vec![
        title(*name),
        case.body.to_string(),
        case.callers.to_string(),
        failed.to_string(),
        words,
    ])
}

fn machine(results: &Results) -> String {
    let machine = &results.machine;
    format!(
        "{}, {} cores, Linux {}; {}; {}; redis-server {}. {}, in {:.0} minutes.",
        machine.processor,
        machine.cores,
        machine.kernel,
        machine.compiler,
        versions(),
        machine.redis_server,
        machine.date,
        results.minutes
    )
}

fn noise(results: &Results) -> String {
    let spread = |these: fn(&&Row) -> bool| {
        let mut spreads: Vec<_> = results.calls.iter().filter(these).map(Row::spread).collect();
        spreads.sort_by(f64::total_cmp);
        let most = spreads.get(spreads.len() * 9 / 10).copied().unwrap_or(f64::NAN);
        format!(
            "{:.0} % in the median and {:.0} % in one of ten",
            median(&spreads) * 100.0,
            most * 100.0
        )
    };
    format!(
        "Client and server share two cores with whatever else runs there. From the slowest to the fastest round of one \
         measurement calls a second differ by {} of the measurements with one caller, by {} of those with more. Ratios \
         closer to one than that say nothing; counts (allocations, system calls) are exact but for what runs by the clock.",
        spread(|row| row.case.callers == 1),
        spread(|row| row.case.callers > 1)
    )
}
