//! Callers in loops: short calls and long ones, some with hardly any time, some that are dropped on the way.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use steadfast::{Bytes, Pool};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::account::{self, Account};
use crate::ends::Ends;
use crate::support::truth::Told;
use crate::support::waits::within;

/// A call that is not meant to fail has so long.
const PATIENT: Duration = Duration::from_secs(10);

/// Of all rounds: no number is used twice.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Callers {
    tasks: JoinSet<()>,
    ended: Arc<AtomicBool>,
    tally: Arc<Mutex<Account>>,
}

/// What a round's callers were told.
#[derive(Debug)]
pub(crate) struct Tally(Account);

/// One kind of call.
#[derive(Debug, Clone, Copy)]
struct Wish {
    there: usize,
    back: usize,
    timeout: Duration,
    /// The caller goes away after so long.
    dropped_after: Option<Duration>,
}

impl Callers {
    pub(crate) fn start(ends: &Ends, callers: usize, random: &mut Rng) -> Self {
        let (ended, tally) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Account>>::default());
        let tasks = (0..callers).map(|caller| {
            let pool = ends.pools[caller % ends.pools.len()].clone();
            keep_calling(pool, ended.clone(), tally.clone(), random.fork())
        });
        Self { tasks: tasks.collect(), ended, tally }
    }

    /// Returns when each has been told what became of its last call.
    pub(crate) async fn rest(mut self) -> Tally {
        self.ended.store(true, Ordering::Relaxed);
        while let Some(caller) = within(PATIENT * 2, "a caller", self.tasks.join_next()).await {
            caller.unwrap();
        }
        Tally(std::mem::take(&mut *self.tally.lock().unwrap()))
    }
}

impl Tally {
    pub(crate) fn check(&self, executed: &[u64]) {
        self.0.check(executed);
    }

    pub(crate) fn answered(&self) -> usize {
        self.0.count(Told::Ran)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [answered, not_run, unknown] =
            [Told::Ran, Told::NotRun, Told::Unknown].map(|told| self.0.count(told));
        write!(f, "{answered} answered, {not_run} not run, {unknown} unknown or gone")
    }
}

async fn keep_calling(
    pool: Pool,
    ended: Arc<AtomicBool>,
    tally: Arc<Mutex<Account>>,
    mut random: Rng,
) {
    while !ended.load(Ordering::Relaxed) {
        let (number, wish) = (NUMBERS.fetch_add(1, Ordering::Relaxed), any_wish(&mut random));
        let began = Instant::now();
        let told = call(&pool, number, wish).await;
        let late = began.elapsed().saturating_sub(wish.timeout);
        tally.lock().unwrap().enter(number, told, late);
    }
}

fn any_wish(random: &mut Rng) -> Wish {
    let usual = Wish { there: 64, back: 64, timeout: PATIENT, dropped_after: None };
    match random.u8(..10) {
        0 => Wish { there: 200_000, ..usual },
        1 => Wish { back: 200_000, ..usual },
        2 | 3 => Wish { dropped_after: Some(Duration::from_micros(random.u64(..20_000))), ..usual },
        4 => Wish { timeout: Duration::from_micros(random.u64(1..20_000)), ..usual },
        _ => usual,
    }
}

async fn call(pool: &Pool, number: u64, wish: Wish) -> Option<Told> {
    let mut body = [number.to_be_bytes(), (wish.back as u64).to_be_bytes()].concat();
    body.resize(wish.there, number as u8);
    let body = Bytes::from(body);
    let call = pool.request(body.clone()).timeout(wish.timeout).send();
    let result = match wish.dropped_after {
        None => call.await,
        Some(limit) => match timeout(limit, call).await {
            Ok(result) => result,
            // Nobody is told.
            Err(_) => return Some(Told::Unknown),
        },
    };
    if let Ok(answer) = &result {
        assert_eq!(answer.len(), wish.back);
        assert!(answer[8..].iter().all(|byte| *byte == number as u8), "answer of call {number}");
    }
    account::told(&body, &result)
}
