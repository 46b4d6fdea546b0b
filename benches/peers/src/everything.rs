//! All measurements in one run, and the report.

use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;

use crate::machine::Machine;
use crate::results::Results;
use crate::{calls, checkout, growth, idle, recovery, report};

/// Measures all with the options that the single measurements have by default, and writes the report.
pub(crate) fn run() {
    let began = Instant::now();
    let results = Results {
        machine: Machine::this(),
        calls: calls::all(),
        checkout: checkout::run(&defaults()),
        growth: growth::run(&defaults()),
        idle: idle::run(&defaults()),
        recovery: recovery::run(&defaults()),
        minutes: began.elapsed().as_secs_f64() / 60.0,
    };
    let text = serde_json::to_string(&results).expect("numbers can be written");
    std::fs::write(path(), text).expect("the results can be kept");
    report::write(&results);
}

/// Writes the report of the last run again.
pub(crate) fn report() {
    let text = std::fs::read_to_string(path()).expect("there was a run");
    report::write(&serde_json::from_str(&text).expect("the last run was of this version"));
}

/// Beside the program.
fn path() -> PathBuf {
    let program = std::env::current_exe().expect("a program knows where it is");
    program.with_file_name("peers.json")
}

/// What an empty command line gives.
fn defaults<A: clap::Args>() -> A {
    #[derive(Parser)]
    struct Line<A: clap::Args> {
        #[command(flatten)]
        arguments: A,
    }
    Line::<A>::parse_from(["peers"]).arguments
}
