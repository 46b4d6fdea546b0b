//! The serving end as tables: (time, event) in, events and frames out. No runtime, no socket.

#![allow(clippy::disallowed_methods)]

use bytes::BytesMut;

use super::*;
use crate::error::violation::Violation;
use crate::proto::frame::next_payload;
use crate::proto::head::{MAX_PART, Position, RequestHead};

const LIMIT: usize = 1_000_000;

/// A server's session and what its shell would keep.
struct Desk {
    serving: Serving,
    start: Instant,
    effects: Effects<Event>,
}

fn bounds() -> Bounds {
    Bounds { send: LIMIT, receive: LIMIT, in_flight: 3, held_bytes: LIMIT, idle_limit: None }
}

fn desk(bounds: Bounds) -> Desk {
    let start = Instant::now();
    let serving = Serving::new(start, policy::Heartbeat::default(), None, bounds);
    Desk { serving, start, effects: Effects::default() }
}

impl Desk {
    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn hear(&mut self, frames: &[Frame]) -> Result<Vec<Event>, LossCause> {
        self.hear_at(0, frames)
    }

    fn hear_at(&mut self, ms: u64, frames: &[Frame]) -> Result<Vec<Event>, LossCause> {
        let mut input = Input::default();
        frames.iter().for_each(|frame| frame.encode(&mut input.bytes));
        self.serving.received(self.at(ms), &mut input, &mut self.effects)?;
        Ok(std::mem::take(&mut self.effects.events))
    }

    fn reply(&mut self, id: u64, body: impl Into<Bytes>) {
        self.serving.respond(self.start, id, &Response::Reply(body.into()));
    }

    fn timeout(&mut self, ms: u64) {
        self.serving.timeout(self.at(ms), &mut self.effects).unwrap();
    }

    /// The frames that go out until there are no more, all accepted.
    fn sent(&mut self) -> Vec<Frame> {
        let (mut bytes, mut out) = (BytesMut::new(), VecDeque::new());
        loop {
            self.serving.transmit(self.start, &mut out);
            if out.is_empty() {
                break;
            }
            let count = out.iter().map(Bytes::len).sum();
            out.drain(..).for_each(|piece| bytes.extend_from_slice(&piece));
            self.serving.written(self.start, count, &mut self.effects);
        }
        let mut frames = Vec::new();
        while let Some(payload) = next_payload(&mut bytes).unwrap() {
            frames.push(Frame::decode(payload).unwrap());
        }
        frames
    }
}

fn head(id: u64) -> Head {
    let (repeatable, resent, remaining, oldest) = (false, false, 0, 1);
    Head::Request(RequestHead { id, repeatable, resent, remaining, oldest })
}

fn request(id: u64, body: &'static str) -> Frame {
    Frame::Message { head: head(id), total: None, part: body.into() }
}

fn request_due(id: u64, remaining: u32) -> Frame {
    let (repeatable, resent, oldest) = (false, false, 1);
    let head = Head::Request(RequestHead { id, repeatable, resent, remaining, oldest });
    Frame::Message { head, total: None, part: Bytes::new() }
}

/// The first frame of a message of `total` bytes.
fn begun(head: Head, total: usize) -> Frame {
    Frame::Message { head, total: Some(total as u32), part: "begins".into() }
}

fn rest(id: u64, part: &'static str) -> Frame {
    Frame::Chunk { id, position: Position::Last, part: part.into() }
}

fn notify(id: u64, body: &'static str) -> Frame {
    Frame::Message { head: Head::Notify { id }, total: None, part: body.into() }
}

fn reply(id: u64, body: &'static str) -> Frame {
    Frame::Message { head: Head::Reply { id }, total: None, part: body.into() }
}

fn refused(id: u64, code: u32) -> Frame {
    Frame::Refused { id, code, retry_after: 0 }
}

/// What happened, in a word each.
fn words(events: &[Event]) -> Vec<String> {
    let word = |event: &Event| match event {
        Event::Request { id, body, .. } => format!("run {id} {}", body.escape_ascii()),
        Event::Notification { body } => format!("note {}", body.escape_ascii()),
        Event::Cancelled { id } => format!("stop {id}"),
        Event::Orphaned { id } => format!("orphan {id}"),
    };
    events.iter().map(word).collect()
}

#[test]
fn requests_are_handed_over_and_answered_in_any_order() {
    let mut desk = desk(bounds());
    let events = desk.hear(&[request(7, "a"), request(3, "b"), request(5, "c")]).unwrap();
    assert_eq!(words(&events), ["run 7 a", "run 3 b", "run 5 c"]);
    desk.reply(5, "C");
    desk.serving.respond(desk.start, 7, &Response::Error(ErrorReply::new(404, "no a")));
    let refusal = Refusal { code: Refusal::EXPIRED, retry_after: Some(Duration::from_millis(9)) };
    desk.serving.respond(desk.start, 3, &Response::Refused(refusal));
    let expected = [
        reply(5, "C"),
        Frame::Error { id: 7, code: 404, text: "no a".into() },
        Frame::Refused { id: 3, code: 3, retry_after: 9 },
    ];
    assert_eq!(desk.sent(), expected);
    desk.reply(5, "again");
    assert!(desk.sent().is_empty());
    assert!(desk.serving.is_empty());
}

#[test]
fn the_callers_deadline_counts_from_the_arrival_of_the_first_frame() {
    let mut desk = desk(bounds());
    let due = |events: Vec<Event>| match events[..] {
        [Event::Request { deadline, .. }] => deadline,
        _ => panic!("{events:?}"),
    };
    assert_eq!(due(desk.hear_at(10, &[request_due(1, 0)]).unwrap()), None);
    assert_eq!(due(desk.hear_at(10, &[request_due(2, 500)]).unwrap()), Some(desk.at(510)));
    let Frame::Message { head, .. } = request_due(3, 500) else { panic!("a request") };
    desk.hear_at(20, &[begun(head, 10)]).unwrap();
    assert_eq!(due(desk.hear_at(300, &[rest(3, "ends")]).unwrap()), Some(desk.at(520)));
}

#[test]
fn what_is_too_much_is_refused_and_the_rest_of_it_ignored() {
    let mut desk = desk(bounds());
    let too_long = begun(head(1), LIMIT + 1);
    assert!(
        desk.hear(&[too_long, rest(1, "goes on"), begun(Head::Notify { id: 2 }, LIMIT + 1)])
            .unwrap()
            .is_empty()
    );
    assert!(desk.hear(&[rest(2, "ignored, too")]).unwrap().is_empty());
    assert_eq!(desk.sent(), [refused(1, Refusal::TOO_LONG)]);
    let events = desk.hear(&[request(3, ""), request(4, ""), begun(head(5), 10), request(6, "")]);
    assert_eq!(words(&events.unwrap()), ["run 3 ", "run 4 "]);
    assert_eq!(desk.sent(), [refused(6, Refusal::OVERLOADED)]);
    desk.reply(3, "");
    let events = desk.hear(&[request(6, "again")]).unwrap();
    assert_eq!(words(&events), ["run 6 again"]);
}

#[test]
fn ids_out_of_range_or_in_use_break_the_protocol() {
    let out = |id| Violation::IdOutOfRange { id };
    let used = Violation::IdInUse { id: 1 };
    let nobody = |id| Violation::ToNobody { name: "CHUNK", id };
    for (frames, violation) in [
        (vec![request(0, "")], out(0)),
        (vec![notify(0, "")], out(0)),
        (vec![request(PUSH_BIT, "")], out(PUSH_BIT)),
        (vec![notify(PUSH_BIT | 5, "")], out(PUSH_BIT | 5)),
        (vec![request(1, ""), request(1, "")], used.clone()),
        (vec![request(1, ""), begun(head(1), 10)], used.clone()),
        (vec![begun(head(1), 10), request(1, "")], used.clone()),
        (vec![begun(head(1), 10), begun(head(1), 10)], used.clone()),
        (vec![begun(head(1), 10), notify(1, "")], used.clone()),
        (vec![begun(Head::Notify { id: 1 }, 10), notify(1, "")], used.clone()),
        (vec![begun(Head::Notify { id: 1 }, 10), request(1, "")], used.clone()),
        (vec![request(1, ""), rest(2, "?")], nobody(2)),
        (vec![rest(PUSH_BIT + 1, "?")], nobody(PUSH_BIT + 1)),
        (vec![reply(1, "")], Violation::Unexpected { name: "REPLY" }),
        (vec![begun(Head::Push { id: PUSH_BIT + 1 }, 10)], Violation::Unexpected { name: "PUSH" }),
    ] {
        let mut desk = desk(bounds());
        let heard = desk.hear(&frames).unwrap_err();
        assert_eq!(heard, violation.clone().into(), "{frames:?}");
        let Some(Frame::GoAway(goodbye)) = desk.sent().pop() else { panic!("no GOAWAY") };
        assert_eq!((goodbye.code, &*goodbye.text), (2, &*violation.to_string()));
    }
}

#[test]
fn an_id_is_free_again_once_it_is_answered() {
    let mut desk = desk(bounds());
    desk.hear(&[request(1, "a")]).unwrap();
    desk.reply(1, "A");
    assert_eq!(words(&desk.hear(&[request(1, "b")]).unwrap()), ["run 1 b"]);
    desk.hear(&[Frame::Cancel { id: 1 }]).unwrap();
    desk.reply(1, "B");
    assert_eq!(words(&desk.hear(&[request(1, "c")]).unwrap()), ["run 1 c"]);
}

#[test]
fn a_request_that_is_cancelled_twice_counts_until_its_handler_ends() {
    let mut desk = desk(bounds());
    for id in 1..=3 {
        let frames = [request(id, "work"), Frame::Cancel { id }, Frame::Cancel { id }];
        assert_eq!(
            words(&desk.hear(&frames).unwrap()),
            [format!("run {id} work"), format!("stop {id}")]
        );
    }
    assert!(desk.hear(&[request(4, "work")]).unwrap().is_empty());
    assert_eq!(desk.sent(), [refused(4, Refusal::OVERLOADED)]);
    desk.reply(1, "late");
    assert_eq!(desk.hear(&[request(5, "work")]).unwrap().len(), 1);
}

#[test]
fn a_cancelled_request_is_stopped_or_never_handed_over() {
    let mut desk = desk(bounds());
    desk.hear(&[request(1, ""), begun(head(2), 10)]).unwrap();
    let cancelled = [1, 2, 99].map(|id| Frame::Cancel { id });
    assert_eq!(words(&desk.hear(&cancelled).unwrap()), ["stop 1"]);
    assert!(desk.hear(&[rest(2, "ends")]).unwrap().is_empty());
    desk.reply(1, "too late");
    assert!(desk.sent().is_empty());
    assert!(desk.serving.is_empty());
}

#[test]
fn the_rest_of_a_long_reply_is_not_sent_to_a_caller_that_has_gone() {
    let mut desk = desk(bounds());
    desk.hear(&[request(1, "")]).unwrap();
    desk.reply(1, vec![0; 12 * MAX_PART]);
    let mut out = VecDeque::new();
    desk.serving.transmit(desk.start, &mut out);
    let handed = out.iter().map(Bytes::len).sum();
    desk.hear(&[Frame::Cancel { id: 1 }]).unwrap();
    desk.serving.written(desk.start, handed, &mut desk.effects);
    assert!(handed < 6 * MAX_PART);
    assert!(desk.sent().is_empty());
    assert!(desk.serving.is_empty());
}

#[test]
fn a_goodbye_says_how_many_were_accepted_and_the_rest_is_not_even_refused() {
    let mut desk = desk(bounds());
    desk.hear(&[request(8, ""), begun(head(9), LIMIT + 1), begun(head(5), 10)]).unwrap();
    desk.sent();
    desk.serving.go_away(GoAway::CLOSING, Some(Duration::from_millis(50)), "closing");
    desk.serving.go_away(GoAway::IDLE, None, "only once");
    let goodbye = GoAway {
        code: 0,
        accepted: 3,
        retry_after: Some(Duration::from_millis(50)),
        text: "closing".into(),
    };
    assert_eq!(desk.sent(), [Frame::GoAway(goodbye)]);
    let late = [request(10, ""), begun(head(11), 10), rest(11, "ends"), notify(12, "late")];
    assert!(desk.hear(&late).unwrap().is_empty());
    assert_eq!(words(&desk.hear(&[rest(5, "ends")]).unwrap()), ["run 5 beginsends"]);
    desk.reply(8, "");
    desk.sent();
    assert!(!desk.serving.is_finished());
    desk.reply(5, "the last");
    assert!(!desk.serving.is_finished(), "not before it is sent");
    assert_eq!(desk.sent(), [reply(5, "the last")]);
    assert!(desk.serving.is_finished());
    assert_eq!(desk.serving.push(&"late".into()), Err(NotPushed::Gone));
}

#[test]
fn what_a_shutdown_cuts_off_is_calls_and_answers_and_not_the_goodbye_itself() {
    let mut desk = desk(bounds());
    desk.serving.go_away(GoAway::CLOSING, None, "closing");
    assert_eq!(desk.serving.unfinished(), 0);
    let mut out = VecDeque::new();
    desk.serving.transmit(desk.start, &mut out);
    assert_eq!(desk.serving.unfinished(), 0, "in the shell's hands");

    for length in [1, 100_000] {
        let mut desk = self::desk(bounds());
        desk.hear(&[request(1, ""), begun(head(2), 10)]).unwrap();
        assert_eq!(
            desk.serving.unfinished(),
            2,
            "one is its handler's, the other has come by half"
        );
        desk.reply(1, vec![7; length]);
        assert_eq!(desk.serving.unfinished(), 2);
        desk.serving.transmit(desk.start, &mut out);
        assert_eq!(desk.serving.unfinished(), 2, "in the shell's hands");
    }
}

#[test]
fn a_shutdown_counts_each_answer_until_its_last_byte_is_accepted_and_no_push() {
    let mut desk = desk(Bounds { in_flight: 6, ..bounds() });
    let requests: Vec<_> = (1..=6).map(|id| request(id, "")).collect();
    desk.hear(&requests).unwrap();
    for length in [1, 20_000, 100_000] {
        desk.serving.push(&vec![7; length].into()).unwrap();
        desk.reply(length.ilog10() as u64 + 1, vec![7; length]);
    }
    desk.serving.respond(desk.start, 2, &Response::Error(ErrorReply::new(1, "none")));
    desk.serving.respond(desk.start, 3, &Response::Refused(Refusal { code: 1, retry_after: None }));
    desk.reply(4, "short");

    let (mut accepted, mut whole) = (BytesMut::new(), 0);
    let (mut out, mut effects) = (VecDeque::new(), Effects::default());
    assert_eq!(desk.serving.unfinished(), 6);
    loop {
        desk.serving.transmit(desk.start, &mut out);
        if out.is_empty() {
            break;
        }
        for byte in out.drain(..).flatten() {
            desk.serving.written(desk.start, 1, &mut effects);
            accepted.extend_from_slice(&[byte]);
            if let Some(payload) = next_payload(&mut accepted).unwrap() {
                whole += match Frame::decode(payload).unwrap() {
                    Frame::Message { head: Head::Push { .. }, .. } => 0,
                    Frame::Message { total: Some(_), .. } => 0,
                    Frame::Chunk { id, position, .. }
                        if id & PUSH_BIT != 0 || position != Position::Last =>
                    {
                        0
                    }
                    _ => 1,
                };
            }
            assert_eq!(desk.serving.unfinished(), 6 - whole);
        }
    }
    assert_eq!(whole, 6);
}

#[test]
fn an_idle_connection_is_sent_away_after_the_limit() {
    let limit = Some(Duration::from_millis(2000));
    let mut desk = desk(Bounds { idle_limit: limit, ..bounds() });
    desk.hear_at(0, &[request(1, "")]).unwrap();
    desk.timeout(4000);
    assert!(desk.sent().is_empty(), "not while a request is being worked on");
    desk.serving.respond(desk.at(4000), 1, &Response::Reply(Bytes::new()));
    desk.sent();
    // Neither heartbeats nor notifications are calls.
    desk.hear_at(5500, &[Frame::Ping { nonce: 1 }, notify(2, "")]).unwrap();
    desk.sent();
    assert!(desk.serving.next_deadline() <= Some(desk.at(6000)));
    let mut goodbyes = |ms| {
        desk.timeout(ms);
        let sent = desk.sent().into_iter();
        sent.filter(|frame| !matches!(frame, Frame::Ping { .. })).collect::<Vec<_>>()
    };
    assert_eq!(goodbyes(5999), []);
    let sent = goodbyes(6000);
    assert!(matches!(&sent[..], [Frame::GoAway(GoAway { code: 1, accepted: 1, .. })]), "{sent:?}");
    assert!(desk.serving.is_finished());
}

#[test]
fn nothing_is_read_while_too_many_bytes_are_held() {
    let mut desk = desk(Bounds { held_bytes: 10, ..bounds() });
    desk.hear(&[request(1, "123456789")]).unwrap();
    assert!(desk.serving.wants_input());
    desk.hear(&[request(2, "x")]).unwrap();
    assert!(!desk.serving.wants_input(), "requests");
    desk.reply(1, "123456789");
    assert!(!desk.serving.wants_input(), "answers");
    desk.sent();
    assert!(desk.serving.wants_input());
    // Who does not listen cannot judge: the client's silence is ours.
    desk.hear(&[request(3, "123456789")]).unwrap();
    for second in 1..100 {
        desk.timeout(second * 1000);
        desk.sent();
    }
    desk.reply(3, "");
    desk.sent();
    assert!(desk.serving.wants_input());
}

#[test]
fn nothing_is_read_while_too_many_notifications_are_at_work() {
    let mut desk = desk(Bounds { in_flight: 2, held_bytes: 10, ..bounds() });
    desk.hear(&[notify(1, "a")]).unwrap();
    assert!(desk.serving.wants_input());
    desk.hear(&[notify(2, "b")]).unwrap();
    assert!(!desk.serving.wants_input(), "by count");
    desk.serving.notification_done(1);
    desk.serving.notification_done(1);
    assert!(desk.serving.wants_input());
    desk.hear(&[notify(3, "0123456789")]).unwrap();
    assert!(!desk.serving.wants_input(), "by bytes");
    desk.serving.notification_done(10);
    assert!(desk.serving.wants_input());
}

#[test]
fn pushes_have_ids_of_their_own_and_bounds() {
    let mut desk = desk(Bounds { send: 20, held_bytes: 60, ..bounds() });
    let push = |n: u64, part: &'static str| Frame::Message {
        head: Head::Push { id: PUSH_BIT + n },
        total: None,
        part: part.into(),
    };
    desk.serving.push(&"one".into()).unwrap();
    desk.serving.push(&"two".into()).unwrap();
    assert_eq!(desk.sent(), [push(1, "one"), push(2, "two")]);
    let too_long = desk.serving.push(&vec![0; 21].into());
    assert_eq!(too_long, Err(NotPushed::TooLong { limit: 20 }));
    let pushed = (0..9).map(|_| desk.serving.push(&vec![0; 20].into()));
    let pushed: Vec<_> = pushed.collect();
    let room = pushed.iter().take_while(|pushed| pushed.is_ok()).count();
    assert!(room < 4 && pushed[room..].iter().all(|pushed| *pushed == Err(NotPushed::Full)));
}

#[test]
fn a_reply_that_the_client_does_not_take_becomes_an_error() {
    let mut desk = desk(Bounds { send: 4, ..bounds() });
    desk.hear(&[request(1, ""), request(2, "")]).unwrap();
    desk.reply(1, "1234");
    desk.reply(2, "12345");
    let text = "reply of 5 bytes exceeds the limit of 4".into();
    let error = Frame::Error { id: 2, code: ErrorReply::REPLY_TOO_LONG, text };
    assert_eq!(desk.sent(), [reply(1, "1234"), error]);
}

#[test]
fn notifications_are_handed_over_short_and_long_and_not_answered() {
    let mut desk = desk(bounds());
    let long = begun(Head::Notify { id: 1 }, 10);
    let events = desk.hear(&[long, notify(2, "short"), rest(1, "ends")]).unwrap();
    assert_eq!(words(&events), ["note short", "note beginsends"]);
    assert!(desk.sent().is_empty());
    desk.serving.notification_done("short".len());
    desk.serving.notification_done("beginsends".len());
    assert!(desk.serving.is_empty());
}

#[test]
fn a_loss_stops_everything_and_leaves_nothing() {
    let mut desk = desk(bounds());
    desk.hear(&[request(1, "a"), request(2, "b"), begun(head(3), 10)]).unwrap();
    desk.reply(2, vec![0; 100_000]);
    desk.serving.push(&"unsent".into()).unwrap();
    let loss = Arc::new(Loss::example(LossCause::ClosedByPeer));
    desk.serving.lost(&loss, &mut desk.effects);
    let mut stopped = words(&std::mem::take(&mut desk.effects.events));
    stopped.sort();
    assert!(stopped.contains(&"orphan 1".into()), "{stopped:?}");
    desk.reply(1, "nobody hears it");
    assert_eq!(desk.serving.push(&"nor this".into()), Err(NotPushed::Gone));
    assert!(desk.serving.is_empty());
}

#[test]
fn a_client_that_says_goodbye_changes_nothing_unless_it_complains() {
    let mut desk = desk(bounds());
    let goodbye =
        |code| Frame::GoAway(GoAway { code, accepted: 0, retry_after: None, text: "".into() });
    desk.hear(&[request(1, ""), goodbye(0), goodbye(77)]).unwrap();
    desk.reply(1, "");
    assert_eq!(desk.sent(), [reply(1, "")]);
    assert!(matches!(desk.hear(&[goodbye(2)]), Err(LossCause::SentAway(_))));
}

/// Otherwise a client could have more calls worked on than it may, all under one id.
#[test]
fn the_id_of_a_cancelled_call_is_in_use_until_its_handler_has_ended() {
    let mut desk = desk(bounds());
    let events = desk.hear(&[request(1, "a"), Frame::Cancel { id: 1 }]).unwrap();
    assert_eq!(words(&events), ["run 1 a", "stop 1"]);
    desk.reply(1, "A");
    let events = desk.hear(&[request(1, "b"), Frame::Cancel { id: 1 }]).unwrap();
    assert_eq!(words(&events), ["run 1 b", "stop 1"]);
    let error = desk.hear(&[request(1, "c")]).unwrap_err();
    assert_eq!(error, Violation::IdInUse { id: 1 }.into());
}

/// Half of it came before, half of it after the client had come back.
#[test]
fn a_request_whose_last_part_comes_behind_the_fence_is_not_run() {
    for head in [head(1), Head::Notify { id: 1 }] {
        let mut desk = desk(bounds());
        desk.hear(&[begun(head, 11)]).unwrap();
        desk.serving.fence();
        let events = desk.hear(&[rest(1, " late"), request(1, "whole")]).unwrap();
        assert_eq!(words(&events), [""; 0]);
    }
}
