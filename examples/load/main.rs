//! Load for a steadfast server, with a full account of what became of every call.
//!
//! ```text
//! cargo run --release --example echo_server -- --listen 127.0.0.1:7000
//! cargo run --release --example load -- --to 127.0.0.1:7000 --callers 64 --seconds 5
//! ```
//!
//! Each caller makes one call after the other. A body begins with a line that no other call has, and every reply is
//! compared with its request, byte by byte. Stop and start the server meanwhile, and look at the outcomes; with
//! `--journal` here and there one can check them: what is `not_sent` or `refused` was not executed, what is `ok` was.
//! `--json` prints one object on stdout. `RUST_LOG=steadfast=info` shows on stderr what the library does.
//!
//! Exit status: 0 if the load was made, whatever became of the calls; 1 if a reply was not that of its request; 2 if it
//! could not begin.

#[path = "../echo/journal.rs"]
mod journal;
#[path = "../log/mod.rs"]
mod log;
mod report;

use std::num::ParseIntError;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use steadfast::{BoxError, Bytes, CallError, Heartbeat, Pool, Reconnect};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use journal::Journal;
use report::{Connections, Report, Tally, Verdict};

/// After a failed call its caller pauses, so that calls that fail at once do not become a busy loop.
const PAUSE: Duration = Duration::from_millis(1);

/// Makes calls in closed loops and tells what became of them
#[derive(Debug, Clone, Parser)]
struct Arguments {
    /// The server, host:port
    #[arg(long, value_name = "ADDR")]
    to: String,
    /// Connections of the pool
    #[arg(long, value_name = "N", default_value_t = 1)]
    connections: usize,
    /// Callers at a time, each with one call after the other
    #[arg(long, value_name = "N", default_value_t = 16)]
    callers: usize,
    /// End after so many calls, over all callers
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    calls: Option<u64>,
    /// End after so long
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    seconds: Duration,
    /// Bytes of each body, if the line with the id leaves room for more
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    payload: usize,
    /// The time that each call has, over all attempts
    #[arg(long, value_name = "N", default_value_t = 5000)]
    timeout_ms: u64,
    /// Mark the calls as safe to run twice
    #[arg(long)]
    idempotent: bool,
    /// Fail at once while no connection is ready
    #[arg(long)]
    fail_fast: bool,
    /// Ping after so much silence, and give the server up after twice as much more [default: 5000]
    #[arg(long, value_name = "N", value_parser = heartbeat)]
    heartbeat_ms: Option<Heartbeat>,
    /// Pause at most so long between attempts to connect [default: 5000]
    #[arg(long, value_name = "N", value_parser = reconnect)]
    backoff_ms: Option<Reconnect>,
    /// Append a line "id outcome" to FILE for each call
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// What all callers share.
struct Load {
    arguments: Arguments,
    pool: Pool,
    journal: Option<Journal>,
    /// Tells the ids of this run from those of others in the same journal.
    run: u32,
    begun: AtomicU64,
    stopped: AtomicBool,
    start: Instant,
    tally: Mutex<Tally>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log::show_if_asked();
    let json = arguments.json;
    let report = match make(arguments).await {
        Ok(report) => report,
        Err(error) => {
            eprintln!("load: {error}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = report.print(json) {
        eprintln!("load: {error}");
        return ExitCode::from(2);
    }
    ExitCode::from(u8::from(report.mismatched > 0))
}

async fn make(arguments: Arguments) -> Result<Report, BoxError> {
    let journal = arguments.journal.as_deref().map(Journal::open).transpose()?;
    let mut builder = Pool::builder(&arguments.to)
        .connections(arguments.connections)
        .heartbeat(arguments.heartbeat_ms.unwrap_or_default())
        .reconnect(arguments.backoff_ms.unwrap_or_default());
    let connections = tokio::spawn(Connections::count(builder.events()));
    let pool = builder.build()?;
    let start = Instant::now();
    let load = Arc::new(Load {
        pool,
        journal,
        run: fastrand::u32(..),
        begun: AtomicU64::new(0),
        stopped: AtomicBool::new(false),
        start,
        tally: Mutex::new(Tally::new(start)),
        arguments,
    });

    let mut callers = JoinSet::new();
    for _ in 0..load.arguments.callers {
        callers.spawn(load.clone().call_in_a_loop());
    }
    let bar = tokio::spawn(load.clone().show_progress());
    let stopping = load.clone();
    let interrupt = tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stopping.stopped.store(true, Ordering::Relaxed);
        }
    });
    while let Some(ended) = callers.join_next().await {
        ended?;
    }
    let end = Instant::now();
    interrupt.abort();
    load.stopped.store(true, Ordering::Relaxed);
    bar.await?;

    // Ends the stream of events, too, so that all of them have been counted.
    load.pool.close(Duration::from_secs(1)).await?;
    let connections = connections.await?;
    let tally = load.tally();
    Ok(tally.report(end, connections))
}

impl Load {
    async fn call_in_a_loop(self: Arc<Self>) {
        while let Some(number) = self.begin() {
            let id = format!("{:08x}-{number}", self.run);
            let body = self.body(&id, number);
            let began = Instant::now();
            let result = self.call(body.clone()).await;
            let now = Instant::now();
            let verdict = Verdict::of(&result, &body);
            self.record(&id, verdict);
            self.tally().settled(now, now - began, verdict, result.err());
            if verdict != Verdict::Ok {
                sleep(PAUSE).await;
            }
        }
    }

    /// A journal with gaps would be worse than none.
    fn record(&self, id: &str, verdict: Verdict) {
        let Some(journal) = &self.journal else { return };
        if let Err(error) = journal.record(format!("{id} {}", verdict.as_str()).as_bytes()) {
            eprintln!("load: journal: {error}");
            self.stopped.store(true, Ordering::Relaxed);
        }
    }

    /// The next call's number, or `None` when it is time to end.
    fn begin(&self) -> Option<u64> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let more = match self.arguments.calls {
            Some(calls) => number < calls,
            None => self.start.elapsed() < self.arguments.seconds,
        };
        (more && !self.stopped.load(Ordering::Relaxed)).then_some(number)
    }

    async fn call(&self, body: Bytes) -> Result<Bytes, CallError> {
        let mut request =
            self.pool.request(body).timeout(Duration::from_millis(self.arguments.timeout_ms));
        if self.arguments.idempotent {
            request = request.idempotent();
        }
        if self.arguments.fail_fast {
            request = request.fail_fast();
        }
        request.send().await
    }

    /// The id's line, then bytes that differ from call to call and from place to place.
    fn body(&self, id: &str, number: u64) -> Bytes {
        let mut body = Vec::with_capacity(self.arguments.payload);
        body.extend_from_slice(id.as_bytes());
        body.push(b'\n');
        let filler = (body.len()..self.arguments.payload).map(|at| (number as usize + at) as u8);
        body.extend(filler);
        body.into()
    }

    /// At a terminal, unless the output is for a program.
    async fn show_progress(self: Arc<Self>) {
        let total = match self.arguments.calls {
            Some(calls) => calls,
            None => self.arguments.seconds.as_millis() as u64,
        };
        let bar = match self.arguments.json {
            true => ProgressBar::hidden(),
            // Draws on stderr, and only if that is a terminal.
            false => ProgressBar::new(total),
        };
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3} % {msg}") {
            bar.set_style(style);
        }
        while !self.stopped.load(Ordering::Relaxed) {
            let settled = self.tally().settled_calls();
            bar.set_position(match self.arguments.calls {
                Some(_) => settled,
                None => self.start.elapsed().as_millis() as u64,
            });
            bar.set_message(format!("{settled} calls, {:?}", self.pool.status().state));
            sleep(Duration::from_millis(100)).await;
        }
        bar.finish_and_clear();
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn heartbeat(text: &str) -> Result<Heartbeat, ParseIntError> {
    Ok(Heartbeat::every(Duration::from_millis(text.parse()?)))
}

fn reconnect(text: &str) -> Result<Reconnect, ParseIntError> {
    let cap = Duration::from_millis(text.parse()?);
    Ok(Reconnect::exponential(cap.min(Duration::from_millis(100)), cap))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
