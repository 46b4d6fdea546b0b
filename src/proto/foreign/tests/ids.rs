//! Few ids: they come round while some are in use.

use super::*;
use crate::proto::ids::Ids;

const FEW: Matching = Matching::ById { min: 0, max: 3 };

#[test]
fn an_id_is_not_used_again_while_its_answer_is_outstanding() {
    let mut desk = desk(silent(FEW));
    let abandoned = desk.sent_call("abandoned", 1, MINUTE);
    desk.leave(abandoned);
    for round in 0..10 {
        let name = desk.call(&format!("call {round}"));
        let id = desk.sent()[0].id;
        assert_ne!(id, 0, "that is the abandoned one's");
        desk.hear_id(b'r', id, "mine").unwrap();
        assert_eq!(desk.answer(name), reply("mine"));
    }
    desk.hear_id(b'r', 0, "not mine").unwrap();
    let ids: Vec<_> = (0..3)
        .map(|_| {
            desk.call("again");
            desk.sent()[0].id
        })
        .collect();
    assert!(ids.contains(&0), "it has come back: {ids:?}");
}

/// The caller of the first has not looked yet when the second gets the same id.
#[test]
fn an_answer_that_nobody_has_fetched_yet_is_not_overwritten_by_the_next_call_with_its_id() {
    let mut desk = desk(silent(FEW));
    let slow = desk.call("slow to look");
    desk.sent();
    desk.hear_id(b'r', 0, "first").unwrap();
    let others = ["b", "c", "d"].map(|body| desk.call(body));
    for Seen { id, body } in desk.sent() {
        desk.hear_id(b'r', id, &body).unwrap();
    }
    assert_eq!(desk.answer(slow), reply("first"));
    assert_eq!(others.map(|name| desk.answer(name)), [reply("b"), reply("c"), reply("d")]);
}

#[test]
fn a_notification_takes_no_id_and_gives_none_back() {
    let mut desk = desk(silent(FEW));
    let names = ["a", "b", "c"].map(|body| desk.call(body));
    let notes = ["d", "e", "f"].map(|body| desk.notify(body));
    // Its name leads to an id that is a call's.
    assert_eq!(desk.leave(notes[0]), Vacancy::Now);
    let seen = desk.sent();
    assert_eq!(seen.len(), 5);
    desk.leave(notes[1]);
    for Seen { id, body } in seen.into_iter().take(3) {
        desk.hear_id(b'r', id, &body).unwrap();
    }
    assert_eq!(names.map(|name| desk.answer(name)), [reply("a"), reply("b"), reply("c")]);
    assert_eq!(desk.answer(notes[2]), Some(Answer::Written));
}

#[test]
fn a_notification_that_is_dropped_on_its_way_takes_no_part_of_anothers_answer_with_it() {
    let mut desk = desk(silent(FEW));
    let names = ["a", "b", "c"].map(|body| desk.call(body));
    // Its name leads to the id of the first call.
    let note = desk.notify("d");
    // All but its last byte is accepted: two of length and id each, and a letter, or "note d".
    let mut bytes = desk.write(3 * 5 + 7);
    let seen = seen(FEW, &mut bytes);
    desk.hear_id(b'p', seen[0].id, "one ").unwrap();
    assert_eq!(desk.leave(note), Vacancy::Now);
    desk.hear_id(b'r', seen[0].id, "two").unwrap();
    assert_eq!(desk.answer(names[0]), reply("one two"));
}

#[test]
fn there_are_more_ids_than_places() {
    for (max, places, spare) in [
        (1, 1, 0),
        (3, 3, 0),
        (255, 224, 31),
        (65_535, 61_439, 4096),
        (u64::MAX, usize::MAX - 4096, 4096),
    ] {
        let matching = Matching::ById { min: 0, max };
        let ids = Ids::new(matching).unwrap();
        assert_eq!((ids.places(), ids.spare()), (places, spare), "{max}");
    }
}

#[test]
fn when_all_ids_are_in_use_a_call_fails_and_does_not_search_for_ever() {
    let mut desk = desk(silent(FEW));
    for body in ["a", "b", "c"] {
        desk.call(body);
    }
    let kind = Kind::Request { repeatable: false, resent: false };
    assert_eq!(desk.begin(kind, "d", 0, MINUTE), Err(NotTaken::NoId { limit: 3 }));
}

#[test]
fn answers_that_are_missing_for_good_are_borne_while_there_are_spare_ids() {
    let mut desk = desk(silent(Matching::ById { min: 0, max: 16 }));
    for slot in 1..=2 {
        let name = desk.sent_call("lost", slot, MINUTE);
        desk.leave(name);
    }
    desk.until(BOUND - 1).unwrap();
    assert!(desk.vacated().is_empty());
    desk.until(BOUND).unwrap();
    assert_eq!(desk.vacated(), [1, 2], "others may have their places, not their ids");
    let names: Vec<_> = (0..14).map(|_| desk.call("others")).collect();
    let ids: Vec<_> = desk.sent().into_iter().map(|seen| seen.id).collect();
    assert!(!ids.contains(&0) && !ids.contains(&1), "{ids:?}");
    // It comes all the same, and is nobody's.
    desk.hear_id(b'r', 1, "late").unwrap();
    assert!(desk.vacated().is_empty());
    desk.leave(names[0]);
    desk.leave(names[1]);
    let unanswered = LossCause::Unanswered { calls: 3, silent_for: ms(BOUND) };
    assert_eq!(desk.until(2 * BOUND), Err(unanswered), "one more than there are spare ids");
}

#[test]
fn ids_are_between_the_least_and_the_greatest_which_is_the_pings() {
    let dialect = pinging(Matching::ById { min: 5, max: 8 });
    let mut desk = desk(dialect);
    for round in [[5, 6], [7, 5], [6, 7]] {
        for id in round {
            desk.call("a");
            assert_eq!(desk.sent(), [Seen { id, body: "a".into() }]);
            desk.hear_id(b'r', id, "A").unwrap();
        }
    }
    desk.until(EVERY).unwrap();
    assert_eq!(desk.sent(), [Seen { id: 8, body: "ping".into() }]);
    for (min, max) in [(5, 5), (5, 4), (u64::MAX, u64::MAX)] {
        let dialect = silent(Matching::ById { min, max });
        assert!(Speech::new(Box::new(dialect), LIMIT).is_err(), "{min}, {max}");
    }
}
