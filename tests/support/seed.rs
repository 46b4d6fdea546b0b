//! The seeds of random tests: `STEADFAST_SEED=7` repeats the choices of one that failed, though in real time not its times.

use std::ops::Range;

/// The seed that is asked for, or any.
pub(crate) fn any() -> u64 {
    let seed = number("STEADFAST_SEED").unwrap_or_else(|| fastrand::u64(..));
    tell(seed);
    seed
}

/// The seed that is asked for, alone; or from 0 on as many as `STEADFAST_SEQUENCES` says, or as usual.
pub(crate) fn several(usually: u64) -> Range<u64> {
    match number("STEADFAST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("STEADFAST_SEQUENCES").unwrap_or(usually),
    }
}

/// Shown if the test fails.
pub(crate) fn tell(seed: u64) {
    println!("to see it again: STEADFAST_SEED={seed}");
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|number| number.parse().expect("a number"))
}
