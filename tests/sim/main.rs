//! The real client and the real server over a simulated network ([turmoil]), in simulated time: partitions, packets held and let
//! go, crashes and restarts, many clients, from a seed.
//!
//! A failing seed is printed; `STEADFAST_SEED=7 cargo test --test sim` runs that one alone, `STEADFAST_SEQUENCES=1000` so many.
//!
//! [turmoil]: https://docs.rs/turmoil

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

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

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..5 {
        let [one, other] = [world::run(seed), world::run(seed)].map(|world| world.trace());
        assert!(one.len() > 10, "{one:?}");
        for (at, (one, other)) in one.iter().zip(&other).enumerate() {
            assert_eq!(one, other, "line {at} of seed {seed}");
        }
        assert_eq!(one.len(), other.len());
    }
}
