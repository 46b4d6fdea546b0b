//! Seeds run over all processors, and which one failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::books::Seen;
use crate::support::seed;

/// All of [`seed::several`].
pub(crate) fn run(usually: u64, simulate: impl Fn(u64) -> Seen + Sync) {
    let seeds = seed::several(usually);
    let (next, seen) = (AtomicU64::new(seeds.start), Mutex::new(Seen::default()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let Ok(run) = catch_unwind(AssertUnwindSafe(|| simulate(seed))) else {
                seed::tell(seed);
                // The others need not go on.
                next.store(seeds.end, Ordering::Relaxed);
                panic!("seed {seed} failed");
            };
            *seen.lock().unwrap() += run;
        }
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(work);
        }
    });
    let seen = seen.into_inner().unwrap();
    eprintln!("{} seeds: {seen:?}", seeds.end - seeds.start);
    seen.check(seeds.end - seeds.start);
}
