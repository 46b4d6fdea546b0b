//! Order, turns, and what of a message has left.

use super::*;
use crate::proto::frame::next_payload;
use crate::proto::head::Position;
use crate::proto::head::RequestHead;
use crate::proto::native::Frame;
use crate::proto::outgoing::handing::SHARE;

mod random;

fn reply(id: u64) -> Head {
    Head::Reply { id }
}

fn transmit(outgoing: &mut Outgoing) -> Vec<u8> {
    let mut out = VecDeque::new();
    outgoing.transmit(&mut out);
    out.iter().flatten().copied().collect()
}

/// Everything, as one who always accepts it all gets it.
fn drain(outgoing: &mut Outgoing) -> Vec<Frame> {
    let mut bytes = BytesMut::new();
    loop {
        let piece = transmit(outgoing);
        if piece.is_empty() {
            break;
        }
        outgoing.written(piece.len());
        bytes.extend_from_slice(&piece);
    }
    let mut frames = Vec::new();
    while let Some(payload) = next_payload(&mut bytes).unwrap() {
        frames.push(Frame::decode(payload).unwrap());
    }
    assert!(bytes.is_empty());
    frames
}

#[test]
fn a_message_is_sent_when_its_last_byte_was_accepted_and_not_before() {
    let mut outgoing = Outgoing::default();
    let first = outgoing.message(reply(1), &Bytes::from_static(b"one"));
    let second = outgoing.message(reply(2), &Bytes::from_static(b"two"));
    let bytes = transmit(&mut outgoing);
    for written in 0..=bytes.len() {
        assert_eq!(outgoing.is_sent(1, first), written >= 17, "{written}");
        assert_eq!(outgoing.is_sent(2, second), written >= 34, "{written}");
        if written < bytes.len() {
            outgoing.written(1);
        }
    }
    assert!(outgoing.is_empty());
}

#[test]
fn a_withdrawn_message_does_not_go_out_and_does_not_count() {
    let mut outgoing = Outgoing::default();
    let marks: Vec<_> =
        (1..=4).map(|id| outgoing.message(reply(id), &Bytes::from_static(b"body"))).collect();
    assert_eq!(outgoing.withdraw(3, marks[2]), Withdrawn::Unseen);
    assert_eq!(outgoing.withdraw(1, marks[0]), Withdrawn::Unseen);
    let bytes = transmit(&mut outgoing);
    assert_eq!(bytes.len(), 36);
    assert_eq!(outgoing.withdraw(2, marks[1]), Withdrawn::TooLate);
    outgoing.written(17);
    assert!(!outgoing.is_sent(2, marks[1]));
    outgoing.written(1);
    assert!(outgoing.is_sent(2, marks[1]));
    assert!(!outgoing.is_sent(4, marks[3]));
    outgoing.written(18);
    assert!(outgoing.is_sent(4, marks[3]));
}

#[test]
fn a_page_of_withdrawn_messages_only_leaves_nothing() {
    let mut outgoing = Outgoing::default();
    let mark = outgoing.message(reply(1), &Bytes::from_static(b"body"));
    outgoing.withdraw(1, mark);
    assert!(transmit(&mut outgoing).is_empty());
    assert!(outgoing.is_empty());
    assert_eq!(outgoing.queued_bytes(), 0);
}

#[test]
fn control_frames_overtake_and_long_messages_take_turns() {
    let mut outgoing = Outgoing::default();
    let long = Bytes::from(vec![0; 3 * MAX_PART]);
    outgoing.message(reply(1), &long);
    outgoing.message(reply(2), &long);
    outgoing.message(reply(3), &Bytes::from_static(b"small"));
    Frame::Ping { nonce: 0 }.encode(outgoing.control());
    let names: Vec<_> = drain(&mut outgoing)
        .iter()
        .map(|frame| match frame {
            Frame::Message { head, .. } => head.id(),
            Frame::Chunk { id, .. } => *id,
            _ => 0,
        })
        .collect();
    assert_eq!(names, [0, 3, 1, 2, 1, 2, 1, 2]);
    assert!(outgoing.is_empty());
    assert_eq!(outgoing.queued_bytes(), 0);
}

/// Whose it is.
fn id(frame: &Frame) -> u64 {
    match frame {
        Frame::Message { head, .. } => head.id(),
        Frame::Chunk { id, .. } => *id,
        _ => unreachable!(),
    }
}

/// Queues replies of so many bytes each, with ids from this one on.
fn queue(outgoing: &mut Outgoing, ids: Range<u64>, length: usize) -> Vec<Mark> {
    let body = Bytes::from(vec![0; length]);
    ids.map(|id| outgoing.message(reply(id), &body)).collect()
}

#[test]
fn pages_single_messages_and_parts_take_turns_while_all_three_wait() {
    let mut outgoing = Outgoing::default();
    queue(&mut outgoing, 30..31, 3 * MAX_PART);
    queue(&mut outgoing, 20..24, BY_REFERENCE);
    // Two pages, of four and two.
    queue(&mut outgoing, 10..16, BY_REFERENCE - 1);
    let order: Vec<_> = drain(&mut outgoing).iter().map(id).collect();
    assert_eq!(order, [10, 11, 12, 13, 20, 30, 14, 15, 21, 30, 22, 30, 23]);
    assert_eq!(outgoing.queued_bytes(), 0);
}

#[test]
fn whichever_kind_comes_last_waits_for_one_or_two_of_the_others_however_many_wait() {
    // In frames: of a page of small ones there are at most so many.
    let page = PAGE.div_ceil(BY_REFERENCE - 1);
    let crowds = [(200, BY_REFERENCE - 1), (200, 60_000), (16, 20 * MAX_PART), (200, 2 * MAX_PART)];
    for (length, own) in [(10, 0), (BY_REFERENCE, 1), (20_000, 1), (MAX_PART, 1), (MAX_PART + 1, 2)]
    {
        let mut outgoing = Outgoing::default();
        let kind = |length| match length {
            0..BY_REFERENCE => 0,
            BY_REFERENCE..=MAX_PART => 1,
            _ => 2,
        };
        let mut ids = 1;
        for (count, crowd) in crowds.into_iter().filter(|(_, crowd)| kind(*crowd) != own) {
            queue(&mut outgoing, ids..ids + count, crowd);
            ids += count;
        }
        // Whosever turn it is when it comes.
        let handed = transmit(&mut outgoing).len();
        outgoing.written(handed);
        let mark = queue(&mut outgoing, 0..1, length)[0];
        let place = drain(&mut outgoing).iter().position(|frame| id(frame) == 0).unwrap();
        assert!(place <= 1 + page, "{length} behind {place}");
        assert!(outgoing.is_sent(0, mark));
    }
}

#[test]
fn messages_of_one_frame_that_are_not_copied_keep_their_order() {
    let mut outgoing = Outgoing::default();
    for (id, length) in [MAX_PART, BY_REFERENCE, 40_000, BY_REFERENCE].into_iter().enumerate() {
        queue(&mut outgoing, id as u64..id as u64 + 1, length);
    }
    assert_eq!(drain(&mut outgoing).iter().map(id).collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[test]
fn a_body_apart_is_not_copied() {
    for length in [BY_REFERENCE, MAX_PART, MAX_PART + 1] {
        let (mut outgoing, mut out) = (Outgoing::default(), VecDeque::new());
        let body = Bytes::from(vec![0; length]);
        outgoing.message(reply(1), &body);
        outgoing.transmit(&mut out);
        assert!(out.iter().any(|piece| piece.as_ptr() == body.as_ptr()), "{length}");
    }
}

#[test]
fn at_most_sixteen_long_messages_are_unfinished_at_a_time() {
    let mut outgoing = Outgoing::default();
    let long = Bytes::from(vec![0; 2 * MAX_PART]);
    for id in 0..40 {
        outgoing.message(reply(id), &long);
    }
    let (mut unfinished, mut most) = (0, 0);
    for frame in drain(&mut outgoing) {
        match frame {
            Frame::Message { .. } => unfinished += 1,
            Frame::Chunk { position, .. } => {
                unfinished -= usize::from(position == Position::Last);
            }
            _ => {}
        }
        most = most.max(unfinished);
    }
    assert_eq!((unfinished, most), (0, 16));
}

/// Which of these, of so many parts each, has a part in turn.
fn turns(lengths: &[usize]) -> Vec<u64> {
    let mut outgoing = Outgoing::default();
    for (id, parts) in lengths.iter().enumerate() {
        outgoing.message(reply(id as u64), &Bytes::from(vec![0; parts * MAX_PART]));
    }
    drain(&mut outgoing).iter().map(id).collect()
}

#[test]
fn all_begin_and_then_two_at_a_time_go_on() {
    assert_eq!(turns(&[3, 3, 3, 3]), [0, 1, 2, 3, 0, 1, 0, 1, 2, 3, 2, 3]);
}

#[test]
fn who_has_had_its_share_goes_behind_the_others() {
    let share = SHARE / MAX_PART;
    let order = turns(&[3 * share, 3 * share, 2]);
    let third = order.iter().rposition(|id| *id == 2).unwrap();
    assert!((share..=2 * share + 1).contains(&third), "{third}");
}

#[test]
fn more_is_handed_over_while_all_of_it_is_accepted_at_once() {
    let mut outgoing = Outgoing::default();
    outgoing.message(reply(1), &Bytes::from(vec![0; 200 * MAX_PART]));
    let parts = |bytes: usize| bytes / MAX_PART;
    let mut hand = |accepts: fn(usize) -> usize| {
        let handed = transmit(&mut outgoing).len();
        outgoing.written(accepts(handed));
        outgoing.written(handed - accepts(handed));
        parts(handed)
    };
    assert_eq!([(); 4].map(|()| hand(|all| all)), [4, 8, 16, 16]);
    // More than half of it accepted is as good as before; less is a sign that something would wait.
    assert_eq!([(); 2].map(|()| hand(|all| all * 3 / 4)), [16, 16]);
    assert_eq!([(); 4].map(|()| hand(|all| all / 4)), [16, 8, 4, 4]);
}

#[test]
fn a_long_message_is_withdrawn_unseen_begun_or_too_late() {
    let long = Bytes::from(vec![0; 8 * MAX_PART]);
    let mut outgoing = Outgoing::default();
    let mark = outgoing.message(reply(1), &long);
    assert_eq!(outgoing.withdraw(1, mark), Withdrawn::Unseen);
    let mark = outgoing.message(reply(2), &long);
    let handed = transmit(&mut outgoing).len();
    assert!(!outgoing.is_sent(2, mark));
    assert_eq!(outgoing.withdraw(2, mark), Withdrawn::Begun);
    outgoing.written(handed);
    assert!(outgoing.is_empty());
    let mark = outgoing.message(reply(3), &Bytes::from(vec![0; MAX_PART]));
    let handed = transmit(&mut outgoing).len();
    assert_eq!(outgoing.withdraw(3, mark), Withdrawn::TooLate);
    outgoing.written(handed - 1);
    assert!(!outgoing.is_sent(3, mark));
    outgoing.written(1);
    assert!(outgoing.is_sent(3, mark));
}

#[test]
fn requests_begin_when_their_first_frames_are_handed_over() {
    let mut outgoing = Outgoing::default();
    let lengths = [(1, 10), (2, BY_REFERENCE), (3, 2 * MAX_PART)];
    for (id, length) in lengths {
        let head = RequestHead { id, repeatable: false, resent: false, remaining: 0, oldest: 0 };
        outgoing.message(Head::Request(head), &Bytes::from(vec![0; length]));
        queue(&mut outgoing, 10 + id..11 + id, length);
    }
    assert_eq!(outgoing.take_begun().count(), 0);
    drain(&mut outgoing);
    assert_eq!(outgoing.take_begun().collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn what_was_withdrawn_counts_until_its_page_goes() {
    let mut outgoing = Outgoing::default();
    let marks = queue(&mut outgoing, 1..3, 100);
    let all = outgoing.queued_bytes();
    outgoing.withdraw(1, marks[0]);
    assert_eq!(outgoing.queued_bytes(), all, "its bytes are still here");
    assert_eq!(transmit(&mut outgoing).len(), all / 2);
    assert_eq!(outgoing.queued_bytes(), 0);
    // And with the last of its page it goes at once.
    let marks = queue(&mut outgoing, 3..5, 100);
    outgoing.withdraw(4, marks[1]);
    outgoing.withdraw(3, marks[0]);
    assert_eq!(outgoing.queued_bytes(), 0);
    assert!(transmit(&mut outgoing).is_empty());
}

#[test]
fn calls_that_are_given_up_one_after_the_other_hold_no_memory() {
    let mut outgoing = Outgoing::default();
    for id in 0..1000 {
        let mark = queue(&mut outgoing, id..id + 1, BY_REFERENCE - 1)[0];
        assert_eq!(outgoing.withdraw(id, mark), Withdrawn::Unseen);
        assert_eq!(outgoing.queued_bytes(), 0);
    }
    assert!(outgoing.is_empty() && outgoing.closed.is_empty());
    assert!(outgoing.open.bytes.capacity() <= PAGE, "{}", outgoing.open.bytes.capacity());
    assert!(outgoing.open.requests.is_empty() && outgoing.open.dead.is_empty());
}

/// Each begins before the last one ends, behind one that stays.
#[test]
fn calls_that_are_given_up_while_others_wait_hold_no_more_than_the_pages_of_those() {
    for length in [10, BY_REFERENCE - 1, BY_REFERENCE, 2 * MAX_PART] {
        let mut outgoing = Outgoing::default();
        let mut last = request(&mut outgoing, 1, 3);
        let first = last;
        for id in 2..=255 {
            let mark = request(&mut outgoing, id, length);
            if last != first {
                assert_eq!(outgoing.withdraw(u64::from(id - 1), last), Withdrawn::Unseen);
            }
            last = mark;
            assert!(outgoing.closed.len() <= 3, "{}", outgoing.closed.len());
            assert!(outgoing.queued_bytes() <= 2 * (PAGE + length), "{}", outgoing.queued_bytes());
        }
        outgoing.withdraw(255, last);
        assert_eq!(outgoing.withdraw(1, first), Withdrawn::Unseen);
        assert_eq!(outgoing.queued_bytes(), 0);
        assert!(outgoing.is_empty());
    }
}

#[test]
fn the_mark_of_what_was_withdrawn_is_that_of_nothing_else() {
    let mut outgoing = Outgoing::default();
    let withdrawn = request(&mut outgoing, 1, 3);
    outgoing.withdraw(1, withdrawn);
    let waiting = request(&mut outgoing, 2, 3);
    assert_ne!(withdrawn, waiting);
    assert!(!outgoing.is_sent(2, waiting), "nothing has left");
    // Nor when its page was not the open one.
    let alone = request(&mut outgoing, 3, LONG);
    outgoing.withdraw(3, alone);
    let next = request(&mut outgoing, 4, LONG);
    assert_ne!(alone, next);
    assert!(!outgoing.is_sent(2, waiting) && !outgoing.is_sent(4, next));
    let bytes = transmit(&mut outgoing);
    assert_eq!(runs(&bytes), [(2, 5), (4, LONG + 2)]);
    outgoing.written(5);
    assert!(outgoing.is_sent(2, waiting) && !outgoing.is_sent(4, next));
}

#[test]
fn an_empty_frame_does_not_go_with_those_around_it_that_are_withdrawn() {
    let mut outgoing = Outgoing::default();
    let full = outgoing.foreign_frame(1, b"full", &Bytes::new());
    let empty = outgoing.foreign_frame(2, b"", &Bytes::new());
    outgoing.withdraw(1, full);
    assert!(!outgoing.is_sent(2, empty));
    assert!(transmit(&mut outgoing).is_empty());
    assert_eq!(outgoing.take_begun().collect::<Vec<_>>(), [2]);
    assert!(outgoing.is_sent(2, empty));
    assert_eq!(outgoing.queued_bytes(), 0);
}

#[test]
fn messages_apart_that_were_thrown_away_were_not_sent() {
    let mut outgoing = Outgoing::default();
    let begun = queue(&mut outgoing, 1..2, 20 * MAX_PART)[0];
    let handed = transmit(&mut outgoing).len();
    let unseen = queue(&mut outgoing, 2..3, 2 * MAX_PART)[0];
    let single = queue(&mut outgoing, 3..4, MAX_PART)[0];
    outgoing.discard();
    outgoing.written(handed);
    assert_eq!(outgoing.queued_bytes(), 0);
    for (id, mark) in [(1, begun), (2, unseen), (3, single)] {
        assert!(!outgoing.is_sent(id, mark), "{id}");
    }
    assert_eq!(outgoing.withdraw(1, begun), Withdrawn::Begun);
    assert_eq!(outgoing.withdraw(2, unseen), Withdrawn::Unseen);
    assert_eq!(outgoing.withdraw(3, single), Withdrawn::Unseen);
}

/// The frame of a request, of so many bytes behind a head of two, all of which tell its id.
fn frame(id: u8, length: usize) -> ([u8; 2], Bytes) {
    ([id, id], vec![id; length].into())
}

fn request(outgoing: &mut Outgoing, id: u8, length: usize) -> Mark {
    let (head, rest) = frame(id, length);
    outgoing.foreign_frame(u64::from(id), &head, &rest)
}

/// The ids of the frames in what goes out, with their lengths.
fn runs(bytes: &[u8]) -> Vec<(u8, usize)> {
    bytes.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect()
}

const LONG: usize = BY_REFERENCE;

#[test]
fn requests_of_one_frame_go_out_in_the_order_in_which_they_were_queued_however_long() {
    let mut outgoing = Outgoing::default();
    for (id, length) in [(1, 10), (2, LONG), (3, LONG + 1), (4, 0), (5, LONG - 1), (6, LONG)] {
        request(&mut outgoing, id, length);
    }
    let bytes = transmit(&mut outgoing);
    let expected = [(1, 12), (2, LONG + 2), (3, LONG + 3), (4, 2), (5, LONG + 1), (6, LONG + 2)];
    assert_eq!(runs(&bytes), expected);
    assert_eq!(outgoing.take_begun().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(outgoing.queued_bytes(), 0);
}

#[test]
fn a_long_rest_is_not_copied_and_a_short_one_is() {
    let mut outgoing = Outgoing::default();
    let (head, long) = frame(1, LONG);
    let (_, short) = frame(1, LONG - 1);
    outgoing.foreign_frame(1, &head, &long);
    outgoing.foreign_frame(2, &head, &short);
    let mut out = VecDeque::new();
    outgoing.transmit(&mut out);
    assert!(out.iter().any(|piece| piece.as_ptr() == long.as_ptr()));
    assert!(out.iter().all(|piece| piece.as_ptr() != short.as_ptr()));
}

#[test]
fn a_request_of_one_frame_is_sent_with_its_last_byte_and_not_before() {
    let mut outgoing = Outgoing::default();
    let marks = [(1, 3), (2, LONG), (3, 5)]
        .map(|(id, length)| (u64::from(id), request(&mut outgoing, id, length)));
    let sent = |outgoing: &Outgoing| marks.map(|(id, mark)| outgoing.is_sent(id, mark));
    assert_eq!(sent(&outgoing), [false; 3], "nothing was handed over");
    let whole = transmit(&mut outgoing).len();
    let ends = [5, 5 + LONG + 2, whole];
    for written in 0..=whole {
        assert_eq!(sent(&outgoing), ends.map(|end| written >= end), "{written}");
        if written < whole {
            outgoing.written(1);
        }
    }
    assert!(outgoing.is_empty());
}

#[test]
fn a_request_of_one_frame_that_is_withdrawn_in_time_never_goes_out() {
    let mut outgoing = Outgoing::default();
    let lengths = [(1, 3), (2, LONG), (3, 5), (4, LONG), (5, 7)];
    let marks = lengths.map(|(id, length)| request(&mut outgoing, id, length));
    for id in [1, 4, 2] {
        assert_eq!(outgoing.withdraw(id, marks[id as usize - 1]), Withdrawn::Unseen);
    }
    assert_eq!(outgoing.queued_bytes(), 7 + 9);
    let bytes = transmit(&mut outgoing);
    assert_eq!(runs(&bytes), [(3, 7), (5, 9)]);
    assert_eq!(outgoing.take_begun().collect::<Vec<_>>(), [3, 5]);
    assert_eq!(outgoing.queued_bytes(), 0);
    outgoing.written(7);
    assert!(outgoing.is_sent(3, marks[2]) && !outgoing.is_sent(5, marks[4]));
    outgoing.written(9);
    assert!(outgoing.is_sent(5, marks[4]) && outgoing.is_empty());
}

#[test]
fn a_request_of_one_frame_that_was_handed_over_goes_out_whole() {
    for length in [3, LONG] {
        let mut outgoing = Outgoing::default();
        let mark = request(&mut outgoing, 1, length);
        let bytes = transmit(&mut outgoing);
        assert_eq!(bytes.len(), length + 2);
        assert_eq!(outgoing.withdraw(1, mark), Withdrawn::TooLate);
        outgoing.written(bytes.len() - 1);
        assert!(!outgoing.is_sent(1, mark));
        outgoing.written(1);
        assert!(outgoing.is_sent(1, mark));
        assert_eq!(outgoing.withdraw(1, mark), Withdrawn::TooLate);
    }
}

#[test]
fn what_is_thrown_away_was_not_sent_and_what_the_shell_holds_may_be() {
    let mut outgoing = Outgoing::default();
    let held = request(&mut outgoing, 1, LONG);
    let bytes = transmit(&mut outgoing);
    let waiting = [(2, 3), (3, LONG)].map(|(id, length)| request(&mut outgoing, id, length));
    outgoing.discard();
    assert!(transmit(&mut outgoing).is_empty());
    for (id, mark) in [2, 3].into_iter().zip(waiting) {
        assert!(!outgoing.is_sent(id, mark));
        assert_eq!(outgoing.withdraw(id, mark), Withdrawn::Unseen);
    }
    assert!(!outgoing.is_sent(1, held));
    outgoing.written(bytes.len());
    assert!(outgoing.is_sent(1, held));
    assert!(outgoing.is_empty());
    assert_eq!(outgoing.queued_bytes(), 0);
}

#[test]
fn what_was_thrown_away_stays_unsent_when_more_is() {
    let mut outgoing = Outgoing::default();
    let first = request(&mut outgoing, 1, 3);
    outgoing.discard();
    let second = request(&mut outgoing, 2, 3);
    outgoing.die();
    for (id, mark) in [(1, first), (2, second)] {
        assert!(!outgoing.is_sent(id, mark), "{id}");
        assert_eq!(outgoing.withdraw(id, mark), Withdrawn::Unseen);
    }
}

#[test]
fn bodies_that_are_not_needed_any_more_come_out_and_are_not_dropped_inside() {
    let spent = |outgoing: &mut Outgoing| {
        let mut spent = Vec::new();
        outgoing.take_spent(&mut spent);
        spent.iter().map(|body| (body[0], body.len())).collect::<Vec<_>>()
    };
    let mut outgoing = Outgoing::default();
    let mark = request(&mut outgoing, 1, LONG);
    outgoing.withdraw(1, mark);
    assert_eq!(spent(&mut outgoing), [(1, LONG)]);
    request(&mut outgoing, 2, LONG);
    outgoing.discard();
    assert_eq!(spent(&mut outgoing), [(2, LONG)]);
    request(&mut outgoing, 3, LONG);
    outgoing.die();
    assert_eq!(spent(&mut outgoing), [(3, LONG)]);
    assert!(spent(&mut outgoing).is_empty());
}

#[test]
fn control_frames_go_out_while_requests_are_held_back() {
    let mut outgoing = Outgoing::default();
    request(&mut outgoing, 1, LONG);
    request(&mut outgoing, 2, 3);
    outgoing.control().extend_from_slice(&[9; 4]);
    let mut out = VecDeque::new();
    outgoing.transmit_control(&mut out);
    outgoing.transmit_control(&mut out);
    assert_eq!(out, [Bytes::from_static(&[9; 4])]);
    assert_eq!(outgoing.take_begun().count(), 0);
    assert_eq!(runs(&transmit(&mut outgoing)), [(1, LONG + 2), (2, 5)]);
}
