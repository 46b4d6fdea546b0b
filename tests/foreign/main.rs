//! Servers that nobody can change: calls over their own framing, with answers in order or by id, over real sockets.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod cancelled;
mod dying;
mod leases;
mod opening;
mod panics;
mod server;
