//! The story from its beginning to its end: a file, a server, an upload, a verdict.

use std::convert::Infallible;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use steadfast::BoxError;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::client::{Account, Client};
use crate::language::sha256;
use crate::narrator::Narrator;
use crate::sabotage::Sabotage;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// The size of the file, which has random bytes
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    megabytes: u64,
    /// How often the server is killed
    #[arg(long, value_name = "N", default_value_t = 2)]
    kills: u32,
    /// How long there is no server
    #[arg(long, value_name = "N", default_value_t = 300)]
    down_ms: u64,
    /// How many pieces may be under way without an acknowledgement; 1 waits for each, as the client of the story did
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    window: u64,
    /// Print the account as one JSON object on stdout, and the story on stderr
    #[arg(long)]
    json: bool,
}

/// The verdict, for programs.
#[derive(Debug, Serialize)]
struct Verdict {
    bytes: u64,
    kills: u32,
    resumed: u32,
    sent_again: u64,
    seconds: f64,
    sha256_here: String,
    sha256_there: String,
    whole: bool,
}

pub(crate) async fn play(options: &Options) -> Result<ExitCode, BoxError> {
    let size = options.megabytes * 1_000_000;
    let (here, there) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let file = here.path().join("file");
    let narrator = Narrator::new(size, options.json);
    let sha256_here = make_file(file.clone(), size).await?;
    narrator.say("client", format_args!("a file of {size} bytes, sha256 {sha256_here}"));

    let down = Duration::from_millis(options.down_ms);
    let (kills, folder) = (options.kills, there.path());
    let sabotage = Sabotage { kills, down, size, folder, narrator: &narrator };
    let server = sabotage.start([SocketAddr::from(([127, 0, 0, 1], 0)); 2]).await?;
    let (acknowledged, progress) = watch::channel(0);
    let killed = watch::Sender::new(0);
    let addresses = server.addresses[..].try_into()?;
    let client = Client::new(addresses, options.window as usize, acknowledged, narrator.clone())?;

    let began = Instant::now();
    let account = tokio::select! {
        account = client.upload("file", &file) => account?,
        failed = sabotage.run(server, progress.clone(), &killed) => match failed? {},
        never = draw(&narrator, progress.clone()) => match never {},
    };
    let seconds = began.elapsed().as_secs_f64();
    narrator.finish();
    client.close().await;
    let kills = *killed.borrow();
    let verdict = Verdict::new(size, kills, seconds, sha256_here, account);
    let (there, like) =
        (&verdict.sha256_there, if verdict.whole { "it is whole" } else { "ANOTHER" });
    narrator.say("client", format_args!("all there after {seconds:.1} s, sha256 {there}: {like}"));
    if options.json {
        let mut out = std::io::stdout().lock();
        serde_json::to_writer(&mut out, &verdict)?;
        writeln!(out)?;
    }
    Ok(ExitCode::from(u8::from(!(verdict.whole && kills == options.kills))))
}

impl Verdict {
    fn new(bytes: u64, kills: u32, seconds: f64, sha256_here: String, account: Account) -> Self {
        let Account { hash: sha256_there, resumed, again: sent_again } = account;
        let whole = sha256_here == sha256_there;
        Self { bytes, kills, resumed, sent_again, seconds, sha256_here, sha256_there, whole }
    }
}

/// Random bytes, so that no piece is like another. Returns their hash.
async fn make_file(path: PathBuf, size: u64) -> Result<String, BoxError> {
    let making = tokio::task::spawn_blocking(move || {
        let mut random = fastrand::Rng::new();
        let mut file = BufWriter::new(File::create(&path)?);
        let mut block = vec![0; 1_000_000];
        for _ in 0..size / 1_000_000 {
            random.fill(&mut block);
            file.write_all(&block)?;
        }
        file.into_inner()?;
        sha256(&path)
    });
    Ok(making.await??)
}

async fn draw(narrator: &Narrator, progress: watch::Receiver<u64>) -> Infallible {
    loop {
        narrator.draw(*progress.borrow());
        sleep(Duration::from_millis(50)).await;
    }
}
