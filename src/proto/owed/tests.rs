//! Who is owed an answer, in order and by id, and what becomes of answers that do not come.

#![allow(clippy::disallowed_methods)]

use super::*;

const IN_ORDER: Matching = Matching::InOrder { pipeline: 8 };
const BY_ID: Matching = Matching::ById { min: 0, max: 100 };
/// In milliseconds, as all times here.
const BOUND: u64 = 1000;

/// What a server owes, and a time that counts from 0.
struct Book {
    owed: Owed,
    start: Instant,
}

fn book(matching: Matching) -> Book {
    Book { owed: Owed::new(matching), start: Instant::now() }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn place(slot: usize) -> Place {
    Place::example(slot)
}

/// The name of the call with an id: never the same number, so that none is taken for the other.
fn name(id: u64) -> Name {
    Name(id + 1000)
}

impl Book {
    fn queued(&mut self, id: u64) {
        self.owed.queued(Id(id), name(id), Some(place(id as usize)));
    }

    /// These calls are sent, in this order.
    fn called(&mut self, ids: &[u64]) {
        for id in ids {
            self.queued(*id);
            assert!(self.owed.went_out(Id(*id), name(*id)));
        }
    }

    fn abandon(&mut self, at: u64, id: u64) {
        self.owed.abandon(self.start + ms(at), Id(id), name(id));
    }

    /// Asks at this time, with the last bytes heard at another.
    fn overdue(&mut self, at: u64, heard: u64) -> Overdue {
        self.owed.overdue(self.start + ms(at), self.start + ms(heard), ms(BOUND))
    }

    /// When it should be asked.
    fn due(&self, heard: u64) -> Option<u64> {
        let due = self.owed.next_deadline(self.start + ms(heard), ms(BOUND))?;
        Some((due - self.start).as_millis() as u64)
    }

    /// Whose debt the next answer has paid.
    fn next(&mut self) -> Result<u64, Violation> {
        let id = self.owed.whose(To::Oldest)?;
        self.owed.paid(id);
        Ok(id.0)
    }
}

#[test]
fn in_order_the_oldest_request_that_is_out_is_answered() {
    let mut book = book(IN_ORDER);
    for id in [1, 2, 3] {
        book.queued(id);
    }
    assert_eq!(book.next(), Err(Violation::Unasked), "nothing is out");
    // In the order in which they go out, not in which they were queued.
    for id in [3, 1] {
        assert!(book.owed.went_out(Id(id), name(id)));
    }
    assert_eq!(book.owed.in_turn(), 2);
    assert_eq!([book.next(), book.next()], [Ok(3), Ok(1)]);
    assert_eq!(book.next(), Err(Violation::Unasked), "the third is not out");
    assert_eq!((book.owed.outstanding(), book.owed.in_turn()), (1, 0));
}

#[test]
fn by_id_any_request_that_is_out_is_answered() {
    let mut book = book(BY_ID);
    book.called(&[1, 2]);
    book.queued(3);
    assert_eq!(book.owed.whose(To::Id(2)), Ok(Id(2)));
    let nobody = |id| Err(Violation::ToNobody { name: "answer", id });
    assert_eq!(book.owed.whose(To::Id(3)), nobody(3), "it is not out");
    assert_eq!(book.owed.whose(To::Id(4)), nobody(4));
    book.owed.paid(Id(2));
    assert_eq!(book.owed.whose(To::Id(2)), nobody(2), "one answer each");
}

#[test]
fn an_answer_that_names_its_call_in_the_other_way_is_nobodys() {
    let mut in_order = book(IN_ORDER);
    in_order.called(&[1]);
    let nobody = Violation::ToNobody { name: "answer", id: 1 };
    assert_eq!(in_order.owed.whose(To::Id(1)), Err(nobody));
    let mut by_id = book(BY_ID);
    by_id.called(&[1]);
    assert_eq!(by_id.owed.whose(To::Oldest), Err(Violation::Unasked));
}

#[test]
fn an_abandoned_call_keeps_its_turn_its_id_and_its_place_until_its_answer_has_come() {
    for matching in [IN_ORDER, BY_ID] {
        let mut book = book(matching);
        book.called(&[1, 2]);
        book.abandon(0, 1);
        assert!(book.owed.is_taken(Id(1)));
        assert!(book.owed.parts(Id(1)).is_none(), "nobody waits");
        assert!(book.owed.parts(Id(2)).is_some());
        let to = if matching == IN_ORDER { To::Oldest } else { To::Id(1) };
        assert_eq!(book.owed.whose(to), Ok(Id(1)));
        let Some(Debt::Abandoned { place: Some(kept), .. }) = book.owed.paid(Id(1)) else {
            panic!("its place is with it");
        };
        assert_eq!(kept, place(1));
        assert!(!book.owed.is_taken(Id(1)));
        assert_eq!(book.due(0), None, "nothing is awaited for nobody");
    }
}

#[test]
fn who_has_another_name_is_not_meant() {
    let mut book = book(BY_ID);
    book.queued(1);
    // Ids are few: a notification, or a call of the past, has led to the same.
    assert!(!book.owed.went_out(Id(1), Name(7)));
    book.owed.withdrawn(Id(1), Name(7));
    assert!(book.owed.is_taken(Id(1)));
    assert!(book.owed.went_out(Id(1), name(1)));
    book.owed.abandon(book.start, Id(1), Name(7));
    book.owed.withdrawn(Id(1), name(1));
    let Some(Debt::Called { name: called, .. }) = book.owed.paid(Id(1)) else {
        panic!("what is out cannot be withdrawn");
    };
    assert_eq!(called, name(1));
}

#[test]
fn a_withdrawn_request_owes_nothing() {
    for matching in [IN_ORDER, BY_ID] {
        let mut book = book(matching);
        book.queued(1);
        book.owed.withdrawn(Id(1), name(1));
        assert!(book.owed.awaits_nothing() && !book.owed.is_taken(Id(1)));
        assert!(!book.owed.went_out(Id(1), name(1)));
        assert_eq!(book.owed.in_turn(), 0);
    }
}

#[test]
fn in_order_a_silence_after_the_first_was_abandoned_is_overdue() {
    let mut book = book(IN_ORDER);
    book.called(&[1, 2, 3]);
    assert_eq!(book.due(0), None, "who waits has a deadline of its own");
    book.abandon(100, 2);
    book.abandon(300, 1);
    assert_eq!(book.due(0), Some(100 + BOUND));
    // Whatever came shows that the server is at work on what is before it.
    assert_eq!(book.due(200), Some(200 + BOUND));
    assert_eq!(book.overdue(200 + BOUND - 1, 200), Overdue::No);
    let unanswered = Overdue::Unanswered { calls: 2, silent_for: ms(BOUND + 5) };
    assert_eq!(book.overdue(200 + BOUND + 5, 200), unanswered);
}

#[test]
fn by_id_an_answer_is_written_off_whatever_else_comes() {
    let mut book = book(BY_ID);
    book.called(&[1, 2, 3, 4]);
    for (at, id) in [(100, 2), (200, 1), (300, 3)] {
        book.abandon(at, id);
    }
    assert_eq!(book.due(1000), Some(100 + BOUND), "other answers tell nothing of this one");
    assert_eq!(book.overdue(99 + BOUND, 1000), Overdue::No);
    assert_eq!(book.overdue(250 + BOUND, 1000), Overdue::WrittenOff(vec![place(2), place(1)]));
    assert_eq!((book.owed.written_off(), book.owed.outstanding()), (2, 2));
    assert!(book.owed.is_taken(Id(1)), "the answer may come");
    assert_eq!(book.due(1000), Some(300 + BOUND));
    // It has come, late: nobody holds a place for it any more.
    assert_eq!(book.owed.whose(To::Id(1)), Ok(Id(1)));
    assert_eq!(book.owed.paid(Id(1)), Some(Debt::WrittenOff));
    assert_eq!((book.owed.written_off(), book.owed.is_taken(Id(1))), (1, false));
}

#[test]
fn a_call_that_was_abandoned_first_and_answered_does_not_count_any_more() {
    let mut book = book(BY_ID);
    book.called(&[1, 2, 3]);
    for (at, id) in [(100, 1), (200, 2), (300, 3)] {
        book.abandon(at, id);
    }
    book.owed.paid(Id(2));
    assert_eq!(book.due(0), Some(100 + BOUND));
    book.owed.paid(Id(1));
    assert_eq!(book.due(0), Some(300 + BOUND));
    // Its id is another call's by now, which was abandoned later.
    book.called(&[2]);
    book.abandon(400, 2);
    assert_eq!(book.overdue(300 + BOUND, 0), Overdue::WrittenOff(vec![place(3)]));
    assert_eq!(book.due(0), Some(400 + BOUND));
}

#[test]
fn an_id_that_is_abandoned_twice_is_written_off_for_the_second_time_only() {
    let mut book = book(BY_ID);
    book.called(&[1, 2]);
    book.abandon(0, 1);
    book.abandon(100, 2);
    book.owed.paid(Id(2));
    book.called(&[2]);
    book.abandon(500, 2);
    assert_eq!(book.overdue(BOUND, 0), Overdue::WrittenOff(vec![place(1)]));
    assert_eq!(book.due(0), Some(500 + BOUND));
    assert_eq!(book.overdue(500 + BOUND, 0), Overdue::WrittenOff(vec![place(2)]));
    assert_eq!((book.due(0), book.owed.written_off()), (None, 2));
}

#[test]
fn a_timer_that_is_late_earns_grace_twice() {
    for matching in [IN_ORDER, BY_ID] {
        let mut book = book(matching);
        book.called(&[1, 2]);
        book.abandon(0, 1);
        let mut now = 0;
        for _ in 0..GRACES {
            // More than a quarter of the bound: it was us who slept.
            now += BOUND + BOUND / 4 + 1;
            assert_eq!(book.overdue(now, 0), Overdue::No, "{matching:?} at {now}");
            assert_eq!(book.due(0), Some(now + BOUND), "it counts anew");
        }
        now += BOUND + BOUND / 4 + 1;
        assert_ne!(book.overdue(now, 0), Overdue::No, "{matching:?}: not for ever");
    }
}

#[test]
fn a_timer_that_is_a_little_late_earns_none() {
    let mut book = book(IN_ORDER);
    book.called(&[1]);
    book.abandon(0, 1);
    assert_ne!(book.overdue(BOUND + BOUND / 4, 0), Overdue::No);
}

#[test]
fn an_answer_to_an_abandoned_call_gives_the_grace_back() {
    let mut book = book(IN_ORDER);
    book.called(&[1, 2]);
    book.abandon(0, 1);
    book.abandon(0, 2);
    let late = BOUND + BOUND / 4 + 1;
    assert_eq!(book.overdue(late, 0), Overdue::No);
    assert_eq!(book.overdue(2 * late, 0), Overdue::No);
    assert_eq!(book.next(), Ok(1));
    assert_eq!(book.overdue(3 * late, 0), Overdue::No);
}

#[test]
fn a_ping_has_its_turn_or_its_id_and_is_none_of_the_calls() {
    let mut in_order = book(IN_ORDER);
    in_order.owed.pinged(Id(u64::MAX));
    in_order.called(&[1]);
    assert!(in_order.owed.is_pinged());
    assert_eq!((in_order.owed.taken(), in_order.owed.outstanding()), (1, 2));
    assert_eq!(in_order.owed.whose(To::Oldest), Ok(Id(u64::MAX)));
    assert_eq!(in_order.owed.paid(Id(u64::MAX)), Some(Debt::Ping));
    assert!(!in_order.owed.is_pinged());
    assert_eq!(in_order.next(), Ok(1));

    let mut by_id = book(BY_ID);
    by_id.owed.pinged(Id(100));
    assert_eq!(by_id.owed.whose(To::Id(100)), Ok(Id(100)));
    by_id.owed.paid(Id(100));
    assert!(by_id.owed.awaits_nothing() && !by_id.owed.is_pinged());
}

#[test]
fn a_pong_without_a_turn_takes_that_of_the_ping_away() {
    let mut book = book(IN_ORDER);
    book.called(&[1]);
    book.owed.pinged(Id(u64::MAX));
    book.called(&[2]);
    book.owed.pong();
    book.owed.pong();
    assert_eq!([book.next(), book.next()], [Ok(1), Ok(2)]);
    assert!(book.owed.awaits_nothing());
}

#[test]
fn the_dead_owe_nothing_and_give_back_the_places_that_nobody_else_will() {
    for matching in [IN_ORDER, BY_ID] {
        let mut book = book(matching);
        book.owed.pinged(Id(100));
        book.called(&[1, 2, 3, 4]);
        book.queued(5);
        book.abandon(0, 1);
        book.abandon(500, 3);
        let mut written_off = Vec::new();
        if let Overdue::WrittenOff(places) = book.overdue(BOUND, 0) {
            written_off = places;
        }
        let mut vacated = book.owed.die();
        vacated.extend(written_off);
        vacated.sort_by_key(|place| place.slot);
        assert_eq!(vacated, [place(1), place(3)], "{matching:?}: each once");
        assert_eq!((book.due(0), book.owed.outstanding(), book.owed.in_turn()), (None, 0, 0));
        assert!(!book.owed.is_pinged());
        assert!(book.owed.die().is_empty());
    }
}
