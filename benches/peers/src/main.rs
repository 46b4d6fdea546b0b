//! steadfast beside what its users would pick instead, measured in one run.
//!
//! `cargo run --release -p peers -- checkout`
//!
//! Each module is one measurement, and says what it shows and what it does not. All compared are measured in turns, round
//! by round, so that a machine that becomes slower meanwhile is slower for all of them; the medians of the rounds are shown.

#![allow(clippy::disallowed_methods, reason = "real time is what is measured")]

mod checkout;
mod rounds;
mod server;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "steadfast beside what its users would pick instead")]
struct Arguments {
    #[command(subcommand)]
    measurement: Measurement,
}

#[derive(Subcommand)]
enum Measurement {
    /// What it costs to take a connection out of a pool and to give it back.
    Checkout(checkout::Arguments),
}

fn main() {
    match Arguments::parse().measurement {
        Measurement::Checkout(arguments) => checkout::run(&arguments),
    }
}
