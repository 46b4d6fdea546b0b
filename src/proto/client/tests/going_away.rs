//! What becomes of calls when the server goes away.

use super::*;

fn accepted(accepted: u64) -> GoAway {
    GoAway { code: GoAway::CLOSING, accepted, retry_after: None, text: "".into() }
}

#[test]
fn a_goodbye_keeps_what_the_server_accepted_and_sends_the_rest_away() {
    let mut desk = desk();
    (1..=3).for_each(|id| desk.request(id, "body"));
    desk.sent();
    desk.request(4, "not even sent");
    desk.notify(5, "note");
    desk.hear(&[Frame::GoAway(accepted(2))]).unwrap();
    assert_eq!((desk.answer(1), desk.answer(2)), (None, None));
    for (id, sent) in [(3, true), (4, false), (5, false)] {
        assert_eq!(desk.answer(id), Some(Answer::SentAway { goodbye: accepted(2), sent }));
    }
    let kind = Kind::Request { repeatable: false, resent: false };
    assert_eq!(desk.start(6, kind, &Bytes::new(), MINUTE), Err(NotTaken::Gone(None)));
    assert_eq!(desk.sent(), []);
    desk.hear(&[reply(2, "two")]).unwrap();
    assert!(!desk.client.is_finished());
    desk.hear(&[reply(1, "one")]).unwrap();
    assert!(desk.client.is_finished());
}

#[test]
fn a_notification_that_had_begun_to_go_out_is_taken_back_so_that_the_server_does_not_wait_for_the_rest()
 {
    let mut desk = desk();
    desk.notify(1, vec![0; 8 * MAX_PART]);
    // Handed over, and on its way.
    desk.write(0);
    desk.hear(&[Frame::GoAway(accepted(0))]).unwrap();
    assert_eq!(desk.answer(1), Some(Answer::SentAway { goodbye: accepted(0), sent: false }));
    assert_eq!(ids(&desk.sent()).last(), Some(&("CANCEL", 1)));
}

#[test]
fn what_a_server_accepted_is_counted_in_the_order_in_which_it_saw_the_requests() {
    // The first never left: the server's first is the second.
    let mut desk = desk();
    (1..=3).for_each(|id| desk.request(id, "body"));
    desk.client.abandon(1);
    assert_eq!(ids(&desk.sent()), [("REQUEST", 2), ("REQUEST", 3)]);
    desk.hear(&[Frame::GoAway(accepted(1))]).unwrap();
    assert_eq!(desk.answer(2), None);
    assert_eq!(desk.answer(3), Some(Answer::SentAway { goodbye: accepted(1), sent: true }));

    // Small ones overtake long ones.
    let mut desk = self::desk();
    for id in 1..=6 {
        desk.request(id, vec![0; 4 * MAX_PART]);
    }
    desk.request(7, "small");
    let order: Vec<_> =
        desk.sent().iter().filter(|frame| frame.name() == "REQUEST").map(id).collect();
    assert_eq!(order, [7, 1, 2, 3, 4, 5, 6]);
    desk.hear(&[Frame::GoAway(accepted(1))]).unwrap();
    assert_eq!(desk.answer(7), None);
    assert_eq!(desk.answer(1), Some(Answer::SentAway { goodbye: accepted(1), sent: true }));

    // One that was taken back after it had begun counts.
    let mut desk = self::desk();
    desk.request(1, vec![0; 8 * MAX_PART]);
    desk.write(10);
    desk.client.abandon(1);
    desk.request(2, "small");
    desk.write(usize::MAX);
    desk.hear(&[Frame::GoAway(accepted(1))]).unwrap();
    assert_eq!(desk.answer(2), Some(Answer::SentAway { goodbye: accepted(1), sent: false }));
}

#[test]
fn a_goodbye_for_a_violation_is_the_end() {
    let mut desk = desk();
    desk.request(1, "body");
    desk.sent();
    let goodbye = GoAway { code: GoAway::VIOLATION, ..accepted(0) };
    let heard = desk.hear(&[Frame::GoAway(goodbye.clone())]);
    assert_eq!(heard, Err(LossCause::SentAway(goodbye)));
    assert_eq!(desk.answer(1), None, "settled by the loss, not before");
}
