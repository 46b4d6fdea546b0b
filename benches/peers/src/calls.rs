//! Calls a second, latencies, and what a call costs the client.

use crate::child;
use crate::grid::{self, Case, Counts, Grid, Row};
use crate::peers::Name;

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
    /// Connections of steadfast and rawpipe.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Only these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Name>,
    /// How long each measurement lasts.
    #[arg(long, default_value_t = 700)]
    measured_ms: u64,
    /// Count neither allocations nor system calls.
    #[arg(long)]
    no_counts: bool,
}

pub(crate) fn run(arguments: &Arguments) {
    let Arguments { connections, .. } = *arguments;
    let cases = arguments.body.iter().flat_map(|body| {
        let callers = arguments.callers.iter();
        callers.map(|callers| Case { body: *body, callers: *callers, connections })
    });
    let grid = Grid {
        names: available().filter(|name| arguments.asks_for(*name)).collect(),
        cases: cases.collect(),
        rounds: arguments.rounds,
        measured_ms: arguments.measured_ms,
        counts: if arguments.no_counts { Counts::NotTaken } else { Counts::Taken },
    };
    grid::print(&grid.measure());
}

impl Arguments {
    fn asks_for(&self, name: Name) -> bool {
        self.only.is_empty() || self.only.contains(&name)
    }
}

fn available() -> impl Iterator<Item = Name> {
    Name::ALL.into_iter().filter(|name| *name != Name::Redis || child::has_redis())
}

/// For the report: throughput over the number of callers, and all sizes with few, some and many of them.
pub(crate) fn all() -> Vec<Row> {
    let small = [1, 8, 64, 256, 1024].map(|callers| (64, callers));
    let pages = [1, 64, 1024].map(|callers| (4096, callers));
    let large = [1, 64].map(|callers| (1 << 20, callers));
    let cases = small.into_iter().chain(pages).chain(large);
    let grid = Grid {
        names: available().collect(),
        cases: cases.map(|(body, callers)| Case { body, callers, connections: 1 }).collect(),
        rounds: 3,
        measured_ms: 700,
        counts: Counts::Taken,
    };
    let rows = grid.measure();
    grid::print(&rows);
    rows
}
