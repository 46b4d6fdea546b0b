//! What several test binaries share: peers that follow a script, processes that can be killed, networks that can be
//! cut.

#![allow(dead_code, clippy::disallowed_methods, clippy::unwrap_used)]

pub(crate) mod daemon;
pub(crate) mod lab;
pub(crate) mod layer;
pub(crate) mod local;
pub(crate) mod log_in;
pub(crate) mod loopback;
pub(crate) mod news;
pub(crate) mod peer;
pub(crate) mod pipes;
pub(crate) mod plain;
pub(crate) mod proc_net;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod proxy;
pub(crate) mod roles;
pub(crate) mod scripted;
pub(crate) mod seed;
pub(crate) mod skipping;
pub(crate) mod slow_pipe;
pub(crate) mod tampered;
pub(crate) mod times;
pub(crate) mod truth;
pub(crate) mod waits;
