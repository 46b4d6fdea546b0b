//! What both ends do alike, as tables of (time, event) and outcome.

#![allow(clippy::disallowed_methods)]

use bytes::{BufMut as _, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::proto::head::{MAX_PART, Position};

const EVERY: u64 = 5_000;
const GIVE_UP: u64 = 10_000;
const BOUND: Duration = Duration::from_millis(EVERY + GIVE_UP);

struct Desk {
    line: Line,
    start: Instant,
}

fn desk() -> Desk {
    let start = Instant::now();
    let heartbeat = policy::Heartbeat::every(Duration::from_millis(EVERY))
        .give_up_after(Duration::from_millis(GIVE_UP));
    Desk { line: Line::new(start, heartbeat, None), start }
}

impl Desk {
    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn hear(&mut self, ms: u64, frames: &[Frame]) -> Result<Vec<Inbound>, Violation> {
        let mut input = Input::default();
        frames.iter().for_each(|frame| frame.encode(&mut input.bytes));
        self.line.heard(self.at(ms));
        let mut seen = Vec::new();
        while let Some(inbound) = self.line.next(&mut input)? {
            seen.push(inbound);
        }
        Ok(seen)
    }

    /// Hands over what waits; says how many bytes that are.
    fn transmit(&mut self, ms: u64) -> (usize, Vec<Frame>) {
        let (mut out, mut bytes) = (VecDeque::new(), BytesMut::new());
        self.line.transmit(self.at(ms), &mut out);
        out.iter().for_each(|piece| bytes.extend_from_slice(piece));
        let (length, mut frames) = (bytes.len(), Vec::new());
        while let Some(payload) = next_payload(&mut bytes).unwrap() {
            frames.push(Frame::decode(payload).unwrap());
        }
        (length, frames)
    }

    /// The frames that go out, accepted at once.
    fn sent(&mut self, ms: u64) -> Vec<Frame> {
        let (length, frames) = self.transmit(ms);
        if length > 0 {
            self.line.written(self.at(ms), length);
        }
        frames
    }
}

fn reply(id: u64) -> Head {
    Head::Reply { id }
}

#[test]
fn a_ping_is_answered_before_any_data_and_a_pong_is_not_answered() {
    let mut desk = desk();
    desk.line.outgoing.message(reply(1), &Bytes::from_static(b"data"));
    let heard = [Frame::Ping { nonce: 5 }, Frame::Pong { nonce: 6 }, Frame::Unknown { kind: 0x90 }];
    assert!(desk.hear(0, &heard).unwrap().is_empty());
    let sent = desk.sent(0);
    assert_eq!(sent[0], Frame::Pong { nonce: 5 });
    assert_eq!(sent.len(), 2);
}

#[test]
fn who_pings_without_end_and_does_not_read_gets_a_bounded_number_of_answers() {
    let mut desk = desk();
    for nonce in 0..100_000 {
        desk.hear(0, &[Frame::Ping { nonce }]).unwrap();
    }
    assert!(desk.line.outgoing.queued_bytes() < 2 * MAX_CONTROL);
    assert!(desk.sent(0).len() > 1000);
    desk.hear(0, &[Frame::Ping { nonce: 7 }]).unwrap();
    assert_eq!(desk.sent(0), [Frame::Pong { nonce: 7 }]);
}

#[test]
fn silence_is_answered_with_pings_of_new_nonces_and_then_with_a_verdict() {
    let mut desk = desk();
    let mut pings = Vec::new();
    for ms in 1..EVERY + GIVE_UP {
        desk.line.timeout(desk.at(ms)).unwrap();
        pings.extend(desk.sent(ms).into_iter().map(|frame| (ms, frame)));
    }
    // One asks, the other only says that we are there.
    let expected = [(EVERY, Frame::Ping { nonce: 1 }), (2 * EVERY, Frame::Ping { nonce: 2 })];
    assert_eq!(pings, expected);
    assert_eq!(desk.line.next_deadline(), desk.at(EVERY + GIVE_UP));
    let verdict = desk.line.timeout(desk.at(EVERY + GIVE_UP));
    assert_eq!(verdict, Err(LossCause::Silent { silent_for: BOUND, bound: BOUND }));
}

#[test]
fn whoever_has_data_to_send_needs_no_ping_to_be_heard() {
    let mut desk = desk();
    desk.hear(4_900, &[]).unwrap();
    desk.line.outgoing.message(reply(1), &Bytes::from_static(b"data"));
    desk.line.timeout(desk.at(EVERY)).unwrap();
    let names: Vec<_> = desk.sent(EVERY).iter().map(Frame::name).collect();
    assert_eq!(names, ["REPLY"]);
}

#[test]
fn a_write_that_stands_still_for_the_bound_is_a_loss() {
    let mut desk = desk();
    desk.line.outgoing.message(reply(1), &Bytes::from_static(b"data"));
    let (length, _) = desk.transmit(1_000);
    desk.line.written(desk.at(3_000), 1);
    for ms in [4_000, 10_000, 17_999] {
        desk.line.heard(desk.at(ms));
        assert_eq!(desk.line.timeout(desk.at(ms)), Ok(()), "at {ms}");
    }
    let verdict = desk.line.timeout(desk.at(18_000));
    assert_eq!(verdict, Err(LossCause::Stalled { stalled_for: BOUND, bound: BOUND }));
    // The last byte ends the watch.
    desk.line.written(desk.at(18_000), length - 1);
    desk.line.heard(desk.at(40_000));
    assert_eq!(desk.line.timeout(desk.at(40_000)), Ok(()));
}

#[test]
fn who_slept_does_not_judge() {
    let mut desk = desk();
    desk.line.outgoing.message(reply(1), &Bytes::from_static(b"data"));
    desk.transmit(0);
    let woken = 60_000;
    assert_eq!(desk.line.timeout(desk.at(woken)), Ok(()));
    desk.line.heard(desk.at(woken + 14_000));
    assert_eq!(desk.line.timeout(desk.at(woken + 14_999)), Ok(()));
    assert!(desk.line.timeout(desk.at(woken + 15_000)).is_err());
}

#[test]
fn a_long_message_comes_out_whole_and_its_stray_parts_are_named() {
    let mut desk = desk();
    let part = |id, position, part: &'static str| Frame::Chunk { id, position, part: part.into() };
    desk.line.assembly.begin(reply(1), 6, &Bytes::from_static(b"ab")).unwrap();
    let parts = [
        part(1, Position::Inner, "cd"),
        part(2, Position::Last, "x"),
        part(1, Position::Last, "ef"),
    ];
    let seen = desk.hear(0, &parts);
    let [Inbound::StrayChunk { id: 2 }, Inbound::Message(head, body)] = &seen.unwrap()[..] else {
        panic!("a stray part and a message");
    };
    assert_eq!((head, &body[..]), (&reply(1), &b"abcdef"[..]));
}

#[test]
fn nothing_but_the_goodbye_is_said_after_a_violation() {
    let mut desk = desk();
    desk.line.outgoing.message(reply(1), &Bytes::from_static(b"small"));
    desk.line.outgoing.message(reply(2), &Bytes::from(vec![0; 2 * MAX_PART]));
    desk.line.probe(desk.at(0));
    desk.line.complain(&Violation::EmptyFrame);
    let sent = desk.sent(0);
    let [Frame::GoAway(goodbye)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((goodbye.code, &*goodbye.text), (2, "empty frame"));
    assert!(desk.line.is_empty());
}

#[test]
fn a_probe_pings_at_once() {
    let mut desk = desk();
    desk.line.probe(desk.at(10));
    assert_eq!(desk.sent(10), [Frame::Ping { nonce: 1 }]);
    assert_eq!(desk.line.next_deadline(), desk.at(10 + EVERY));
    desk.line.timeout(desk.at(10 + EVERY)).unwrap();
    desk.sent(10 + EVERY);
    // The verdict comes at the bound, after a last look at what has arrived.
    desk.line.timeout(desk.at(10 + GIVE_UP - 2)).unwrap();
    desk.sent(10 + GIVE_UP - 2);
    assert!(desk.line.timeout(desk.at(10 + GIVE_UP)).is_err());
}

/// Reads as the owner does, `most` at a time and what belongs to a part to where it belongs. Returns the lengths of the
/// messages, all of whose bytes are the same, and how many bytes were read to where they belong.
fn read(stream: &[u8], mut most: impl FnMut() -> usize) -> (Vec<Bytes>, usize) {
    let (mut desk, mut input) = (desk(), Input::default());
    let (mut messages, mut landed, mut rest) = (Vec::new(), 0, stream);
    while !rest.is_empty() {
        let mut count = rest.len().min(most());
        match &mut input.landing {
            Some(landing) => {
                let mut room = landing.room();
                count = count.min(room.remaining_mut());
                room.put_slice(&rest[..count]);
                landed += count;
            }
            None => {
                count = count.min(MAX_PART);
                input.bytes.extend_from_slice(&rest[..count]);
            }
        }
        rest = &rest[count..];
        while let Some(inbound) = desk.line.next(&mut input).unwrap() {
            match inbound {
                Inbound::Begun { head, total, part } => {
                    desk.line.assembly.begin(head, total, &part).unwrap();
                }
                Inbound::Message(_, body) => messages.push(body),
                inbound => panic!("{inbound:?}"),
            }
        }
    }
    assert!(input.bytes.is_empty() && input.landing.is_none() && desk.line.assembly.is_empty());
    (messages, landed)
}

/// What goes out for messages of these lengths.
fn stream_of(lengths: &[usize]) -> Vec<u8> {
    let (mut desk, mut stream) = (desk(), Vec::new());
    for (id, length) in lengths.iter().enumerate() {
        let body: Bytes = (0..*length).map(|at| (at % 251 + id) as u8).collect();
        desk.line.outgoing.message(reply(id as u64), &body);
    }
    loop {
        let mut out = VecDeque::new();
        desk.line.transmit(desk.start, &mut out);
        let length = out.iter().map(Bytes::len).sum();
        if length == 0 {
            return stream;
        }
        out.iter().for_each(|piece| stream.extend_from_slice(piece));
        desk.line.written(desk.start, length);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_split_of_the_bytes_gives_the_same_messages_wherever_they_are_read_to(
        lengths in prop::collection::vec(prop_oneof![0usize..300, 60_000usize..300_000], 1..6),
        cuts in prop::collection::vec(prop_oneof![1usize..100, 1usize..200_000], 1..50),
    ) {
        let stream = stream_of(&lengths);
        let (whole, _) = read(&stream, || stream.len());
        let mut cuts = cuts.iter().cycle();
        let (mut messages, _) = read(&stream, || *cuts.next().unwrap());
        prop_assert_eq!(&messages, &whole);
        messages.sort_by_key(Bytes::len);
        let mut sorted = lengths.clone();
        sorted.sort_unstable();
        prop_assert_eq!(messages.iter().map(Bytes::len).collect::<Vec<_>>(), sorted);
        for body in messages {
            let first = body.first().copied().unwrap_or_default() as usize;
            prop_assert!(body.iter().enumerate().all(|(at, byte)| *byte == (at % 251 + first) as u8));
        }
    }
}

#[test]
fn most_of_a_long_message_is_read_to_where_it_belongs() {
    let (messages, landed) = read(&stream_of(&[1 << 20]), || usize::MAX);
    assert_eq!(messages[0].len(), 1 << 20);
    assert!(landed > 14 * MAX_PART, "{landed}");
}

#[test]
fn memory_of_long_messages_is_given_back_soon_after_the_last() {
    let mut desk = desk();
    let mut input = Input::default();
    input.bytes.extend_from_slice(&stream_of(&[1 << 20]));
    while let Some(inbound) = desk.line.next(&mut input).unwrap() {
        if let Inbound::Begun { head, total, part } = inbound {
            desk.line.assembly.begin(head, total, &part).unwrap();
        }
    }
    desk.line.heard(desk.at(0));
    let cools_at = desk.line.next_deadline();
    assert!(cools_at < desk.at(EVERY), "nothing was kept");
    desk.line.timeout(cools_at).unwrap();
    assert_eq!(desk.line.next_deadline(), desk.at(EVERY));
}
