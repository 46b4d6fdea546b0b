//! The plan as tables: times of attempts and losses in, times of attempts out.

#![allow(clippy::disallowed_methods)]

use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn plan(start: Instant) -> Plan {
    let policy = policy::Reconnect::exponential(ms(100), ms(5000)).stable_after(ms(1000));
    Plan::new(start, policy, 7)
}

/// Fails every attempt, as soon as it is allowed, for so long. Returns how many were made.
fn attempts_within(plan: &mut Plan, start: Instant, span: Duration, callers: Callers) -> u32 {
    let mut attempts = 0;
    while let Some(at) = plan.dial_at(callers).filter(|at| *at < start + span) {
        plan.dial();
        plan.failed(at, Phase::Connect, None);
        attempts += 1;
    }
    attempts
}

#[test]
fn the_first_attempt_is_made_at_once() {
    let start = Instant::now();
    assert_eq!(plan(start).dial_at(Callers::None), Some(start));
}

#[test]
fn a_dead_endpoint_sees_few_attempts_while_nobody_waits() {
    for seed in 0..1000 {
        let start = Instant::now();
        let mut plan = Plan::new(start, policy::Reconnect::default(), seed);
        assert!(attempts_within(&mut plan, start, ms(2000), Callers::None) <= 10, "seed {seed}");
    }
}

#[test]
fn waiting_calls_bring_the_attempt_forward_but_not_below_its_distance() {
    let start = Instant::now();
    let mut plan = plan(start);
    let mut last = start;
    plan.dial();
    plan.failed(start, Phase::Connect, None);
    while let Some(at) = plan.dial_at(Callers::Waiting).filter(|at| *at < start + ms(60_000)) {
        let backoff_alone = plan.dial_at(Callers::None).unwrap();
        let floor = HURRIED.max((last - start) / 10);
        assert!(at >= last + floor || at == backoff_alone);
        assert!(at <= last + floor + floor / 4);
        last = at;
        plan.dial();
        plan.failed(at, Phase::Connect, None);
    }
    assert!(last > start + ms(50_000));
}

#[test]
fn waiting_calls_do_not_bring_it_forward_while_the_server_turns_us_away() {
    for phase in [Phase::Handshake, Phase::Hook] {
        let (start, hour) = (Instant::now(), ms(3_600_000));
        let mut plan = Plan::new(start, policy::Reconnect::exponential(hour, hour), 7);
        plan.dial();
        plan.failed(start, phase, None);
        assert_eq!(plan.dial_at(Callers::Waiting), plan.dial_at(Callers::None), "{phase}");
        // When it is not there at all, it may be back soon.
        plan.dial();
        plan.failed(start, Phase::Connect, None);
        assert!(plan.dial_at(Callers::Waiting).unwrap() <= start + HURRIED * 5 / 4, "{phase}");
    }
}

#[test]
fn after_a_stable_connection_the_backoff_starts_over() {
    let start = Instant::now();
    let mut plan = plan(start);
    attempts_within(&mut plan, start, ms(60_000), Callers::None);
    plan.dial();
    plan.succeeded(start + ms(60_000));
    assert_eq!(plan.dial_at(Callers::Waiting), None);
    plan.lost(start + ms(61_000), Lost::Mishap, None);
    assert!(plan.dial_at(Callers::None).unwrap() <= start + ms(61_000) + FIRST_JITTER);
    plan.dial();
    plan.failed(start + ms(61_010), Phase::Connect, None);
    assert!(plan.dial_at(Callers::None).unwrap() <= start + ms(61_110));
}

/// As one that is restarted twice within a second.
#[test]
fn a_server_that_is_back_and_lost_again_at_once_is_not_paid_back_for_the_outage_before() {
    let start = Instant::now();
    for phase in [None, Some(Phase::Handshake)] {
        let mut plan = plan(start);
        attempts_within(&mut plan, start, ms(60_000), Callers::Waiting);
        let back = start + ms(60_000);
        plan.dial();
        match phase {
            None => {
                plan.succeeded(back);
                plan.lost(back + ms(300), Lost::Mishap, None);
            }
            Some(phase) => plan.failed(back + ms(300), phase, None),
        }
        assert!(plan.dial_at(Callers::None).unwrap() <= back + ms(400), "{phase:?}");
    }
}

#[test]
fn connections_that_die_young_leave_the_rate_to_the_backoff() {
    let start = Instant::now();
    let mut plan = plan(start);
    let mut dials = 0;
    while let Some(at) = plan.dial_at(Callers::Waiting).filter(|at| *at < start + ms(100_000)) {
        plan.dial();
        plan.succeeded(at);
        plan.lost(at, Lost::Mishap, None);
        assert_eq!(plan.dial_at(Callers::Waiting), plan.dial_at(Callers::None));
        dials += 1;
    }
    // At the cap of 5 s, full jitter makes an attempt every 2.5 s on average.
    assert!((20..80).contains(&dials), "{dials}");
}

#[test]
fn who_was_let_go_for_idleness_is_hurried_though_no_rate_is_raised_by_it() {
    let start = Instant::now();
    let mut plan = plan(start);
    for _ in 0..8 {
        plan.dial();
        plan.succeeded(start);
        plan.lost(start, Lost::Idleness, None);
        let hurried = plan.dial_at(Callers::Waiting).unwrap();
        assert!(hurried <= start + HURRIED * 5 / 4);
    }
    let patient = plan.clone().dial_at(Callers::None).unwrap();
    assert!(patient > start + ms(1000), "nobody waits: the backoff has grown");
}

#[test]
fn a_server_that_is_not_there_any_more_is_hurried_after_also_if_its_connections_died_young() {
    let start = Instant::now();
    for (phase, hurries) in [(Phase::Connect, true), (Phase::Handshake, false)] {
        let mut plan = plan(start);
        for _ in 0..8 {
            plan.dial();
            plan.succeeded(start);
            plan.lost(start, Lost::Mishap, None);
        }
        plan.dial();
        plan.failed(start, phase, None);
        let hurried = plan.dial_at(Callers::Waiting).unwrap();
        assert_eq!(hurried <= start + HURRIED * 5 / 4, hurries, "{phase:?}");
    }
}

#[test]
fn what_was_let_go_can_be_made_again_at_once_but_does_not_hide_that_others_died_young() {
    let start = Instant::now();
    let mut plan = plan(start);
    let retire_at = |plan: &mut Plan, at| {
        plan.dial();
        plan.succeeded(start);
        plan.retired(at);
        assert_eq!(plan.dial_at(Callers::None), Some(at));
    };
    let longest_delays = |plan: &Plan| [&plan.absent, &plan.unwelcome].map(Exponential::current);
    attempts_within(&mut plan, start, ms(60_000), Callers::None);
    for _ in 0..10 {
        plan.dial();
        plan.succeeded(start);
        plan.lost(start, Lost::Mishap, None);
    }
    retire_at(&mut plan, start + ms(10));
    assert_eq!(longest_delays(&plan), [ms(5000); 2]);
    retire_at(&mut plan, start + ms(1000));
    assert_eq!(longest_delays(&plan), [ms(100); 2]);
}

#[test]
fn the_servers_own_wish_wins() {
    let start = Instant::now();
    let mut plan = plan(start);
    plan.dial();
    plan.failed(start, Phase::Connect, Some(ms(3000)));
    let at = plan.dial_at(Callers::Waiting).unwrap();
    assert!(at >= start + ms(3000) && at <= start + ms(3750));
}

#[test]
fn a_thousand_clients_do_not_come_back_in_one_instant() {
    let start = Instant::now();
    let back = start + ms(30_000);
    let mut first_after: Vec<Duration> = (0..1000)
        .map(|seed| {
            let mut plan = Plan::new(start, policy::Reconnect::default(), seed);
            attempts_within(&mut plan, start, ms(30_000), Callers::Waiting);
            plan.dial_at(Callers::Waiting).unwrap() - back
        })
        .collect();
    first_after.sort();
    let span = first_after[999].as_millis() / 100 + 1;
    let mean = 1000.0 / span as f64;
    for bin in 0..span {
        let count = first_after.iter().filter(|after| after.as_millis() / 100 == bin).count();
        assert!(count as f64 <= 3.0 * mean, "{count} in bin {bin} of {span}");
    }
}
