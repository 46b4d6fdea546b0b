//! Honest outcomes, proven: lines that are cut at every byte, servers that journal what they ran, and what the pool says
//! became of each call.

// Real time is what some of this is about, and a failed `unwrap` is a failed test.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod accepted;
mod bench;
mod cutting;
mod every_byte;
mod fence;
mod journal;
mod load;
mod outage;
mod random;
mod refused;
mod rolling;
mod series;
