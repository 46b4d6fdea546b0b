//! When one caller's calls were answered.

use std::time::{Duration, Instant};

use super::BIN;

/// A pause worth remembering.
const PAUSE: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct Timeline {
    began: Instant,
    last: Instant,
    /// Calls in each bin.
    bins: Vec<u32>,
    /// The ends of pauses: the first answers after them.
    resumed: Vec<(Instant, Instant)>,
    pub(super) errors: u64,
    pub(super) error: Option<String>,
}

impl Timeline {
    pub(super) fn new(began: Instant) -> Self {
        let (bins, resumed) = (Vec::new(), Vec::new());
        Self { began, last: began, bins, resumed, errors: 0, error: None }
    }

    pub(super) fn answered(&mut self) {
        let now = Instant::now();
        if now - self.last > PAUSE {
            self.resumed.push((self.last, now));
        }
        self.last = now;
        let bin = self.bin_of(now);
        if self.bins.len() <= bin {
            self.bins.resize(bin + 1, 0);
        }
        self.bins[bin] += 1;
    }

    pub(super) fn failed(&mut self, error: impl ToString) {
        self.errors += 1;
        self.error.get_or_insert_with(|| error.to_string());
    }

    pub(super) fn last(&self) -> Instant {
        self.last
    }

    /// How long after `listens` the first answer came. Less than a pause is none. `None` if none came.
    pub(super) fn gap(&self, listens: Instant) -> Option<Duration> {
        if self.last < listens {
            return None;
        }
        let over = self.resumed.iter().find(|(from, to)| *from <= listens && listens <= *to);
        Some(over.map_or(Duration::ZERO, |(_, to)| *to - listens))
    }

    pub(super) fn bin_of(&self, moment: Instant) -> usize {
        ((moment - self.began).as_nanos() / BIN.as_nanos()) as usize
    }

    pub(super) fn add_to(&self, calls: &mut Vec<f64>) {
        calls.resize(calls.len().max(self.bins.len()), 0.0);
        for (sum, bin) in calls.iter_mut().zip(&self.bins) {
            *sum += f64::from(*bin);
        }
    }
}
