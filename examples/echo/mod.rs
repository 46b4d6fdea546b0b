//! The server that `echo_server` runs on its own and `restart` runs as its child.

pub(crate) mod journal;
mod plain;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use steadfast::{BoxError, Bytes, Call, ErrorReply, Server};
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::child::announce;
use journal::Journal;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Where to listen; port 0 lets the operating system choose
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7000")]
    listen: SocketAddr,
    /// Listen here, too, for plain frames: a u32 big-endian length and a body, answered in order
    #[arg(long, value_name = "ADDR")]
    plain: Option<SocketAddr>,
    /// Wait so long before each answer
    #[arg(long, value_name = "N", default_value_t = 0)]
    delay_ms: u64,
    /// Append the first line of each executed call's body to FILE, before it is answered
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Turn further connections away
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    max_connections: usize,
    /// On SIGTERM, wait at most so long for the calls that were accepted
    #[arg(long, value_name = "N", default_value_t = 5000)]
    drain_ms: u64,
}

/// Serves until SIGTERM or SIGINT, then finishes what was accepted. A second signal ends it at once.
pub(crate) async fn run(options: &Options) -> Result<(), BoxError> {
    let journal = options.journal.as_deref().map(Journal::open).transpose()?;
    let delay = Duration::from_millis(options.delay_ms);
    let server =
        Server::builder().connections(options.max_connections).bind(options.listen).await?;
    let plain = match options.plain {
        Some(address) => Some(TcpListener::bind(address).await?),
        None => None,
    };
    // Before anybody knows the address: from then on a signal must not kill.
    let mut signals = Signals::new()?;
    let mut addresses = vec![server.local_addr()?];
    if let Some(plain) = &plain {
        addresses.push(plain.local_addr()?);
    }
    announce::addresses(&addresses)?;

    let control = server.handle();
    let drain = Duration::from_millis(options.drain_ms);
    let interrupted = async {
        signals.next().await;
        control.shutdown(drain);
        signals.next().await;
    };
    tokio::select! {
        result = server.serve(echo(journal, delay)) => Ok(result?),
        () = interrupted => Err("a second signal came while calls were being finished".into()),
        never = plain::serve(plain, delay) => match never {},
    }
}

/// A handler is any async function from a call to its answer.
fn echo(journal: Option<Journal>, delay: Duration) -> impl steadfast::Handler {
    let journal = Arc::new(journal);
    move |call: Call| {
        let journal = journal.clone();
        async move {
            if let Some(journal) = &*journal {
                record(journal, call.body())?;
            }
            if !delay.is_zero() {
                sleep(delay).await;
            }
            Ok(call.into_body())
        }
    }
}

fn record(journal: &Journal, body: &Bytes) -> Result<(), ErrorReply> {
    let line = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
    journal.record(line).map_err(|error| ErrorReply::new(1, format!("journal: {error}")))
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        // An error means that no signal can come.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
