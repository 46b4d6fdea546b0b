//! What will happen to links and hosts, and when: all of it follows from the seed.

use std::time::Duration;

use fastrand::Rng;
use turmoil::Sim;

use crate::support::times::ms;

/// From then on nothing happens any more, and all is whole.
pub(crate) const CALM: Duration = Duration::from_secs(15);
pub(crate) const SERVER: &str = "server";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Nothing passes between a client and the server.
    Partition(usize),
    /// Nothing passes in one direction.
    Deaf(usize),
    Dumb(usize),
    /// What is sent waits.
    Hold(usize),
    /// All of that ends for this client. Segments that vanished stay away.
    Whole(usize),
    /// The server's process and its host die without a word.
    Crash,
    /// And another process starts.
    Bounce,
}

#[derive(Debug)]
pub(crate) struct Plan {
    /// The last one comes first.
    faults: Vec<(Duration, Fault)>,
    crashed: bool,
}

pub(crate) fn client_name(client: usize) -> String {
    format!("client-{client}")
}

impl Plan {
    pub(crate) fn new(clients: usize, random: &mut Rng) -> Self {
        let mut faults = Vec::new();
        for client in 0..clients {
            weather(client, &mut faults, random);
        }
        if random.bool() {
            let mut at = Duration::ZERO;
            for _ in 0..random.usize(1..4) {
                at += ms(random.u64(500..6000));
                faults.push((at, Fault::Crash));
                at += ms(random.u64(0..3000));
                faults.push((at, Fault::Bounce));
            }
        }
        faults.retain(|(at, _)| *at < CALM);
        faults.extend((0..clients).map(|client| (CALM, Fault::Whole(client))));
        faults.push((CALM, Fault::Bounce));
        faults.sort_by_key(|(at, _)| *at);
        faults.reverse();
        Self { faults, crashed: false }
    }

    /// Lets happen what is due.
    pub(crate) fn apply(&mut self, sim: &mut Sim<'_>, tell: impl Fn(String)) {
        while let Some((_, fault)) =
            self.faults.last().copied().filter(|(at, _)| *at <= sim.elapsed())
        {
            self.faults.pop();
            if self.happen(sim, fault) {
                tell(format!("{fault:?}"));
            }
        }
    }

    /// False where it would change nothing.
    fn happen(&mut self, sim: &mut Sim<'_>, fault: Fault) -> bool {
        let name = client_name;
        match fault {
            Fault::Partition(client) => sim.partition(name(client), SERVER),
            Fault::Deaf(client) => sim.partition_oneway(SERVER, name(client)),
            Fault::Dumb(client) => sim.partition_oneway(name(client), SERVER),
            Fault::Hold(client) => sim.hold(name(client), SERVER),
            Fault::Whole(client) => {
                sim.release(name(client), SERVER);
                sim.repair(name(client), SERVER);
            }
            Fault::Crash if !self.crashed => {
                self.crashed = true;
                sim.crash(SERVER);
            }
            Fault::Bounce if self.crashed => {
                self.crashed = false;
                sim.bounce(SERVER);
            }
            Fault::Crash | Fault::Bounce => return false,
        }
        true
    }
}

/// What happens to the link of a client.
fn weather(client: usize, faults: &mut Vec<(Duration, Fault)>, random: &mut Rng) {
    let mut at = ms(random.u64(0..4000));
    for _ in 0..random.usize(0..5) {
        let fault = match random.u8(..5) {
            0 | 1 => Fault::Hold(client),
            2 => Fault::Partition(client),
            3 => Fault::Deaf(client),
            _ => Fault::Dumb(client),
        };
        faults.push((at, fault));
        at += ms(random.u64(10..3000));
        faults.push((at, Fault::Whole(client)));
        at += ms(random.u64(100..4000));
    }
}
