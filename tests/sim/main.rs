//! The real client and the real server over a simulated network ([turmoil]), in simulated time: partitions, packets held and let
//! go, crashes and restarts, many clients, from a seed.
//!
//! A failing seed is printed; `STEADFAST_SEED=7 cargo test --test sim` runs that one alone, `STEADFAST_SEQUENCES=1000` so many.
//! In which order `tokio::select!` asks, it draws itself: with `RUSTFLAGS="--cfg tokio_unstable"` from the seed as well, and then
//! the same seed, alone in its process, is the same run to the last event.
//!
//! [turmoil]: https://docs.rs/turmoil

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod books;
mod callers;
mod network;
mod plan;
mod seeds;
mod storm;
mod world;

/// Each call is settled once and by its deadline; what the caller is told agrees with what was executed; no reply is another's;
/// and when all is whole again, everybody is served.
#[test]
fn promises_hold_whatever_happens_to_hosts_and_links() {
    seeds::run(20, |seed| {
        let world = world::run(seed);
        world.check();
        world.seen()
    });
}

/// Each time in a process of its own: tokio numbers the tasks of a process, and drops them in an order that depends on it.
#[test]
#[cfg(tokio_unstable)]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        let [one, other] = [trace_of(seed), trace_of(seed)];
        assert!(one.lines().count() > 10, "{one}");
        for (at, (one, other)) in one.lines().zip(other.lines()).enumerate() {
            assert_eq!(one, other, "line {at} of seed {seed}");
        }
        assert_eq!(one.lines().count(), other.lines().count());
    }
}

#[cfg(tokio_unstable)]
fn trace_of(seed: u64) -> String {
    let mut process = std::process::Command::new(std::env::current_exe().unwrap());
    process.args(["--exact", "tell_a_trace", "--nocapture"]).env(TRACED, seed.to_string());
    let output = process.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let output = String::from_utf8(output.stdout).unwrap();
    let trace = output.lines().filter_map(|line| line.strip_prefix(MARK));
    trace.fold(String::new(), |trace, line| trace + line + "\n")
}

/// The seed whose trace is to be told.
const TRACED: &str = "STEADFAST_TRACE";
const MARK: &str = "@ ";

/// Not a test: what is run to be compared with another time.
#[test]
fn tell_a_trace() {
    if let Ok(seed) = std::env::var(TRACED) {
        println!();
        for line in world::run(seed.parse().unwrap()).trace() {
            println!("{MARK}{line}");
        }
    }
}
