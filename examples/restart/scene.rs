//! The rounds: traffic, SIGKILL, a while without a server, the server again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use steadfast::BoxError;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::callers;
use crate::child::ServerProcess;
use crate::ledger::Ledger;
use crate::naive;
use crate::narrator::{Narrator, ms};
use crate::table::Table;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// How often the server is killed
    #[arg(long, value_name = "N", default_value_t = 5)]
    kills: u32,
    /// How long there is no server
    #[arg(long, value_name = "N", default_value_t = 300)]
    down_ms: u64,
    /// How long traffic flows before each kill, and after the last
    #[arg(long, value_name = "N", default_value_t = 1500)]
    traffic_ms: u64,
    /// How long the server works on each call, so that some are always in flight when it is killed
    #[arg(long, value_name = "N", default_value_t = 2)]
    delay_ms: u64,
    /// Print the table as one JSON object on stdout, and the story on stderr
    #[arg(long)]
    pub(crate) json: bool,
}

/// What the people in the story know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Up,
    Down,
    /// Finish the call in hand.
    Over,
}

pub(crate) async fn play(options: &Options) -> Result<Table, BoxError> {
    let down = Duration::from_millis(options.down_ms);
    let traffic = Duration::from_millis(options.traffic_ms);
    let delay = Duration::from_millis(options.delay_ms);
    let narrator = Narrator::new(options.json);
    let mut server = start([SocketAddr::from(([127, 0, 0, 1], 0)); 2], delay).await?;
    // The same in all its lives.
    let addresses: [SocketAddr; 2] = server.addresses[..].try_into()?;
    let [native, plain] = addresses;
    narrator.say("server", format_args!("{server} listens on {native}"));

    let (phase, phases) = watch::channel(Phase::Up);
    let steadfast = Arc::new(Ledger::default());
    let naive = Arc::new(Ledger::default());
    let callers = callers::live(native, narrator, steadfast.clone(), phases.clone());
    let callers = tokio::spawn(callers);
    let raw = tokio::spawn(naive::live(plain, narrator, naive.clone(), phases));

    sleep(traffic).await;
    for round in 1..=options.kills {
        narrator.say("server", format_args!("SIGKILL {round} of {} to {server}", options.kills));
        phase.send_replace(Phase::Down);
        server.kill().await?;
        sleep(down).await;
        server = start(addresses, delay).await?;
        let listening = Instant::now();
        phase.send_replace(Phase::Up);
        narrator.say("server", format_args!("{server} listens again"));
        let until = listening + traffic;
        tokio::join!(
            measure_gap("steadfast", &steadfast, listening, until, narrator),
            measure_gap("naive", &naive, listening, until, narrator),
            sleep_until(until),
        );
    }
    phase.send_replace(Phase::Over);
    callers.await??;
    raw.await?;
    server.kill().await?;
    Ok(Table::new(options.kills, options.down_ms, &naive.settled(), &steadfast.settled()))
}

/// With the addresses for steadfast and for plain frames.
async fn start(addresses: [SocketAddr; 2], delay: Duration) -> Result<ServerProcess, BoxError> {
    let [native, plain] = addresses.map(|address| address.to_string());
    let delay = delay.as_millis().to_string();
    let arguments = ["serve", "--listen", &native, "--plain", &plain, "--delay-ms", &delay];
    ServerProcess::start(&arguments).await
}

/// From the server's line `listening on` to the client's next reply. One that comes before this process has read the
/// line does not count, so the gap is a little too long rather than too short.
async fn measure_gap(
    name: &str,
    ledger: &Ledger,
    listening: Instant,
    until: Instant,
    narrator: Narrator,
) {
    let gap = match timeout_at(until, ledger.next_success()).await {
        Ok(first) => {
            let gap = first.saturating_duration_since(listening);
            narrator.say(name, format_args!("first reply {} after the server listened", ms(gap)));
            gap
        }
        // At least so long.
        Err(_) => {
            narrator.say(name, format_args!("no reply in this round"));
            until - listening
        }
    };
    ledger.gap(gap);
}
