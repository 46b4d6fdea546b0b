//! A client for memcached: a protocol that nobody can change, learned by steadfast in one file, `dialect.rs`.
//!
//! ```text
//! cargo run --release --example memcached                          # starts a memcached of its own
//! cargo run --release --example memcached -- --to 127.0.0.1:11211
//! ```
//!
//! Shows keys that are set, found, deleted and missing, what errors look like, 64 callers on one connection, and, with
//! a memcached of its own, 16 callers while that is killed with SIGKILL and started again, five times.
//!
//! Against a memcached of yours it sets keys that begin with `steadfast-`, with small values, and leaves them there.
//!
//! Exit status: 0 only if no call failed that should not, and nobody got another's value.

mod client;
mod dialect;
mod packet;
#[path = "../real/mod.rs"]
mod real;

use std::io;
use std::net::Ipv4Addr;
use std::process::ExitCode;

use clap::Parser;
use steadfast::{BoxError, CallError, Pool};
use tokio::time::sleep;

use client::Client;
use dialect::Memcached;
use real::daemon::Daemon;
use real::news::tell;
use real::secs;
use real::survival::survive;
use real::traffic::{self, Account, Answer};

const KEYS: usize = 1000;

/// Talks to a memcached, kills it, and goes on talking
#[derive(Debug, Parser)]
struct Options {
    /// The memcached to talk to, `host:port`; without it, one is started on this machine, and killed
    #[arg(long)]
    to: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match show(Options::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("memcached: {error}");
            ExitCode::from(2)
        }
    }
}

async fn show(options: Options) -> Result<bool, BoxError> {
    let mut own = match options.to {
        Some(_) => None,
        None => Some(start().await?),
    };
    let own_address = own.as_ref().map(|server| server.address().to_string());
    let address = options.to.or(own_address).unwrap_or_default();
    let mut builder = Pool::builder(address).protocol(Memcached).call_timeout(secs(5));
    tokio::spawn(tell(builder.events()));
    let pool = builder.build()?;
    pool.ready(secs(5)).await?;

    let client = Client::new(pool.clone());
    introduce(&client).await?;
    let mut is_clean = load(&client).await.is_clean();
    counters(&client).await?;
    if let Some(server) = &mut own {
        let call = move |number: usize| get_or_set(client.clone(), number % KEYS);
        is_clean &= survive(server, call).await?.is_clean();
    }
    pool.close(secs(5)).await?;
    Ok(is_clean)
}

/// On a free port of its own.
async fn start() -> Result<Daemon, BoxError> {
    let started = Daemon::start("memcached", Ipv4Addr::LOCALHOST, |address| {
        let (host, port) = (address.ip(), address.port());
        // As root it wants to be told who to be; others are who they are.
        format!("-u nobody -l {host} -p {port} -U 0 -m 16").split(' ').map(str::to_owned).collect()
    });
    started.await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "it is not installed: `apt install memcached`, \
                                    or say where one runs: `--to HOST:PORT`"
            .into(),
        _ => error.into(),
    })
}

/// One call after the other.
async fn introduce(client: &Client) -> Result<(), CallError> {
    client.set("steadfast-apples", b"1.20").await?;
    println!("get apples: {:?}", client.get("steadfast-apples").await?);
    println!("delete apples: {}", client.delete("steadfast-apples").await?);
    println!("get apples: {:?}", client.get("steadfast-apples").await?);
    for refused in [
        client.set("steadfast-too-large", &vec![0; 1 << 20]).await,
        client.set(&"steadfast-too-long-".repeat(20), b"").await,
    ] {
        if let Err(error) = refused {
            println!("{}: {error}", error.outcome().as_str());
        }
    }
    Ok(())
}

/// Many callers share one connection: none waits for another's answer.
async fn load(client: &Client) -> Account {
    let client = client.clone();
    let call = move |number: usize| {
        let (client, key) = (client.clone(), number / 10 % KEYS);
        async move {
            match number % 10 {
                0 => client.set(&name(key), &value(key)).await.map(|()| Answer::Right),
                _ => get(&client, key).await,
            }
        }
    };
    let ((), account) = traffic::during(sleep(secs(2)), 64, call).await;
    println!("64 callers, a tenth of them set: {account}");
    account
}

/// Nothing is a right answer: it was not set yet, or memcached has forgotten it. Another's value never is.
async fn get(client: &Client, key: usize) -> Result<Answer, CallError> {
    let found = client.get(&name(key)).await?;
    Ok(found.map_or(Answer::Right, |found| Answer::check(found, value(key).into())))
}

/// As one uses a cache: whoever finds nothing puts it there again, and does not mind if that fails. Getting is harmless, so
/// it is idempotent, and tried again when the connection dies under it.
async fn get_or_set(client: Client, key: usize) -> Result<Answer, CallError> {
    match client.get(&name(key)).await? {
        Some(found) => Ok(Answer::check(found, value(key).into())),
        None => {
            let _ = client.set(&name(key), &value(key)).await;
            Ok(Answer::Right)
        }
    }
}

fn name(key: usize) -> String {
    format!("steadfast-{key}")
}

fn value(key: usize) -> Vec<u8> {
    format!("the value of {key}").into_bytes()
}

async fn counters(client: &Client) -> Result<(), CallError> {
    let stats = client.stats().await?;
    for name in ["version", "curr_connections", "cmd_get", "cmd_set", "get_misses"] {
        println!("{name}: {}", stats.get(name).map_or("?", String::as_str));
    }
    Ok(())
}
