//! What is read before and after a load.

use std::time::Instant;

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeVal;

use crate::process;

/// Where to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meters {
    /// Tells how many there have been, if they are counted.
    pub(crate) allocations: fn() -> Option<u64>,
    /// The server's process.
    pub(crate) server: u32,
}

pub(crate) struct Reading {
    pub(crate) at: Instant,
    usage: Usage,
    pub(crate) server_cpu_seconds: f64,
    pub(crate) allocations: Option<u64>,
}

impl Meters {
    pub(crate) fn read(self) -> Reading {
        let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask for its own usage");
        Reading {
            at: Instant::now(),
            usage,
            server_cpu_seconds: process::cpu_seconds(self.server),
            allocations: (self.allocations)(),
        }
    }
}

impl Reading {
    /// Of this process.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        seconds(self.usage.user_time()) + seconds(self.usage.system_time())
    }

    pub(crate) fn sleeps(&self) -> u64 {
        self.usage.voluntary_context_switches() as u64
    }
}
