//! What one measurement gave.

use serde::{Deserialize, Serialize};

/// Printed by the process that measures, read by the one that compares.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) calls: u64,
    /// Not among the calls.
    pub(crate) failed: u64,
    /// The first failure, in words.
    pub(crate) failure: Option<String>,
    pub(crate) seconds: f64,
    /// Of the client's process, in user and system mode.
    pub(crate) cpu_seconds: f64,
    /// Of the server's process.
    pub(crate) server_cpu_seconds: f64,
    /// Times that a thread of the client went to sleep.
    pub(crate) sleeps: u64,
    pub(crate) allocations: Option<u64>,
    /// Calls of the caller with the fewest and of that with the most.
    pub(crate) fewest: u64,
    pub(crate) most: u64,
    /// Quantiles and their nanoseconds.
    pub(crate) latencies: Vec<(f64, u64)>,
}

impl Sample {
    pub(crate) fn rate(&self) -> f64 {
        self.calls as f64 / self.seconds
    }

    /// Microseconds.
    pub(crate) fn quantile(&self, quantile: f64) -> f64 {
        let at_least = self.latencies.iter().find(|(at, _)| *at >= quantile);
        at_least.map_or(f64::NAN, |(_, nanos)| *nanos as f64 / 1e3)
    }

    pub(crate) fn per_call(&self, total: f64) -> f64 {
        total / self.calls as f64
    }

    /// Microseconds.
    pub(crate) fn cpu_per_call(&self) -> f64 {
        self.per_call(self.cpu_seconds) * 1e6
    }

    /// Microseconds.
    pub(crate) fn server_cpu_per_call(&self) -> f64 {
        self.per_call(self.server_cpu_seconds) * 1e6
    }

    pub(crate) fn allocations_per_call(&self) -> Option<f64> {
        self.allocations.map(|count| self.per_call(count as f64))
    }

    pub(crate) fn sleeps_per_call(&self) -> f64 {
        self.per_call(self.sleeps as f64)
    }

    /// Of the caller with the fewest calls to that with the most.
    pub(crate) fn fairness(&self) -> f64 {
        self.fewest as f64 / self.most as f64
    }
}
