//! Real faults of servers and networks, and what a pool makes of them: processes that are killed and frozen, networks
//! that swallow everything, peers that do not keep to the protocol.
//!
//! One binary, because linking takes longer than most of these tests.

// Real time is what most of this is about, and a failed `unwrap` is a failed test.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod connecting;
mod death;
#[cfg(target_os = "linux")]
mod keepalive;
mod killed;
mod leases;
mod mistaken;
mod network;
mod post_mortem;
mod reconnecting;
mod resuming;
mod retrying;
mod silence;
mod turned_away;
mod wrapping;

/// Not a test: what [`support::process::Process`] starts.
#[test]
fn child_process() {
    if let Some(role) = support::process::setting("STEADFAST_ROLE") {
        support::roles::play(&role);
    }
}
