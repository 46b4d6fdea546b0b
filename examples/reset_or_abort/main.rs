//! 10053 or 10054? The ways for a connection to end that can be made on one machine without root: each is provoked, and
//! shown as TCP saw it, before and after, and as steadfast calls it.
//!
//! ```text
//! cargo run --example reset_or_abort
//! cargo run --example reset_or_abort -- --only linger --only freeze --json
//! ```
//!
//! Each is provoked on a connection that lives. The server (`server.rs`) is a process of its own that speaks plain frames and does what it is told: close, reset, fall
//! silent. The client is a pool of one connection with a heartbeat of 300 ms + 900 ms. For each way:
//!
//! - *TCP*: the connection's state before, from `/proc/net/tcp`, and at the loss, from [`Loss::tcp`](steadfast::Loss::tcp).
//!   Only Linux tells; elsewhere it says so.
//! - *FIN first*: whether an orderly end of the peer's bytes came, and no reset.
//! - *reading*, *writing*: what the operating system said to each, as a plain socket would have heard it.
//! - *steadfast*: its one cause, with the operating system's code under its Unix and its Winsock name.
//! - *the call*: what became of the call in hand, and whether it may have run.
//!
//! What needs root, another machine or another system is not here: ECONNABORTED 10053 (on Linux only `ss -K` makes it; on
//! Windows a peer that closed while this side went on writing), the machine that was restarted (RST at the first byte sent),
//! the firewall that forgot, the cable. `tests/faults` makes some of these in network namespaces, and
//! `docs/when-connections-die.md` explains all of them.
//!
//! Exit status: 0 only if each cause was the expected one, 1 if not, 2 if the examples could not be made.

#[path = "../child/mod.rs"]
mod child;
mod impatient;
mod proc_net;
mod provoke;
mod row;
mod server;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use steadfast::BoxError;

use row::Row;

/// Ends connections in every way, and shows what TCP and steadfast make of it
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Only this way; can be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Print one JSON array on stdout
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// The child: the server
    #[command(hide = true)]
    Serve,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { only, json, role } = Arguments::parse();
    let result = match role {
        None => show(&only, json).await,
        Some(Role::Serve) => {
            child::end_with_parent();
            server::run().map(|never| match never {})
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("reset_or_abort: {error}");
        ExitCode::from(2)
    })
}

async fn show(only: &[String], json: bool) -> Result<ExitCode, BoxError> {
    let wanted = |name: &str| only.is_empty() || only.iter().any(|wanted| wanted == name);
    let (mut rows, mut out) = (Vec::<Row>::new(), io::stdout().lock());
    for way in provoke::WAYS.iter().filter(|way| wanted(way.name)) {
        if !way.can_be_made() {
            writeln!(io::stderr(), "{}: cannot be made on this system", way.name)?;
            continue;
        }
        let row = way.provoke().await.map_err(|error| format!("{}: {error}", way.name))?;
        if !json {
            writeln!(out, "{row}")?;
        }
        rows.push(row);
    }
    if json {
        serde_json::to_writer(&mut out, &rows)?;
        writeln!(out)?;
    }
    let as_expected = !rows.is_empty() && rows.iter().all(Row::is_as_expected);
    Ok(ExitCode::from(u8::from(!as_expected)))
}
