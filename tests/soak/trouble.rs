//! Trouble at random: each kind that a server, its process and the line to it can make.

use std::fmt;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::time::sleep;

use crate::ends::Ends;
use crate::support::proxy::{Cut, Dam};
use crate::support::times::ms;

/// How often there was which.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Troubles {
    kills: usize,
    freezes: usize,
    cuts: usize,
    delays: usize,
}

impl fmt::Display for Troubles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, freezes, cuts, delays } = self;
        write!(f, "{kills} kills, {freezes} freezes, {cuts} cuts, {delays} delays")
    }
}

/// For this time. All is whole again when it returns, but for connections.
pub(crate) async fn make(ends: &mut Ends, time: Duration, random: &mut Rng) -> Troubles {
    let (mut troubles, began, before) = (Troubles::default(), Instant::now(), ends.proxy.cuts());
    while began.elapsed() < time {
        match random.u8(..8) {
            0 => {
                troubles.kills += 1;
                ends.process.kill();
                ends.process.wait();
                pause(random, 300).await;
                ends.restart().await;
            }
            1 => {
                troubles.freezes += 1;
                ends.process.freeze();
                // About half of them are longer than the heartbeat's bound.
                pause(random, 1000).await;
                ends.process.thaw();
            }
            2 => {
                troubles.delays += 1;
                ends.proxy.dam(Dam::Shut);
                pause(random, 300).await;
                ends.proxy.dam(Dam::Open);
            }
            _ => drop(ends.proxy.cut_any(Cut::any(random, 100_000))),
        }
        pause(random, 100).await;
    }
    troubles.cuts = ends.proxy.cuts() - before;
    troubles
}

async fn pause(random: &mut Rng, at_most_ms: u64) {
    sleep(ms(random.u64(..at_most_ms))).await;
}
