//! The story of the restarted server: its process is killed in mid-traffic and started again, and clients see what?
//!
//! ```text
//! cargo run --release --example restart
//! cargo run --release --example restart -- --kills 20 --json
//! ```
//!
//! A real server runs as a child process. Two clients talk to it at the same time:
//!
//! - *steadfast*: one [`Pool`](steadfast::Pool), 16 callers with idempotent calls of at most 5 s.
//! - *naive*: what one writes with raw sockets. One socket, write, read; on an error the same bytes again into the same
//!   socket. As in the story it never recovers by itself: after 20 resends in vain, 50 ms apart, an operator restarts the
//!   client, once a round and not before the server is back. So its gap below is the operator's patience. Real ones
//!   took minutes.
//!
//! Each round lets traffic flow, kills the server with SIGKILL, waits `--down-ms`, and starts it again on the same port.
//! What happens is told line by line, with causes; the table at the end compares. A *gap* is the time from the server's
//! line `listening on` to the client's first reply after it. `RUST_LOG=steadfast=debug` shows more on stderr.
//!
//! Exit status: 0 only if steadfast lost no call and gave no caller another one's reply, 1 if it did, 2 if the story
//! could not be told.

mod callers;
#[path = "../child/mod.rs"]
mod child;
#[path = "../echo/mod.rs"]
mod echo;
mod ledger;
#[path = "../log/mod.rs"]
mod log;
mod naive;
mod narrator;
mod scene;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use steadfast::BoxError;

/// Kills a server in mid-traffic, again and again, and shows what its clients make of it
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    story: scene::Options,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// The child: the same server as the example `echo_server`, in this binary, so that this example is all there is to
    /// build
    #[command(hide = true)]
    Serve(echo::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { story, role } = Arguments::parse();
    log::show_if_asked();
    let result = match role {
        None => play(&story).await,
        Some(Role::Serve(options)) => {
            child::end_with_parent();
            echo::run(&options).await.map(|()| ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("restart: {error}");
        ExitCode::from(2)
    })
}

async fn play(story: &scene::Options) -> Result<ExitCode, BoxError> {
    let table = scene::play(story).await?;
    table.print(story.json)?;
    Ok(ExitCode::from(u8::from(!table.steadfast_kept_its_word())))
}
