//! Times: short to write, and what many of them come to.

use std::time::Duration;

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The best of three is within the bound: that is ours, the delays of a busy machine are not.
pub(crate) async fn best_of_three(bound: Duration, mut measure: impl AsyncFnMut() -> Duration) {
    let mut best = Duration::MAX;
    for _ in 0..3 {
        best = best.min(measure().await);
        if best <= bound {
            return;
        }
    }
    panic!("{best:?}, and the bound is {bound:?}");
}

pub(crate) fn median<T: Ord + Copy>(mut times: Vec<T>) -> T {
    percentile(&mut times, 50)
}

pub(crate) fn percentile<T: Ord + Copy>(times: &mut [T], percent: usize) -> T {
    times.sort();
    times[(times.len() - 1) * percent / 100]
}
