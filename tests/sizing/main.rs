//! How many connections a pool has, and for how long: none before one is needed, more while there is no room, fewer when
//! nobody uses them, new ones for old ones, and another size at run time. Never at the cost of a call.

// A failed `unwrap` is a failed test.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod bench;
mod leases;
mod on_demand;
mod outlook;
mod resizing;
mod tenure;
