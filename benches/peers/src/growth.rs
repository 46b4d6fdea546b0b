//! Whether a call stays as cheap when there are more of them, or more connections. The hand-written pipe shows what
//! caches and sockets cost anyway.

use serde::{Deserialize, Serialize};

use crate::grid::{self, Case, Counts, Grid, Row};
use crate::peers::Name;

const IN_FLIGHT: [usize; 6] = [16, 64, 256, 1024, 4096, 10_000];
const CONNECTIONS: [usize; 4] = [1, 4, 16, 100];
/// Callers that share the connections.
const CALLERS: usize = 1024;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Each is measured so many times, in turns.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each measurement lasts.
    #[arg(long, default_value_t = 700)]
    measured_ms: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Growth {
    pub(crate) in_flight: Vec<Row>,
    pub(crate) connections: Vec<Row>,
}

/// Measures, and prints.
pub(crate) fn run(arguments: &Arguments) -> Growth {
    let measure = |cases: Vec<Case>| {
        let Arguments { rounds, measured_ms } = *arguments;
        let names = vec![Name::Steadfast, Name::Rawpipe];
        let rows = Grid { names, cases, rounds, measured_ms, counts: Counts::NotTaken }.measure();
        grid::print(&rows);
        rows
    };
    let case = |callers, connections| Case { body: 64, callers, connections };
    Growth {
        in_flight: measure(IN_FLIGHT.map(|callers| case(callers, 1)).into()),
        connections: measure(CONNECTIONS.map(|connections| case(CALLERS, connections)).into()),
    }
}
