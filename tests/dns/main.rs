//! A real unbound, asked over TCP by the dialect and the resolver of the example: its answers in any order, its end and
//! its return in mid-traffic, its limits.

// Real time is what some of this is about, and a failed `unwrap` is a failed test.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "../../examples/dns/configuration.rs"]
mod configuration;
#[path = "../../examples/dns/dialect.rs"]
mod dialect;
#[path = "../real/lives.rs"]
mod lives;
#[path = "../../examples/dns/resolver.rs"]
mod resolver;
#[path = "../../examples/dns/slow.rs"]
mod slow;
#[path = "../support/mod.rs"]
mod support;
#[path = "../../examples/real/traffic.rs"]
mod traffic;

mod answers;
mod killed;
mod limits;
mod server;
mod silence;

use steadfast::{Event, Pool, PoolBuilder, Subscription};

use dialect::Dns;
use resolver::{LookupError, Resolver};
use server::Server;
use traffic::Answer;

fn builder(server: &Server) -> PoolBuilder {
    Pool::builder(server.daemon.address().to_string()).protocol(Dns)
}

fn pool(server: &Server) -> (Pool, Resolver) {
    let pool = builder(server).build().unwrap();
    (pool.clone(), Resolver::new(pool))
}

/// With all that happens to it from the first attempt on.
fn watched_pool(server: &Server) -> (Pool, Resolver, Subscription<Event>) {
    let mut builder = builder(server);
    let events = builder.events();
    let pool = builder.build().unwrap();
    (pool.clone(), Resolver::new(pool), events)
}

/// The answer to one of a thousand names, checked.
async fn lookup(resolver: Resolver, number: usize) -> Result<Answer, LookupError> {
    let number = number % 1000;
    let addresses = resolver.lookup(&format!("{number}.example.test")).await?;
    Ok(Answer::check(addresses, vec![configuration::address_of(number)]))
}
