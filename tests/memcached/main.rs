//! A real memcached, spoken to in its binary protocol, by the dialect and the client of the example: its answers, its
//! end and its return in mid-traffic, its limits.

// Real time is what some of this is about, and a failed `unwrap` is a failed test.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "../../examples/memcached/client.rs"]
mod client;
#[path = "../../examples/memcached/dialect.rs"]
mod dialect;
#[path = "../real/lives.rs"]
mod lives;
#[path = "../../examples/memcached/packet.rs"]
mod packet;
#[path = "../support/mod.rs"]
mod support;
#[path = "../../examples/real/traffic.rs"]
mod traffic;

mod answers;
mod journal;
mod killed;
mod limits;
mod server;
mod silence;

use std::net::SocketAddr;

use steadfast::{Pool, PoolBuilder};

use client::Client;
use dialect::Memcached;
use support::daemon::Daemon;

fn builder(server: &Daemon) -> PoolBuilder {
    builder_to(server.address())
}

fn builder_to(address: SocketAddr) -> PoolBuilder {
    Pool::builder(address.to_string()).protocol(Memcached)
}

fn pool(server: &Daemon) -> (Pool, Client) {
    let pool = builder(server).build().unwrap();
    (pool.clone(), Client::new(pool))
}

/// The value that belongs to a key: a value with another key is another's.
fn value(key: &str) -> Vec<u8> {
    format!("the value of {key}").into_bytes()
}
