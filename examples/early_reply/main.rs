//! The story of the early reply: a server reads the head of a long upload, finds it bad, says so and closes, while the
//! client is still writing.
//!
//! ```text
//! cargo run --release --example early_reply
//! cargo run --release --example early_reply -- --rounds 500 --megabytes 15 --json
//! ```
//!
//! The server has not read the rest of the upload, so its kernel resets the connection behind the answer (RFC 2525,
//! section 2.17). The client's write fails: 10053 or 10054, EPIPE or ECONNRESET. Two clients upload the same, round by
//! round:
//!
//! - *naive*: a socket. Write the request, then read the answer. Its write fails, so it never comes to reading, and
//!   nobody learns why the server did not want the file.
//! - *steadfast*: a [`Pool`](steadfast::Pool) that speaks the server's own frames ([`Ordered`](steadfast::Ordered)). It
//!   reads while it writes, and goes on reading when writing has failed: the answer is delivered.
//!
//! This holds where the kernel keeps what has come when the reset arrives, as Linux does. Windows may throw it away: against
//! that only the server helps, by closing its writing half first and reading on, as steadfast's own
//! [`Server`](steadfast::Server) does.
//!
//! Exit status: 0 only if steadfast got the answer in every round, although every upload was cut off; 1 if not, 2 if the
//! story could not be told.

#[path = "../child/mod.rs"]
mod child;
mod clients;
mod server;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::Serialize;
use steadfast::BoxError;

use child::ServerProcess;
use clients::{Answered, Naive, Steadfast};

/// Uploads to a server that refuses early, and sees who hears why
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    story: Options,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, clap::Args)]
struct Options {
    /// How often it is tried
    #[arg(long, value_name = "N", default_value_t = 20)]
    rounds: u32,
    /// How long each upload is; less may fit into the kernels' buffers, and then nothing is cut off
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=16))]
    megabytes: u32,
    /// Print the result as one JSON object on stdout, and the story on stderr
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// The child: the server of the story
    #[command(hide = true)]
    Serve,
}

/// Uploads, the answers that were heard, and the last of these.
#[derive(Debug, Default, Serialize)]
struct Tally {
    uploads: u32,
    cut_off: u32,
    answers: u32,
    last_answer: Option<String>,
}

#[derive(Debug, Default, Serialize)]
struct Verdict {
    naive: Tally,
    steadfast: Tally,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { story, role } = Arguments::parse();
    let result = match role {
        None => play(&story).await,
        Some(Role::Serve) => {
            child::end_with_parent();
            server::run().await.map(|never| match never {})
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("early_reply: {error}");
        ExitCode::from(2)
    })
}

async fn play(options: &Options) -> Result<ExitCode, BoxError> {
    let mut server = ServerProcess::start(&["serve"]).await?;
    let [address] = server.addresses[..] else {
        return Err("the server has other ports".into());
    };
    let upload = server::upload("../secret", options.megabytes as usize * 1_000_000);
    let (naive, mut steadfast) = (Naive::new(address), Steadfast::new(address)?);
    let mut verdict = Verdict::default();
    for round in 1..=options.rounds {
        let answered = naive.upload(&upload).await?;
        verdict.naive.add(&answered);
        tell(options, round, "naive", &answered)?;
        let answered = steadfast.upload(&upload).await?;
        verdict.steadfast.add(&answered);
        tell(options, round, "steadfast", &answered)?;
    }
    server.kill().await?;
    let mut out = io::stdout().lock();
    if options.json {
        serde_json::to_writer(&mut out, &verdict)?;
        writeln!(out)?;
    } else {
        for (name, tally) in [("naive", &verdict.naive), ("steadfast", &verdict.steadfast)] {
            let Tally { uploads, cut_off, answers, .. } = tally;
            writeln!(out, "{name:<9}  {uploads} uploads, {cut_off} cut off, {answers} answers")?;
        }
    }
    Ok(ExitCode::from(u8::from(!verdict.steadfast.heard_all())))
}

/// The first round says it all; the others are counted.
fn tell(options: &Options, round: u32, who: &str, answered: &Answered) -> io::Result<()> {
    let line = format!("{who:<9}  {answered}\n");
    match (round, options.json) {
        (1, false) => io::stdout().write_all(line.as_bytes()),
        (1, true) => io::stderr().write_all(line.as_bytes()),
        _ => Ok(()),
    }
}

impl Tally {
    fn add(&mut self, answered: &Answered) {
        self.uploads += 1;
        self.cut_off += u32::from(answered.is_cut_off());
        if let Some(answer) = &answered.answer {
            self.answers += 1;
            self.last_answer = Some(answer.clone());
        }
    }

    fn heard_all(&self) -> bool {
        let Self { uploads, cut_off, answers, .. } = *self;
        uploads > 0 && cut_off == uploads && answers == uploads
    }
}
