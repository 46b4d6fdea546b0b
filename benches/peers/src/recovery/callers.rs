//! Those who call while the server is killed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::timeline::Timeline;
use super::{BEFORE, BIN, PATIENCE, Restart};
use crate::peers::naive::Naive;
use crate::peers::pooled::{Bb8, Deadpool};
use crate::peers::redis::Redis;
use crate::peers::steadfast::Repeatable;
use crate::peers::tonic::Tonic;
use crate::peers::{BoxError, Caller, Name, Peer, Target};

/// Between an error and the next call.
const PAUSE: Duration = Duration::from_millis(5);

pub(super) struct Callers {
    timelines: Vec<Arc<Mutex<Timeline>>>,
    over: Arc<AtomicBool>,
}

impl Callers {
    pub(super) async fn start(name: Name, address: &str, count: usize) -> Result<Self, BoxError> {
        let target = Target { address, connections: 1 };
        match name {
            Name::Naive => Self::of::<Naive>(target, count).await,
            Name::Bb8 => Self::of::<Bb8>(target, count).await,
            Name::Deadpool => Self::of::<Deadpool>(target, count).await,
            Name::Redis => Self::of::<Redis>(target, count).await,
            Name::Tonic => Self::of::<Tonic>(target, count).await,
            Name::Steadfast => Self::of::<Repeatable>(target, count).await,
            _ => Err(format!("{name} does not come back").into()),
        }
    }

    async fn of<P: Peer>(target: Target<'_>, count: usize) -> Result<Self, BoxError> {
        let peer = P::connect(target).await?;
        let over = Arc::new(AtomicBool::new(false));
        let (mut timelines, began) = (Vec::new(), Instant::now());
        for _ in 0..count {
            let timeline = Arc::new(Mutex::new(Timeline::new(began)));
            timelines.push(timeline.clone());
            tokio::spawn(call(peer.caller().await?, timeline, over.clone()));
        }
        Ok(Self { timelines, over })
    }

    pub(super) fn all_answered_since(&self, moment: Instant) -> bool {
        self.timelines.iter().all(|timeline| lock(timeline).last() > moment)
    }

    pub(super) fn stop(self, killed: Instant, listens: Instant) -> Restart {
        self.over.store(true, Ordering::Relaxed);
        let (mut calls, mut gaps, mut errors, mut error) = (Vec::new(), Vec::new(), 0, None);
        let mut begun = 0;
        for timeline in &self.timelines {
            let mut timeline = lock(timeline);
            timeline.add_to(&mut calls);
            gaps.push(timeline.gap(listens).unwrap_or(PATIENCE).as_secs_f64() * 1e3);
            errors += timeline.errors;
            error = error.or(timeline.error.take());
            begun = timeline.bin_of(killed - BEFORE);
        }
        let rates = calls.split_off(begun.min(calls.len()));
        let down = (listens - killed).as_secs_f64() * 1e3;
        let rates = rates.into_iter().map(|calls| calls / BIN.as_secs_f64()).collect();
        let first = gaps.iter().copied().fold(f64::MAX, f64::min);
        let last = gaps.into_iter().fold(0.0, f64::max);
        Restart { first, last, errors, error, rates, down }
    }
}

async fn call<C: Caller>(mut caller: C, timeline: Arc<Mutex<Timeline>>, over: Arc<AtomicBool>) {
    let body = Bytes::from_static(&[7; 64]);
    while !over.load(Ordering::Relaxed) {
        match caller.call(&body).await {
            Ok(()) => lock(&timeline).answered(),
            Err(error) => {
                lock(&timeline).failed(error);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn lock(timeline: &Mutex<Timeline>) -> MutexGuard<'_, Timeline> {
    timeline.lock().unwrap_or_else(PoisonError::into_inner)
}
