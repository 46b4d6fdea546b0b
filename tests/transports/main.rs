//! Transports, listeners and other code of the user's own, behaving as it may.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod bomb;
mod buffer;
mod dropping;
mod endless;
mod half_closed;
mod holding_back;
mod listeners;
mod memory;
mod panicking;
mod writing;
