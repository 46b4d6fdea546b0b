//! When a server is asked for a sign of life, and when its silence is a verdict.

use super::*;

const PIPELINE_OF_ONE: Matching = Matching::InOrder { pipeline: 1 };

#[test]
fn an_idle_server_is_asked_and_its_silence_is_a_verdict() {
    for matching in [IN_ORDER, PIPELINE_OF_ONE, BY_ID] {
        let mut desk = desk(pinging(matching));
        desk.until(EVERY - 1).unwrap();
        assert!(desk.sent().is_empty());
        desk.until(EVERY).unwrap();
        assert_eq!(desk.bodies(), ["ping"], "{matching:?}");
        desk.until(BOUND - 1).unwrap();
        assert!(desk.sent().is_empty(), "one is enough");
        let silent = LossCause::Silent { silent_for: ms(BOUND), bound: ms(BOUND) };
        assert_eq!(desk.until(BOUND), Err(silent), "{matching:?}");
    }
}

#[test]
fn a_pong_is_life_whether_it_has_a_turn_an_id_or_neither() {
    for (matching, pong) in [
        (IN_ORDER, frame(b"rpong")),
        (IN_ORDER, frame(b"e")),
        (IN_ORDER, frame(b"o")),
        (BY_ID, answer(b'r', 1000, "pong")),
        (BY_ID, answer(b'e', 1000, "")),
        (BY_ID, frame(b"o")),
    ] {
        let mut desk = desk(pinging(matching));
        for round in 1..4 {
            desk.until(desk.now + EVERY).unwrap();
            assert_eq!(desk.bodies(), ["ping"], "{matching:?}, round {round}");
            desk.hear_bytes(&pong).unwrap();
            assert!(desk.foreign.owed.awaits_nothing());
        }
        let name = desk.sent_call("a", 0, MINUTE);
        match matching {
            Matching::InOrder { .. } => desk.hear(&["rA"]).unwrap(),
            Matching::ById { .. } => desk.hear_id(b'r', name % 1000, "A").unwrap(),
        }
        assert_eq!(desk.answer(name), reply("A"));
    }
}

#[test]
fn in_order_nobody_is_asked_behind_a_slow_request_and_its_silence_says_nothing() {
    let mut desk = desk(pinging(IN_ORDER));
    let name = desk.sent_call("slow", 0, 10 * MINUTE);
    desk.until(5 * MINUTE).unwrap();
    assert!(desk.sent().is_empty());
    desk.hear(&["rdone"]).unwrap();
    assert_eq!(desk.answer(name), reply("done"));
    // From then on it counts again.
    desk.until(5 * MINUTE + EVERY).unwrap();
    assert_eq!(desk.bodies(), ["ping"]);
    assert!(matches!(desk.until(6 * MINUTE), Err(LossCause::Silent { .. })));
    assert_eq!(desk.now, 5 * MINUTE + BOUND);
}

#[test]
fn by_id_a_server_is_asked_also_beside_a_slow_request() {
    let mut desk = desk(pinging(BY_ID));
    let name = desk.sent_call("slow", 0, 10 * MINUTE);
    for _ in 0..5 {
        desk.until(desk.now + EVERY).unwrap();
        assert_eq!(desk.bodies(), ["ping"]);
        desk.hear_id(b'r', 1000, "").unwrap();
    }
    assert_eq!(desk.answer(name), None);
    assert!(matches!(desk.until(10 * MINUTE), Err(LossCause::Silent { .. })));
}

#[test]
fn a_server_that_cannot_be_asked_is_not_judged_by_its_silence() {
    for matching in [IN_ORDER, BY_ID] {
        let mut desk = desk(silent(matching));
        assert_eq!(desk.foreign.next_deadline(), None);
        desk.until(60 * MINUTE).unwrap();
        assert!(desk.sent().is_empty());
        desk.sent_call("a", 0, 10 * MINUTE);
        desk.until(69 * MINUTE).unwrap();
        assert!(desk.sent().is_empty(), "{matching:?}");
    }
}

#[test]
fn the_servers_pushes_are_life_while_the_answer_to_the_ping_is_late() {
    let mut desk = desk(pinging(IN_ORDER));
    desk.until(EVERY).unwrap();
    assert_eq!(desk.bodies(), ["ping"]);
    for _ in 0..10 {
        desk.until(desk.now + GIVE_UP_AFTER - 1).unwrap();
        desk.hear(&["!push"]).unwrap();
    }
    assert!(desk.sent().is_empty(), "the first has not been answered");
    desk.hear(&["rpong"]).unwrap();
    desk.until(desk.now + EVERY).unwrap();
    assert_eq!(desk.bodies(), ["ping"]);
}

/// A ping is a request like any other for a server that was written for one at a time.
#[test]
fn in_order_a_ping_counts_among_the_requests_of_the_pipeline() {
    let mut desk = desk(pinging(PIPELINE_OF_ONE));
    desk.until(EVERY).unwrap();
    let name = desk.call("a");
    assert_eq!(desk.bodies(), ["ping"], "the call waits for its turn");
    desk.hear(&["rpong"]).unwrap();
    assert_eq!(desk.bodies(), ["a"]);
    desk.hear(&["rA"]).unwrap();
    assert_eq!(desk.answer(name), reply("A"));
}

#[test]
fn in_order_calls_go_out_behind_a_ping_while_the_pipeline_has_room() {
    let mut desk = desk(pinging(Matching::InOrder { pipeline: 2 }));
    desk.until(EVERY).unwrap();
    desk.call("a");
    assert_eq!(desk.bodies(), ["ping", "a"]);
    desk.call("b");
    assert!(desk.bodies().is_empty());
    desk.hear(&["rpong"]).unwrap();
    assert_eq!(desk.bodies(), ["b"]);
}

#[test]
fn a_call_that_waits_behind_a_ping_and_times_out_was_not_sent() {
    let mut desk = desk(pinging(PIPELINE_OF_ONE));
    desk.until(EVERY).unwrap();
    desk.write(usize::MAX);
    let name = desk.call_at("a", 1, 100);
    desk.write(usize::MAX);
    desk.until(EVERY + 100).unwrap();
    assert_eq!(desk.answer(name), expired(false, Vacancy::Now));
    desk.hear(&["rpong"]).unwrap();
    assert!(desk.sent().is_empty());
}

#[test]
fn a_probe_asks_at_once_if_it_can_tell_something() {
    let mut idle = desk(pinging(IN_ORDER));
    idle.foreign.probe(idle.now());
    idle.foreign.probe(idle.now());
    assert_eq!(idle.bodies(), ["ping"]);
    assert!(idle.until(GIVE_UP_AFTER).is_err(), "silence since the probe is a verdict");

    let mut busy = desk(pinging(IN_ORDER));
    busy.sent_call("a", 0, MINUTE);
    busy.foreign.probe(busy.now());
    assert!(busy.sent().is_empty());

    let mut mute = desk(silent(IN_ORDER));
    mute.foreign.probe(mute.now());
    assert!(mute.sent().is_empty());
}

#[test]
fn a_server_that_takes_nothing_is_given_up_also_without_a_ping() {
    let mut desk = desk(silent(IN_ORDER));
    desk.call("a");
    desk.write(1);
    let stalled = LossCause::Stalled { stalled_for: ms(BOUND), bound: ms(BOUND) };
    assert_eq!(desk.until(MINUTE), Err(stalled));
}

#[test]
fn in_order_a_lease_waits_for_the_pong_and_is_judged_by_it() {
    let mut desk = desk(pinging(PIPELINE_OF_ONE));
    desk.until(EVERY).unwrap();
    assert_eq!(desk.bodies(), ["ping"]);
    desk.foreign.lend().unwrap();
    let first = desk.speech.plain("first".into()).unwrap();
    desk.foreign.send(&first).unwrap();
    assert!(desk.sent().is_empty(), "the server would have two at a time");
    let mut silent = desk;
    assert!(matches!(silent.until(BOUND), Err(LossCause::Silent { .. })));

    let mut desk = self::desk(pinging(PIPELINE_OF_ONE));
    desk.until(EVERY).unwrap();
    assert_eq!(desk.bodies(), ["ping"]);
    desk.foreign.lend().unwrap();
    desk.foreign.send(&first).unwrap();
    desk.hear(&["rpong"]).unwrap();
    assert_eq!(desk.bodies(), ["first"]);
    desk.until(10 * MINUTE).unwrap();
}
