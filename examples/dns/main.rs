//! A resolver that asks over TCP: a protocol that nobody can change, learned by steadfast in one file, `dialect.rs`.
//!
//! ```text
//! cargo run --release --example dns                                         # starts an unbound of its own
//! cargo run --release --example dns -- --to 9.9.9.9:53 example.com rust-lang.org
//! ```
//!
//! With an unbound of its own it shows a slow answer that is overtaken by others on the same connection, 64 callers, and
//! 16 callers while that is killed with SIGKILL and started again, five times.
//!
//! Exit status: 0 only if no call failed, and nobody got the answer to another question.

mod configuration;
mod dialect;
#[path = "../real/mod.rs"]
mod real;
mod resolver;
mod slow;

use std::io;
use std::net::Ipv4Addr;
use std::process::ExitCode;

use clap::Parser;
use steadfast::{BoxError, Connections, Pool};
use tempfile::NamedTempFile;
use tokio::time::sleep;

use configuration::{address_of, configuration};
use dialect::Dns;
use real::daemon::Daemon;
use real::news::tell;
use real::secs;
use real::survival::survive;
use real::traffic::{self, Answer};
use resolver::{LookupError, Resolver};
use slow::Slow;

/// Looks names up over TCP
#[derive(Debug, Parser)]
struct Options {
    /// The server to ask, `host:port`; without it, one is started on this machine, and killed
    #[arg(long, requires = "names")]
    to: Option<String>,
    /// What to ask it for
    #[arg(requires = "to")]
    names: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let result = match options.to {
        Some(server) => ask(server, &options.names).await,
        None => show().await,
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("dns: {error}");
            ExitCode::from(2)
        }
    }
}

/// Servers close connections that are idle, and want clients to do so first (RFC 7766, section 6.2.3): none is kept, and
/// none is made before there is something to ask.
fn pool(server: String) -> Result<Pool, BoxError> {
    let connections = Connections::between(0..=1).idle_limit(secs(10));
    let mut builder =
        Pool::builder(server).protocol(Dns).connections(connections).call_timeout(secs(5));
    tokio::spawn(tell(builder.events()));
    Ok(builder.build()?)
}

async fn ask(server: String, names: &[String]) -> Result<bool, BoxError> {
    let pool = pool(server)?;
    let resolver = Resolver::new(pool.clone());
    for name in names {
        println!("{name}: {:?}", resolver.lookup(name).await?);
    }
    pool.close(secs(5)).await?;
    Ok(true)
}

async fn show() -> Result<bool, BoxError> {
    let (slow, file) = (Slow::start().await?, NamedTempFile::new()?);
    let mut server = start(&slow, &file).await?;
    let pool = pool(server.address().to_string())?;
    let resolver = Resolver::new(pool.clone());

    println!("7.example.test: {:?}", resolver.lookup("7.example.test").await?);
    println!("no.example.test: {:?}", resolver.lookup("no.example.test").await?);
    overtake(&resolver, &slow).await?;
    let ((), load) = traffic::during(sleep(secs(2)), 64, lookup(&resolver)).await;
    println!("64 callers: {load}");
    let survived = survive(&mut server, lookup(&resolver)).await?;
    pool.close(secs(5)).await?;
    Ok(load.is_clean() && survived.is_clean())
}

/// On a free port of its own.
async fn start(slow: &Slow, file: &NamedTempFile) -> Result<Daemon, BoxError> {
    let path = file.path().to_str().ok_or("the folder for temporary files has a strange name")?;
    let started = Daemon::start("unbound", Ipv4Addr::LOCALHOST, |address| {
        // If it cannot be written, unbound says so.
        let _ = std::fs::write(path, configuration(address, slow.address(), ""));
        ["-d", "-p", "-c", path].map(str::to_owned).to_vec()
    });
    started.await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            "it needs unbound, which is not installed: `apt install unbound`, \
                                    or say whom to ask: `--to HOST:PORT NAME`"
                .into()
        }
        _ => error.into(),
    })
}

/// One connection, one question that takes its time, and others behind it that do not wait for it.
async fn overtake(resolver: &Resolver, slow: &Slow) -> Result<(), BoxError> {
    let first = resolver.lookup("1.slow.test");
    let others = async {
        slow.asked("1.slow.test").await;
        for number in 0..1000 {
            resolver.lookup(&name(number)).await?;
        }
        println!("1000 names were found while 1.slow.test was not");
        slow.open();
        Ok::<_, LookupError>(())
    };
    let (first, others) = tokio::join!(first, others);
    others?;
    println!("1.slow.test: {:?}", first?);
    Ok(())
}

/// A call, whose answer is checked.
fn lookup(
    resolver: &Resolver,
) -> impl Fn(usize) -> futures::future::BoxFuture<'static, Result<Answer, LookupError>> + Clone + use<>
{
    let resolver = resolver.clone();
    move |number| {
        let (resolver, number) = (resolver.clone(), number % 1000);
        Box::pin(async move {
            let addresses = resolver.lookup(&name(number)).await?;
            Ok(Answer::check(addresses, vec![address_of(number)]))
        })
    }
}

fn name(number: usize) -> String {
    format!("{number}.example.test")
}
