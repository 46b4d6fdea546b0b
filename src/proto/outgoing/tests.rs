//! Order, turns, and what of a message has left.

use super::*;
use crate::proto::frame::next_payload;
use crate::proto::native::Frame;

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
