//! A place is left once: by the caller, or, if the caller goes while the answer is outstanding, by the connection when it
//! has come.

use super::*;

/// What can happen to a call that was sent, in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Expires,
    Polled,
    Dropped,
    Answered,
    Lost,
}

use Step::{Answered, Dropped, Expires, Lost, Polled};

/// Takes the steps, and returns how often the caller and the connection each gave the place back.
fn releases(matching: Matching, steps: &[Step]) -> (usize, usize) {
    let mut desk = desk(silent(matching));
    let name = desk.sent_call("a", 1, 100);
    // Somebody else, so that the connection has to do.
    let other = desk.sent_call("b", 2, MINUTE);
    let (mut by_caller, mut holds) = (0, true);
    let mut left = |vacancy| {
        by_caller += usize::from(vacancy == Vacancy::Now);
        holds = false;
    };
    for step in steps {
        match step {
            Expires => desk.until(100).unwrap(),
            Answered if matches!(matching, Matching::InOrder { .. }) => desk.hear(&["rA"]).unwrap(),
            Answered => desk.hear_id(b'r', 0, "A").unwrap(),
            Lost => drop(desk.lose()),
            Dropped => left(desk.leave(name)),
            Polled => match desk.answer(name) {
                Some(Answer::Expired { vacancy, .. }) => left(vacancy),
                Some(_) => left(Vacancy::Now),
                None => panic!("{steps:?}: it is settled"),
            },
        }
    }
    assert!(!holds, "{steps:?}");
    let vacated = desk.vacated();
    assert!(vacated.iter().all(|slot| *slot == 1), "{steps:?}: {vacated:?}");
    if !steps.contains(&Lost) {
        assert_eq!(desk.answer(other), None, "{steps:?}");
    }
    (by_caller, vacated.len())
}

#[test]
fn a_place_is_left_exactly_once_in_whatever_order_things_happen() {
    let (caller, connection, nobody_yet) = ((1, 0), (0, 1), (0, 0));
    for (steps, expected) in [
        (&[Answered, Polled][..], caller),
        (&[Answered, Dropped], caller),
        (&[Answered, Expires, Polled], caller),
        (&[Answered, Lost, Dropped], caller),
        (&[Dropped], nobody_yet),
        (&[Dropped, Answered], connection),
        (&[Dropped, Expires, Answered], connection),
        (&[Dropped, Lost], connection),
        (&[Dropped, Answered, Lost], connection),
        (&[Expires, Polled], nobody_yet),
        (&[Expires, Polled, Answered], connection),
        (&[Expires, Polled, Lost], connection),
        (&[Expires, Answered, Polled], connection),
        (&[Expires, Answered, Dropped], connection),
        (&[Expires, Answered, Lost, Dropped], connection),
        (&[Expires, Lost, Polled], connection),
        (&[Expires, Lost, Dropped], connection),
        (&[Expires, Dropped], nobody_yet),
        (&[Expires, Dropped, Answered], connection),
        (&[Expires, Dropped, Lost], connection),
        (&[Lost, Polled], caller),
        (&[Lost, Dropped], caller),
        (&[Lost, Expires, Polled], caller),
    ] {
        for matching in [IN_ORDER, BY_ID] {
            assert_eq!(releases(matching, steps), expected, "{matching:?}: {steps:?}");
        }
    }
}

#[test]
fn a_call_that_was_not_sent_leaves_its_place_itself() {
    for matching in [IN_ORDER, BY_ID] {
        let mut desk = desk(silent(matching));
        let (dropped, expired_) = (desk.call_at("a", 1, MINUTE), desk.call_at("b", 2, 100));
        assert_eq!(desk.leave(dropped), Vacancy::Now);
        desk.until(100).unwrap();
        assert_eq!(desk.answer(expired_), expired(false, Vacancy::Now));
        assert!(desk.sent().is_empty(), "never");
        assert!(desk.vacated().is_empty() && desk.foreign.owed.awaits_nothing());
    }
}

#[test]
fn a_call_of_which_a_byte_may_have_left_is_not_called_unsent() {
    let mut desk = desk(silent(IN_ORDER));
    let name = desk.call_at("a", 1, 100);
    // Handed over, and not a byte accepted.
    desk.write(0);
    desk.until(100).unwrap();
    assert_eq!(desk.answer(name), expired(true, Vacancy::Later));
    assert_eq!(desk.bodies(), ["a"]);
}

#[test]
fn the_answer_to_an_abandoned_call_is_thrown_away_and_the_next_gets_its_own() {
    let mut desk = desk(silent(IN_ORDER));
    let names = [1, 2, 3].map(|slot| desk.sent_call(&format!("call {slot}"), slot, MINUTE));
    assert_eq!(desk.leave(names[0]), Vacancy::Later);
    assert_eq!(desk.leave(names[1]), Vacancy::Later);
    desk.hear(&["rone"]).unwrap();
    assert_eq!(desk.vacated(), [1]);
    desk.hear(&["e", "rthree"]).unwrap();
    assert_eq!(desk.vacated(), [2]);
    assert_eq!(desk.answer(names[2]), reply("three"));
}

#[test]
fn in_order_answers_that_nobody_waits_for_and_that_do_not_come_cost_the_connection() {
    for dialect in [silent(IN_ORDER), pinging(IN_ORDER)] {
        let mut desk = desk(dialect);
        let first = desk.sent_call("a", 1, 100);
        desk.sent_call("b", 2, 10 * MINUTE);
        desk.until(100).unwrap();
        assert_eq!(desk.answer(first), expired(true, Vacancy::Later));
        desk.until(BOUND + 99).unwrap();
        let unanswered = LossCause::Unanswered { calls: 1, silent_for: ms(BOUND) };
        assert_eq!(desk.until(MINUTE), Err(unanswered));
        assert_eq!(desk.now, BOUND + 100);
        desk.lose();
        assert_eq!(desk.vacated(), [1]);
    }
}

#[test]
fn in_order_a_server_that_says_anything_is_at_work() {
    let mut desk = desk(silent(IN_ORDER));
    let name = desk.sent_call("a", 1, MINUTE);
    desk.leave(name);
    for _ in 0..10 {
        desk.until(desk.now + BOUND - 1).unwrap();
        desk.hear(&["!push"]).unwrap();
    }
    assert!(desk.until(desk.now + BOUND).is_err());
}

#[test]
fn nobody_is_hurried_who_has_a_caller_that_waits() {
    let mut desk = desk(silent(IN_ORDER));
    let name = desk.sent_call("slow", 1, 60 * MINUTE);
    desk.until(59 * MINUTE).unwrap();
    desk.hear(&["rdone"]).unwrap();
    assert_eq!(desk.answer(name), reply("done"));
}

/// What a hook has left unanswered has no place, but its answer has its turn.
#[test]
fn in_order_calls_wait_for_what_a_hook_has_left_unanswered() {
    let mut desk = desk(silent(Matching::InOrder { pipeline: 1 }));
    let left = desk.sent_call("hook", 0, MINUTE);
    desk.leave(left);
    let name = desk.call("a");
    assert!(desk.sent().is_empty(), "a pipeline of one");
    desk.hear(&["rhook"]).unwrap();
    assert_eq!(desk.bodies(), ["a"]);
    desk.hear(&["rA"]).unwrap();
    assert_eq!(desk.answer(name), reply("A"));
}
