//! What it costs to take a connection out of a pool and to give it back.
//!
//! So many tasks each take a connection out of a pool of 8, hold it over one `yield_now`, and give it back, on a runtime
//! with two workers. "no pool" only yields. One column is without the yield: one task, nobody else there. Nothing is sent:
//! what a conversation costs is another measurement.

use std::time::Instant;

use tokio::runtime::Runtime;

use crate::peers::pooled::CONNECTIONS;
use crate::rounds::Table;
use crate::runtime::runtime;

mod sources;

use sources::{Hold, NoPool, Source, Sources};

pub(crate) const NAMES: [&str; 4] = ["no pool", "steadfast", "bb8", "deadpool"];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Each is measured so many times, in turns.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Check-outs in each measurement.
    #[arg(long, default_value_t = 400_000)]
    checkouts: usize,
    /// Numbers of tasks.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64, 512])]
    tasks: Vec<usize>,
    /// Only this one: for a profile.
    #[arg(long, value_parser = NAMES)]
    only: Option<String>,
}

impl Sources {
    fn measure(&self, runtime: &Runtime, name: &str, load: Load, checkouts: usize) -> f64 {
        match name {
            "steadfast" => measure(runtime, &self.steadfast, load, checkouts),
            "bb8" => measure(runtime, &self.bb8, load, checkouts),
            "deadpool" => measure(runtime, &self.deadpool, load, checkouts),
            _ => measure(runtime, &NoPool, load, checkouts),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Load {
    tasks: usize,
    hold: Hold,
}

impl Load {
    fn title(self) -> String {
        match (self.hold, self.tasks) {
            (Hold::NoTime, _) => "no yield".to_owned(),
            (Hold::OverOneYield, 1) => "1 task".to_owned(),
            (Hold::OverOneYield, tasks) => format!("{tasks} tasks"),
        }
    }
}

/// Measures, and prints.
pub(crate) fn run(arguments: &Arguments) -> Table {
    let runtime = runtime();
    let sources = runtime.block_on(Sources::new());
    let mut loads = vec![Load { tasks: 1, hold: Hold::NoTime }];
    let numbers = arguments.tasks.iter();
    loads.extend(numbers.map(|tasks| Load { tasks: *tasks, hold: Hold::OverOneYield }));
    let only = arguments.only.as_deref();
    let names = NAMES.into_iter().filter(|name| only.is_none_or(|only| only == *name));
    let mut table = Table::new(names, loads.iter().map(|load| load.title()));
    for round in 0..=arguments.rounds {
        for (column, load) in loads.iter().enumerate() {
            for line in 0..table.names.len() {
                let name = &table.names[line];
                let taken = sources.measure(&runtime, name, *load, arguments.checkouts);
                // The first round warms up.
                if round > 0 {
                    table.add(line, column, taken);
                }
            }
        }
    }
    let rounds = arguments.rounds;
    println!("\nns for a check-out and return, pools of {CONNECTIONS}, medians of {rounds} rounds");
    table.print();
    table
}

/// Nanoseconds for each.
fn measure(runtime: &Runtime, source: &impl Source, load: Load, checkouts: usize) -> f64 {
    let Load { tasks, hold } = load;
    let each = checkouts / tasks;
    let began = Instant::now();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..tasks)
            .map(|_| {
                let source = source.clone();
                tokio::spawn(async move {
                    for _ in 0..each {
                        source.once(hold).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
    });
    began.elapsed().as_nanos() as f64 / (each * tasks) as f64
}
