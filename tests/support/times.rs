//! Times: short to write, and what many of them come to.

use std::time::Duration;

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn median<T: Ord + Copy>(mut times: Vec<T>) -> T {
    percentile(&mut times, 50)
}

pub(crate) fn percentile<T: Ord + Copy>(times: &mut [T], percent: usize) -> T {
    times.sort();
    times[(times.len() - 1) * percent / 100]
}
