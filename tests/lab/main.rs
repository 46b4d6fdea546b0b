//! The fault laboratory: real faults of TCP between two ends in network namespaces, what the library says of each, within
//! which time, and that it recovers by itself when the fault ends. `docs/faults.md` has the table; each test is one row of it.
//!
//! Needs Linux, root, `ip`, `iptables`, `conntrack` and `haproxy`; where they are missing a test says so and passes, unless
//! `STEADFAST_DEMAND_LAB` is set.

// Real time is what this is about, and a failed `unwrap` is a failed test.
#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod account;
mod client;
mod faults;
mod journal;
mod old_server;
mod page;
mod rude;
mod scene;
mod server;

mod connecting;
mod death;
mod early_close;
mod moved;
mod proxied;
mod silence;
mod slow;

/// Not a test: what [`support::process::Process`] starts.
#[test]
fn child_process() {
    match support::process::setting("STEADFAST_ROLE").as_deref() {
        None => {}
        Some("lab client") => support::roles::run(client::call),
        Some("old server of the lab") => support::roles::run(old_server::serve),
        Some("lab server") => support::roles::run(server::serve),
        Some("rude server") => support::roles::run(rude::serve),
        Some(role) => support::roles::play(role),
    }
}
