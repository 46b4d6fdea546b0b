//! So many callers, each with one call at a time, as fast as it goes, for a while.

use std::cell::OnceCell;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;

use crate::meters::{Meters, Reading};
use crate::peers::{BoxError, Caller, Peer};
use crate::sample::Sample;

/// How much is called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) callers: usize,
    pub(crate) body: usize,
    pub(crate) lasts: Lasts,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Lasts {
    /// Not measured while it warms up.
    For { warm_up: Duration, measured: Duration },
    /// So many calls of each caller, all of them counted.
    Calls(u64),
}

/// With several callers every so many calls of each are timed, so that the clock is no part of what is measured.
const TIMED: u64 = 8;
/// Who fails so often has no hope.
const FAILURES: u64 = 1000;

static PHASE: AtomicU8 = AtomicU8::new(WARM_UP);
const WARM_UP: u8 = 0;
const MEASURED: u8 = 1;
const OVER: u8 = 2;

#[derive(Debug, Default)]
struct Done {
    calls: u64,
    failed: u64,
    failure: Option<String>,
}

/// Puts the load on, once in the life of a process.
pub(crate) async fn put<P: Peer>(peer: &P, load: Load, meters: Meters) -> Result<Sample, BoxError> {
    let mut tasks = Vec::new();
    for (number, bodies) in bodies(load).into_iter().enumerate() {
        let caller = peer.caller().await?;
        tasks.push((number, caller, bodies));
    }
    if let Lasts::Calls(_) = load.lasts {
        PHASE.store(MEASURED, Ordering::SeqCst);
    }
    let tasks: Vec<_> = tasks
        .into_iter()
        .map(|(number, caller, bodies)| tokio::spawn(call(caller, number, bodies, load)))
        .collect();
    let mut before = meters.read();
    let mut after = None;
    if let Lasts::For { warm_up, measured } = load.lasts {
        tokio::time::sleep(warm_up).await;
        before = meters.read();
        PHASE.store(MEASURED, Ordering::SeqCst);
        tokio::time::sleep(measured).await;
        PHASE.store(OVER, Ordering::SeqCst);
        after = Some(meters.read());
    }
    let mut done = Vec::new();
    for task in tasks {
        done.push(task.await?);
    }
    let after = after.unwrap_or_else(|| meters.read());
    Ok(sample(&done, &before, &after))
}

/// What one caller does. Calls that begin in the measured time count.
async fn call<C: Caller>(mut caller: C, number: usize, bodies: [Bytes; 2], load: Load) -> Done {
    let mut done = Done::default();
    let every = if load.callers == 1 { 1 } else { TIMED };
    let mut turn = number as u64;
    loop {
        let phase = PHASE.load(Ordering::Relaxed);
        let over = matches!(load.lasts, Lasts::Calls(calls) if done.calls == calls);
        if phase == OVER || over || done.failed == FAILURES {
            return done;
        }
        turn += 1;
        let began = (phase == MEASURED && turn % every == 0).then(Instant::now);
        let result = caller.call(&bodies[(turn % 2) as usize]).await;
        match result {
            Ok(()) => {
                done.calls += u64::from(phase == MEASURED);
                if let Some(began) = began {
                    record(began.elapsed());
                }
            }
            Err(error) => {
                done.failed += 1;
                done.failure.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

/// Up to here each caller has bodies of its own; longer ones are shared by some, for the sake of memory.
const OWN: usize = 16 * 1024;
const SHARED: usize = 8;

/// Two for each caller, by turns, so that a reply to another caller, or to the call before, is found out.
fn bodies(load: Load) -> Vec<[Bytes; 2]> {
    let different = if load.body <= OWN { load.callers * 2 } else { SHARED };
    let bodies: Vec<_> = (0..different)
        .map(|number| {
            let stamp = (number as u64).to_be_bytes();
            Bytes::from_iter(stamp.into_iter().cycle().take(load.body))
        })
        .collect();
    let body = |number: usize| bodies[number % different].clone();
    (0..load.callers).map(|caller| [body(2 * caller), body(2 * caller + 1)]).collect()
}

type Recorder = Arc<Mutex<Histogram<u64>>>;

static RECORDERS: Mutex<Vec<Recorder>> = Mutex::new(Vec::new());

fn record(latency: Duration) {
    thread_local! {
        /// One for each thread, so that recording is no contention.
        static RECORDER: OnceCell<Recorder> = const { OnceCell::new() };
    }
    RECORDER.with(|recorder| {
        let recorder = recorder.get_or_init(|| {
            let recorder = Arc::new(Mutex::new(histogram()));
            lock(&RECORDERS).push(recorder.clone());
            recorder
        });
        lock(recorder).saturating_record(latency.as_nanos() as u64);
    });
}

/// Of nanoseconds, up to a minute, with two digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("these bounds are allowed")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Quantiles that are kept of a distribution, for tables and plots.
fn quantiles() -> impl Iterator<Item = f64> {
    let tails = (1..=4).flat_map(|nines| {
        let tail = 0.1_f64.powi(nines);
        (0..9).map(move |step| 1.0 - tail * (1.0 - f64::from(step) / 10.0))
    });
    (0..90).map(|percent| f64::from(percent) / 100.0).chain(tails)
}

fn sample(done: &[Done], before: &Reading, after: &Reading) -> Sample {
    let mut latencies = histogram();
    for recorder in lock(&RECORDERS).drain(..) {
        latencies.add(&*lock(&recorder)).expect("their bounds are the same");
    }
    Sample {
        calls: done.iter().map(|done| done.calls).sum(),
        failed: done.iter().map(|done| done.failed).sum(),
        failure: done.iter().find_map(|done| done.failure.clone()),
        seconds: (after.at - before.at).as_secs_f64(),
        cpu_seconds: after.cpu_seconds() - before.cpu_seconds(),
        server_cpu_seconds: after.server_cpu_seconds - before.server_cpu_seconds,
        sleeps: after.sleeps() - before.sleeps(),
        allocations: after
            .allocations
            .zip(before.allocations)
            .map(|(after, before)| after - before),
        fewest: done.iter().map(|done| done.calls).min().unwrap_or(0),
        most: done.iter().map(|done| done.calls).max().unwrap_or(0),
        latencies: quantiles().map(|at| (at, latencies.value_at_quantile(at))).collect(),
    }
}
