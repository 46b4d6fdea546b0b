//! Whose answer a frame is, and what the caller gets.

use super::*;

#[test]
fn in_order_each_call_gets_the_answer_of_its_turn() {
    let mut desk = desk(silent(IN_ORDER));
    let names = ["a", "b", "c"].map(|body| desk.call(body));
    assert_eq!(desk.bodies(), ["a", "b", "c"]);
    desk.hear(&["rA", "rB"]).unwrap();
    assert_eq!(names.map(|name| desk.answer(name)), [reply("A"), reply("B"), None]);
    desk.hear(&["rC"]).unwrap();
    assert_eq!(desk.answer(names[2]), reply("C"));
}

#[test]
fn in_order_a_short_request_does_not_overtake_a_long_one() {
    let mut desk = desk(silent(IN_ORDER));
    let long = "x".repeat(60_000);
    let names = ["a", &*long, "c"].map(|body| desk.call(body));
    assert_eq!(desk.bodies(), ["a", &*long, "c"]);
    desk.hear(&["rA", "rX", "rC"]).unwrap();
    assert_eq!(names.map(|name| desk.answer(name)), [reply("A"), reply("X"), reply("C")]);
}

#[test]
fn by_id_answers_come_in_any_order() {
    let mut desk = desk(silent(BY_ID));
    let names = ["a", "b", "c"].map(|body| desk.call(body));
    let ids: Vec<_> = desk.sent().into_iter().map(|seen| seen.id).collect();
    for (at, body) in [(2, "C"), (0, "A"), (1, "B")] {
        desk.hear_id(b'r', ids[at], body).unwrap();
    }
    assert_eq!(names.map(|name| desk.answer(name)), [reply("A"), reply("B"), reply("C")]);
}

#[test]
fn an_answer_that_comes_while_its_request_is_still_being_written_is_its_answer() {
    let mut desk = desk(silent(IN_ORDER));
    let long = "x".repeat(60_000);
    let (first, second) = (desk.call(&long), desk.call("b"));
    desk.write(10);
    desk.hear(&["rtoo long"]).unwrap();
    assert_eq!(desk.answer(first), reply("too long"));
    // The rest goes out all the same: behind half a frame the server would not understand the next one.
    assert_eq!(desk.write(usize::MAX).len(), 2 + 60_000 - 10 + 3);
    desk.hear(&["rB"]).unwrap();
    assert_eq!(desk.answer(second), reply("B"));
}

#[test]
fn parts_make_one_answer() {
    let mut desk = desk(silent(BY_ID));
    let names = ["a", "b"].map(|body| desk.call(body));
    let ids: Vec<_> = desk.sent().into_iter().map(|seen| seen.id).collect();
    for (kind, at, body) in
        [(b'p', 0, "one "), (b'p', 1, "eins "), (b'p', 0, "two "), (b'r', 1, "zwei")]
    {
        desk.hear_id(kind, ids[at], body).unwrap();
    }
    assert_eq!(names.map(|name| desk.answer(name)), [None, reply("eins zwei")]);
    desk.hear_id(b'r', ids[0], "three").unwrap();
    assert_eq!(desk.answer(names[0]), reply("one two three"));
}

#[test]
fn parts_are_together_as_long_as_an_answer_may_be_and_not_longer() {
    for (last, kind) in [(b'r', "the last part"), (b'p', "another part")] {
        for (more, fits) in [(0, true), (1, false)] {
            let mut desk = desk(silent(BY_ID));
            let name = desk.call("a");
            let id = desk.sent()[0].id;
            desk.hear_id(b'p', id, &"x".repeat(LIMIT / 2)).unwrap();
            let rest = "x".repeat(LIMIT / 2 + more);
            let expected = match fits {
                true => Ok(()),
                false => {
                    Err(Violation::MessageTooLong { length: LIMIT as u64 + 1, limit: LIMIT as u64 }
                        .into())
                }
            };
            assert_eq!(desk.hear_id(last, id, &rest), expected, "{kind}, {more} too many");
            if let (true, Some(Answer::Reply(body))) = (fits, desk.answer(name)) {
                assert_eq!(body.len(), LIMIT);
            }
        }
    }
}

#[test]
fn parts_for_nobody_are_not_kept() {
    let mut desk = desk(silent(IN_ORDER));
    let first = desk.sent_call("a", 1, MINUTE);
    let second = desk.sent_call("b", 2, MINUTE);
    desk.hear(&["phalf"]).unwrap();
    assert_eq!(desk.kept([first, second]), [Some(4), Some(0)]);
    desk.leave(first);
    assert_eq!(desk.kept([first, second]), [None, Some(0)]);
    // As much as it likes: nobody holds it, so there is no limit.
    let part = format!("p{}", "x".repeat(LIMIT / 2));
    desk.hear(&[&part, &part, &part]).unwrap();
    assert_eq!(desk.kept([first, second]), [None, Some(0)]);
    desk.hear(&["rrest", "rB"]).unwrap();
    assert_eq!(desk.answer(second), reply("B"));
}

#[test]
fn the_servers_errors_and_refusals_are_the_callers() {
    for matching in [IN_ORDER, BY_ID] {
        let mut desk = desk(silent(matching));
        let names = ["a", "b"].map(|body| desk.call(body));
        let ids: Vec<_> = desk.sent().into_iter().map(|seen| seen.id).collect();
        match matching {
            Matching::InOrder { .. } => desk.hear(&["e", "x"]).unwrap(),
            Matching::ById { .. } => {
                desk.hear_id(b'e', ids[0], "").unwrap();
                desk.hear_id(b'x', ids[1], "").unwrap();
            }
        }
        let error = Answer::Error(ErrorReply::new(404, "no"));
        let refused = Answer::Refused(refusal());
        assert_eq!(names.map(|name| desk.answer(name)), [Some(error), Some(refused)]);
    }
}

#[test]
fn an_error_ends_an_answer_that_has_come_in_part() {
    let mut desk = desk(silent(IN_ORDER));
    let names = ["a", "b"].map(|body| desk.sent_call(body, 0, MINUTE));
    desk.hear(&["phalf", "e", "rB"]).unwrap();
    let error = Answer::Error(ErrorReply::new(404, "no"));
    assert_eq!(names.map(|name| desk.answer(name)), [Some(error), reply("B")]);
}

#[test]
fn pushes_are_nobodys_answer() {
    let mut desk = desk(silent(IN_ORDER));
    desk.hear(&["!idle"]).unwrap();
    let name = desk.sent_call("a", 0, MINUTE);
    desk.hear(&["!busy", ".", "rA"]).unwrap();
    assert_eq!(desk.answer(name), reply("A"));
    let pushes: Vec<_> = desk.effects.events.drain(..).collect();
    let [Event::Push(idle), Event::Push(busy)] = &pushes[..] else { panic!("{pushes:?}") };
    assert_eq!((&idle[..], &busy[..]), (&b"idle"[..], &b"busy"[..]));
}

#[test]
fn a_server_that_goes_away_answers_what_is_out_and_gets_no_more() {
    let mut desk = desk(silent(IN_ORDER));
    let out = desk.sent_call("a", 0, MINUTE);
    let queued = desk.call("b");
    let notification = desk.notify("c");
    desk.hear(&["g"]).unwrap();
    let goodbye = GoAway {
        code: GoAway::CLOSING,
        accepted: 1,
        retry_after: Some(ms(70)),
        text: "closing".into(),
    };
    let sent_away = || Some(Answer::SentAway { goodbye: goodbye.clone(), sent: false });
    assert_eq!([queued, notification].map(|name| desk.answer(name)), [sent_away(), sent_away()]);
    let [Event::GoAway(told)] = &desk.effects.events[..] else { panic!("no goodbye") };
    assert_eq!(*told, goodbye);
    assert!(desk.bodies().is_empty());
    let kind = Kind::Request { repeatable: false, resent: false };
    assert_eq!(desk.begin(kind, "d", 0, MINUTE), Err(NotTaken::Gone(None)));
    assert!(!desk.foreign.is_finished(), "an answer is outstanding");
    desk.hear(&["rA"]).unwrap();
    assert_eq!(desk.answer(out), reply("A"));
    assert!(desk.foreign.is_finished());
}

#[test]
fn a_notification_is_written_and_not_answered() {
    let mut desk = desk(silent(IN_ORDER));
    let (note, call) = (desk.notify("n"), desk.call("a"));
    let whole = 2 + "note n".len();
    desk.write(whole - 1);
    assert_eq!(desk.answer(note), None);
    desk.write(1);
    assert_eq!(desk.answer(note), Some(Answer::Written));
    assert_eq!(desk.bodies(), ["a"]);
    desk.hear(&["rA"]).unwrap();
    assert_eq!(desk.answer(call), reply("A"));
    assert!(!desk.foreign.calls.awaits_writing());
}

#[test]
fn a_notification_that_is_dropped_in_time_never_goes_out_and_owes_nothing_either_way() {
    let mut desk = desk(silent(IN_ORDER));
    let early = desk.notify("early");
    assert_eq!(desk.leave(early), Vacancy::Now);
    assert!(desk.bodies().is_empty());
    let late = desk.notify("late");
    desk.write(3);
    assert_eq!(desk.leave(late), Vacancy::Now);
    desk.write(usize::MAX);
    assert!(!desk.foreign.calls.awaits_writing() && desk.foreign.owed.awaits_nothing());
    let expired = desk.begin(Kind::Notification, "expired", 0, 100).unwrap();
    desk.write(3);
    desk.until(100).unwrap();
    let answer = Answer::Expired { sent: true, stage: Stage::Sending, vacancy: Vacancy::Now };
    assert_eq!(desk.answer(expired), Some(answer));
}

#[test]
fn in_order_a_push_may_come_in_pieces_but_what_began_unasked_is_no_answer() {
    let pushing = Plain { has_pushes: true, ..silent(IN_ORDER) };
    let mut desk = desk(pushing);
    desk.hear_bytes(&[0, 3, b'!']).unwrap();
    let name = desk.sent_call("a", 0, MINUTE);
    desk.hear_bytes(b"up").unwrap();
    desk.hear(&["rA"]).unwrap();
    assert_eq!(desk.answer(name), reply("A"));
    assert!(matches!(&desk.effects.events[..], [Event::Push(body)] if body == "up"));

    let mut desk = self::desk(pushing);
    desk.hear_bytes(&[0, 3, b'r']).unwrap();
    let name = desk.sent_call("a", 0, MINUTE);
    assert_eq!(desk.hear_bytes(b"no"), Err(Violation::Unasked.into()));
    assert_eq!(desk.answer(name), None);
}

#[test]
fn in_order_what_began_unasked_is_no_answer_in_however_many_pieces_it_comes() {
    let mut desk = desk(Plain { has_pushes: true, ..silent(IN_ORDER) });
    desk.hear_bytes(&[0, 3, b'r']).unwrap();
    let name = desk.sent_call("a", 0, MINUTE);
    desk.hear_bytes(b"n").unwrap();
    assert_eq!(desk.hear_bytes(b"o"), Err(Violation::Unasked.into()));
    assert_eq!(desk.answer(name), None);
}
