//! The story of the file upload: a command connection, a data connection, pieces of 4096 bytes that are acknowledged
//! in order, and a server that dies on the way.
//!
//! ```text
//! cargo run --release --example upload
//! cargo run --release --example upload -- --megabytes 500 --kills 5 --window 1
//! ```
//!
//! In the story it broke after some 700 KB: TCP keeps no borders between messages, the server read two pieces as one,
//! acknowledged once, both sides waited, and one of them gave up (10054). Here [`Framing`](steadfast::Framing) says where
//! a message ends, on both sides. The server is none of steadfast's: it speaks a small protocol of its own, as old servers
//! do (`language.rs`).
//!
//! - Commands are calls over [`Ordered`](steadfast::Ordered): `begin` says how many bytes are there already, `finish`
//!   says the hash of what has arrived. Both are idempotent, so they outlive a restart of the server by themselves.
//! - Pieces go over a [`Lease`](steadfast::Lease) of a second pool, a window of them under way. When the connection dies
//!   the client asks the command connection where the server stopped, and goes on there.
//!
//! Meanwhile the server's process is killed with SIGKILL, `--kills` times, and started again on the same ports.
//!
//! Exit status: 0 only if the file arrived whole, by its hash, and every kill has hit; 1 if not, 2 if the story could not
//! be told.

#[path = "../child/mod.rs"]
mod child;
mod client;
mod language;
#[path = "../log/mod.rs"]
mod log;
mod narrator;
mod sabotage;
mod server;
mod story;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Sends a file in small pieces to a server that is killed on the way
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    story: story::Options,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// The child: the server of the story
    #[command(hide = true)]
    Serve(server::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { story, role } = Arguments::parse();
    log::show_if_asked();
    let result = match role {
        None => story::play(&story).await,
        Some(Role::Serve(options)) => {
            child::end_with_parent();
            server::run(&options).await.map(|never| match never {})
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("upload: {error}");
        ExitCode::from(2)
    })
}
