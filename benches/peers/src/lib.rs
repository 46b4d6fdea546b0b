//! steadfast beside what its users would pick instead, measured in one run.
//!
//! `cargo run --release -p peers -- calls --body 64 --callers 1,64 --only steadfast,rawpipe`
//!
//! Each module is one measurement, and says what it shows and what it does not. All compared are measured in turns, round
//! by round, so that a machine that becomes slower meanwhile is slower for all of them; the medians of the rounds are shown.

#![allow(clippy::disallowed_methods, reason = "real time is what is measured")]

mod calls;
mod checkout;
mod child;
mod everything;
mod grid;
mod growth;
mod idle;
mod load;
mod machine;
mod meters;
mod once;
mod peers;
mod process;
mod recovery;
mod report;
mod results;
mod rounds;
mod runtime;
mod sample;
mod server;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "steadfast beside what its users would pick instead")]
struct Arguments {
    /// All of them, for docs/performance.md, unless one is named.
    #[command(subcommand)]
    measurement: Option<Measurement>,
}

#[derive(Subcommand)]
enum Measurement {
    /// Calls a second, latencies, and what a call costs.
    Calls(calls::Arguments),
    /// What it costs to take a connection out of a pool and to give it back.
    Checkout(checkout::Arguments),
    /// Whether a call stays as cheap when there are more of them, or more connections.
    Growth(growth::Arguments),
    /// What idle connections cost.
    Idle(idle::Arguments),
    #[command(hide = true)]
    IdleClient(idle::ClientArguments),
    /// A server is killed under its callers, and comes back.
    Recovery(recovery::Arguments),
    /// Writes docs/performance.md again, from the last run of all.
    Report,
    /// One measurement of one of them, in this process.
    #[command(hide = true)]
    Once(once::Arguments),
    /// The server of one of them, until standard input ends.
    #[command(hide = true)]
    Serve(server::Arguments),
}

/// Runs what the command line asks for. `allocations` tells how many there have been, in a program that counts them.
pub fn run(allocations: fn() -> Option<u64>) -> ExitCode {
    let Some(measurement) = Arguments::parse().measurement else {
        everything::run();
        return ExitCode::SUCCESS;
    };
    match measurement {
        Measurement::Calls(arguments) => calls::run(&arguments),
        Measurement::Checkout(arguments) => drop(checkout::run(&arguments)),
        Measurement::Growth(arguments) => drop(growth::run(&arguments)),
        Measurement::Idle(arguments) => drop(idle::run(&arguments)),
        Measurement::IdleClient(arguments) => idle::client(&arguments),
        Measurement::Recovery(arguments) => drop(recovery::run(&arguments)),
        Measurement::Report => everything::report(),
        Measurement::Once(arguments) => once::run(&arguments, allocations),
        Measurement::Serve(arguments) => server::run(&arguments),
    }
    ExitCode::SUCCESS
}
