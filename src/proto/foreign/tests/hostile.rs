//! Servers that break the protocol, and dialects that break down.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::proto::input::Arrived;

#[test]
fn in_order_what_nobody_asked_for_is_a_violation_also_a_part_of_a_frame() {
    for bytes in [&frame(b"rhello")[..], &[0], &[0, 5, b'r']] {
        let mut desk = desk(silent(IN_ORDER));
        let name = desk.sent_call("a", 0, MINUTE);
        desk.hear(&["rA"]).unwrap();
        assert_eq!(desk.answer(name), reply("A"));
        assert_eq!(desk.hear_bytes(bytes), Err(Violation::Unasked.into()), "{bytes:?}");
    }
}

/// Else its rest would be taken for the answer to the request that is about to go out.
#[test]
fn in_order_a_part_of_a_frame_that_comes_before_the_request_has_left_is_a_violation() {
    let mut desk = desk(silent(IN_ORDER));
    let name = desk.call("queued");
    assert_eq!(desk.hear_bytes(&[0, 5, b'r']), Err(Violation::Unasked.into()));
    let loss = desk.lose();
    assert_eq!(desk.answer(name), Some(Answer::Lost { sent: false, loss }));
}

#[test]
fn in_order_a_second_answer_behind_the_first_is_a_violation_and_the_first_counts() {
    let mut desk = desk(silent(IN_ORDER));
    let name = desk.sent_call("a", 0, MINUTE);
    assert_eq!(desk.hear(&["rA", "rB"]), Err(Violation::Unasked.into()));
    assert_eq!(desk.answer(name), reply("A"));
}

#[test]
fn an_answer_to_nobody_is_a_violation() {
    let mut desk = desk(silent(BY_ID));
    desk.sent_call("a", 0, MINUTE);
    desk.call("queued");
    for id in [1, 2, 999, 1000, 60_000] {
        for kind in [b'r', b'p', b'e', b'x'] {
            let nobody = Violation::ToNobody { name: "answer", id };
            assert_eq!(desk.hear_id(kind, id, ""), Err(nobody.into()), "{id}");
        }
    }
}

#[test]
fn a_dialect_that_panics_over_a_frame_costs_the_connection_and_what_came_before_counts() {
    let mut desk = desk(silent(IN_ORDER));
    let names = ["a", "b"].map(|body| desk.sent_call(body, 0, MINUTE));
    assert_eq!(desk.hear(&["rA", "#", "rB"]), Err(LossCause::DialectPanicked));
    assert_eq!(names.map(|name| desk.answer(name)), [reply("A"), None]);
}

#[test]
fn frames_that_the_dialect_or_the_framing_cannot_read_end_the_connection() {
    let mut desk = desk(silent(BY_ID));
    let malformed = Violation::Malformed { what: "a test" };
    assert_eq!(desk.hear(&["?"]), Err(malformed.into()));
}

#[test]
fn a_violation_stops_what_waits_to_be_sent_in_the_same_turn() {
    let mut desk = desk(silent(IN_ORDER));
    let out = desk.sent_call("a", 0, MINUTE);
    let queued = desk.call("b");
    desk.notify("c");
    assert_eq!(desk.hear(&["?"]), Err(Violation::Malformed { what: "a test" }.into()));
    assert!(desk.sent().is_empty());
    let kind = Kind::Request { repeatable: false, resent: false };
    assert_eq!(desk.begin(kind, "d", 0, MINUTE), Err(NotTaken::Gone(None)));
    let loss = desk.lose();
    let lost = |sent| Some(Answer::Lost { sent, loss: loss.clone() });
    assert_eq!([out, queued].map(|name| desk.answer(name)), [lost(true), lost(false)]);
}

#[test]
fn a_dialect_that_panics_over_a_body_or_refuses_it_leaves_nothing_behind() {
    let mut desk = desk(silent(IN_ORDER));
    assert!(catch_unwind(AssertUnwindSafe(|| desk.call("panic"))).is_err());
    let kind = Kind::Request { repeatable: false, resent: false };
    let refused = NotTaken::Unsendable(Unsendable::Refused { why: "a test" });
    assert_eq!(desk.begin(kind, "unsendable", 0, MINUTE), Err(refused));
    assert!(desk.sent().is_empty() && desk.foreign.calls.is_empty());
    let name = desk.sent_call("a", 0, MINUTE);
    desk.hear(&["rA"]).unwrap();
    assert_eq!(desk.answer(name), reply("A"));
}

/// A body that tells when it is dropped: a dialect may return its own bytes, and their `Drop` is the user's code.
struct Told(Arc<std::sync::atomic::AtomicBool>);

impl AsRef<[u8]> for Told {
    fn as_ref(&self) -> &[u8] {
        b"body"
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn an_answer_for_nobody_is_not_dropped_under_the_lock() {
    for parts in [false, true] {
        let mut desk = desk(silent(IN_ORDER));
        let name = desk.sent_call("a", 0, MINUTE);
        desk.leave(name);
        let dropped = Arc::default();
        let body = Bytes::from_owner(Told(Arc::clone(&dropped)));
        let to = To::Oldest;
        let meaning = if parts { Meaning::Part { to, body } } else { Meaning::Reply { to, body } };
        let arrived = Arrived { frame: Bytes::new(), meaning: Some(meaning) };
        desk.input.frames.push_back(arrived);
        desk.foreign.received(desk.now(), &mut desk.input, &mut desk.effects).unwrap();
        let is_dropped = || dropped.load(std::sync::atomic::Ordering::Relaxed);
        assert!(!is_dropped(), "parts: {parts}");
        desk.effects.spent.clear();
        assert!(is_dropped());
    }
}

/// Answers to nobody, and what is thrown away because of what came before it.
#[test]
fn no_body_of_a_dialect_is_dropped_under_the_lock() {
    type Make = fn(Bytes) -> Meaning;
    let makes: [Make; 4] = [
        |body| Meaning::Reply { to: To::Oldest, body },
        |body| Meaning::Part { to: To::Oldest, body },
        |body| Meaning::Reply { to: To::Id(7), body },
        Meaning::Push,
    ];
    for (case, make) in makes.into_iter().enumerate() {
        for lent in [false, true] {
            let mut desk = desk(pinging(IN_ORDER));
            if lent {
                desk.until(EVERY).unwrap();
                desk.sent();
                desk.foreign.lend().unwrap();
                desk.input.lease = Some(1);
            }
            let dropped = Arc::default();
            let body = Bytes::from_owner(Told(Arc::clone(&dropped)));
            let arrived = Arrived { frame: Bytes::new(), meaning: Some(make(body)) };
            desk.input.frames.push_back(arrived);
            let _ = desk.foreign.received(desk.now(), &mut desk.input, &mut desk.effects);
            let is_dropped = dropped.load(std::sync::atomic::Ordering::Relaxed);
            assert!(!is_dropped, "case {case}, lent: {lent}");
        }
    }
}
