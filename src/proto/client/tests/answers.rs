//! What the server's answers do to calls: short and long, late, twice, to nobody.

use super::*;

#[test]
fn replies_settle_their_calls_in_any_order_and_wake_the_callers() {
    let mut desk = desk();
    (1..=3).for_each(|id| desk.request(id, "body"));
    assert_eq!(ids(&desk.sent()), [("REQUEST", 1), ("REQUEST", 2), ("REQUEST", 3)]);
    desk.hear(&[reply(3, "three"), reply(1, "one")]).unwrap();
    assert_eq!(desk.wakes(), 2);
    assert_eq!(desk.answer(1), Some(Answer::Reply("one".into())));
    assert_eq!(desk.answer(2), None);
    assert_eq!(desk.answer(3), Some(Answer::Reply("three".into())));
    desk.hear(&[Frame::Error { id: 2, code: 7, text: "no".into() }]).unwrap();
    assert_eq!(desk.answer(2), Some(Answer::Error(ErrorReply::new(7, "no"))));
    assert!(desk.client.is_empty());
}

#[test]
fn an_answer_that_is_late_or_comes_twice_changes_nothing() {
    let mut desk = desk();
    (1..=3).for_each(|id| desk.request(id, "body"));
    desk.sent();
    assert!(desk.client.abandon(1).is_some());
    let refused = Frame::Refused { id: 2, code: 1, retry_after: 5 };
    desk.hear(&[reply(1, "late"), reply(2, "first"), reply(2, "again"), refused]).unwrap();
    desk.hear(&[long_reply(2, "more"), rest(2, "and more"[..4].into()), reply(3, "three")])
        .unwrap();
    assert_eq!(desk.answer(2), Some(Answer::Reply("first".into())));
    assert_eq!(desk.answer(3), Some(Answer::Reply("three".into())));
    desk.hear(&[reply(2, "once more")]).unwrap();
    desk.sent();
    assert!(desk.client.is_empty());
}

#[test]
fn an_answer_to_nobody_breaks_the_protocol() {
    let none = || Frame::Error { id: 2, code: 1, text: "".into() };
    let refused = Frame::Refused { id: 2, code: 1, retry_after: 0 };
    for frame in [reply(2, "?"), long_reply(2, "?"), rest(2, "?"), none(), refused] {
        let mut desk = desk();
        desk.request(1, "body");
        desk.sent();
        let name = frame.name();
        let expected = Violation::ToNobody { name, id: 2 };
        assert_eq!(desk.hear(&[frame]), Err(expected.clone().into()));
        let Some(Frame::GoAway(goodbye)) = desk.sent().pop() else { panic!("no GOAWAY") };
        assert_eq!((goodbye.code, &*goodbye.text), (2, &*expected.to_string()));
    }
}

#[test]
fn an_answer_to_a_notification_is_ignored() {
    let mut desk = desk();
    desk.notify(1, vec![0; 400_000]);
    // Its beginning is handed over, and none of it is accepted.
    desk.write(0);
    let error = Frame::Error { id: 1, code: 7, text: "".into() };
    let refused = Frame::Refused { id: 1, code: 1, retry_after: 0 };
    desk.hear(&[reply(1, "?"), long_reply(1, "ab"), rest(1, "cd"), error, refused]).unwrap();
    assert_eq!(desk.answer(1), None);
    let mut sent = desk.sent().into_iter().map(|frame| frame.name());
    assert_eq!((sent.next(), sent.len()), (Some("NOTIFY"), 6));
    assert!(sent.all(|name| name == "CHUNK"), "it goes out whole");
    assert_eq!(desk.answer(1), Some(Answer::Written));
    assert!(desk.client.is_empty());
}

#[test]
fn a_long_reply_is_put_together_and_one_that_nobody_wants_is_not() {
    let mut desk = desk();
    (1..=2).for_each(|id| desk.request(id, "body"));
    desk.sent();
    desk.hear(&[long_reply(1, "ab"), long_reply(2, "AB")]).unwrap();
    desk.client.abandon(2);
    assert!(!desk.client.line.assembly.contains(2));
    desk.hear(&[rest(2, "CD"), rest(1, "cd")]).unwrap();
    assert_eq!(desk.answer(1), Some(Answer::Reply("abcd".into())));
    desk.sent();
    assert!(desk.client.is_empty());
}

#[test]
fn an_answer_ends_the_sending_of_a_long_request() {
    let mut desk = desk();
    desk.request(1, vec![0; 12 * MAX_PART]);
    let first_frame = 26 + 4 + MAX_PART;
    desk.write(first_frame);
    desk.hear(&[reply(1, "I have seen enough")]).unwrap();
    assert_eq!(desk.answer(1), Some(Answer::Reply("I have seen enough".into())));
    let rest = desk.sent();
    assert!(rest.len() < 6, "{} frames", rest.len());
    assert_eq!(ids(&rest[rest.len() - 1..]), [("CANCEL", 1)]);
}
