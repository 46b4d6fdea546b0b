//! Connections that are lent to one caller for a conversation.
//!
//! One binary, because linking takes longer than most of these tests.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod abuse;
mod closing;
mod detached;
mod endings;
mod line;
mod steps;
mod streams;
mod turmoil;
