//! A server is killed under its callers, is away for a while, and listens again at the same address.
//!
//! A caller that is told of an error waits a little and calls again, as one does. The gap of a restart is from when the
//! server listens again to the first answer that anybody gets, and to the first answer of the caller who waits longest.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::child::{self, Server};
use crate::peers::Name;
use crate::rounds::median;
use crate::runtime::runtime;

mod callers;
mod timeline;

use callers::Callers;

pub(crate) const NAMES: [Name; 6] =
    [Name::Steadfast, Name::Naive, Name::Bb8, Name::Deadpool, Name::Redis, Name::Tonic];

/// Of a point in the story that is kept for the plots.
pub(crate) const BIN: Duration = Duration::from_millis(10);
/// Before the kill, to know how fast it goes.
pub(crate) const BEFORE: Duration = Duration::from_millis(400);
/// After the server listens again, at least.
const AFTER: Duration = Duration::from_millis(1200);
/// Nobody needs longer to come back, it is hoped.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How often each sees its server killed, in turns.
    #[arg(long, default_value_t = 9)]
    restarts: usize,
    #[arg(long, default_value_t = 300)]
    down_ms: u64,
    #[arg(long, default_value_t = 16)]
    callers: usize,
    /// Only these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Name>,
}

/// What became of one restart.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Restart {
    /// Milliseconds from when it listens again to the first answer that anybody gets.
    pub(crate) first: f64,
    /// The same for the caller who gets his first answer last.
    pub(crate) last: f64,
    pub(crate) errors: u64,
    /// The first of them, in words.
    pub(crate) error: Option<String>,
    /// Calls a second in each [`BIN`], from [`BEFORE`] the kill on.
    pub(crate) rates: Vec<f64>,
    /// Milliseconds from the kill until it listened.
    pub(crate) down: f64,
}

/// All restarts of one of those compared.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Recovery {
    pub(crate) name: Name,
    pub(crate) restarts: Vec<Restart>,
}

impl Recovery {
    pub(crate) fn median(&self, of: fn(&Restart) -> f64) -> f64 {
        median(&self.restarts.iter().map(of).collect::<Vec<_>>())
    }

    pub(crate) fn longest(&self) -> f64 {
        self.restarts.iter().map(|restart| restart.last).fold(0.0, f64::max)
    }

    pub(crate) fn errors_per_restart(&self) -> f64 {
        let errors: u64 = self.restarts.iter().map(|restart| restart.errors).sum();
        errors as f64 / self.restarts.len() as f64
    }

    /// That with the median gap.
    pub(crate) fn typical(&self) -> Option<&Restart> {
        let gap = self.median(|restart| restart.last);
        self.restarts.iter().find(|restart| restart.last == gap)
    }
}

/// Measures, and prints.
pub(crate) fn run(arguments: &Arguments) -> Vec<Recovery> {
    let asked = |name: &Name| arguments.only.is_empty() || arguments.only.contains(name);
    let there = |name: &Name| *name != Name::Redis || child::has_redis();
    let names = NAMES.into_iter().filter(asked).filter(there);
    let mut all: Vec<_> = names.map(|name| Recovery { name, restarts: Vec::new() }).collect();
    for _ in 0..arguments.restarts {
        for Recovery { name, restarts } in &mut all {
            restarts.push(restart(*name, arguments));
        }
    }
    print(&all);
    all
}

fn restart(name: Name, arguments: &Arguments) -> Restart {
    let server = Server::start(name);
    let address = server.address.clone();
    let runtime = runtime();
    let callers = runtime.block_on(Callers::start(name, &address, arguments.callers));
    let callers = callers.expect("the server is there");
    sleep(BEFORE);
    let killed = Instant::now();
    drop(server);
    sleep(Duration::from_millis(arguments.down_ms));
    let server = Server::start_at(name, &address);
    let listens = Instant::now();
    sleep(AFTER);
    while !callers.all_answered_since(listens) && listens.elapsed() < PATIENCE {
        sleep(BIN);
    }
    let restart = callers.stop(killed, listens);
    runtime.shutdown_background();
    drop(server);
    restart
}

fn print(all: &[Recovery]) {
    println!("\n{:<12} {:>12} {:>12} {:>12} {:>10}", "", "first", "last", "longest", "errors");
    for recovery in all {
        println!(
            "{:<12} {:>9.1} ms {:>9.1} ms {:>9.1} ms {:>10.1}",
            recovery.name,
            recovery.median(|restart| restart.first),
            recovery.median(|restart| restart.last),
            recovery.longest(),
            recovery.errors_per_restart()
        );
        let error = recovery.restarts.iter().find_map(|restart| restart.error.as_ref());
        error.into_iter().for_each(|error| println!("{:<12} {error}", ""));
    }
}
