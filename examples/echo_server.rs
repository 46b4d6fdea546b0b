//! A server in a few lines: it answers each call with the call's own body, and drains on SIGTERM.
//!
//! ```text
//! cargo run --release --example echo_server -- --listen 127.0.0.1:7000
//! cargo run --release --example load -- --to 127.0.0.1:7000        # in another terminal
//! kill -TERM PID                                                   # finishes what it has accepted, exits 0
//! ```
//!
//! With `--journal FILE` it records what it executed, so that one can check what clients say became of their calls;
//! the record survives SIGKILL. `RUST_LOG=steadfast=debug` shows on stderr what the library does.

mod child {
    pub(crate) mod announce;
}
#[path = "echo/mod.rs"]
mod echo;
#[path = "log/mod.rs"]
mod log;

use std::process::ExitCode;

use clap::Parser;

/// Answers each call with its own body
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: echo::Options,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { options } = Arguments::parse();
    log::show_if_asked();
    match echo::run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo_server: {error}");
            ExitCode::FAILURE
        }
    }
}
