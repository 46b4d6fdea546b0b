//! The calling end as tables: (time, event) in, answers and frames out. No runtime, no socket.

#![allow(clippy::disallowed_methods)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use bytes::BytesMut;

use super::*;
use crate::proto::frame::next_payload;
use crate::proto::head::{MAX_PART, Position};

mod answers;
mod going_away;

const LIMIT: usize = 1_000_000;
const MINUTE: u64 = 60_000;

/// A client's session and what its shell would keep.
struct Desk {
    client: Client,
    start: Instant,
    effects: Effects<Event>,
    out: VecDeque<Bytes>,
    woken: Arc<Wakes>,
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn desk() -> Desk {
    let start = Instant::now();
    let bounds = Bounds { send: LIMIT, receive: LIMIT, queued_bytes: 2 * LIMIT };
    let client = Client::new(start, policy::Heartbeat::default(), None, bounds);
    let (effects, out, woken) = (Effects::default(), VecDeque::new(), Arc::default());
    Desk { client, start, effects, out, woken }
}

impl Desk {
    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    /// Starts a call at the time 0.
    fn start(&mut self, id: u64, kind: Kind, body: &Bytes, timeout: u64) -> Result<(), NotTaken> {
        let start =
            Start { id, kind, head: &[], body, deadline: self.at(timeout), oldest: 1, place: None };
        self.client.start(self.start, &start, &Waker::from(self.woken.clone()))
    }

    fn request(&mut self, id: u64, body: impl Into<Bytes>) {
        let kind = Kind::Request { repeatable: false, resent: false };
        self.start(id, kind, &body.into(), MINUTE).unwrap();
    }

    fn notify(&mut self, id: u64, body: impl Into<Bytes>) {
        self.start(id, Kind::Notification, &body.into(), MINUTE).unwrap();
    }

    /// Hands everything to the shell that it takes, and has so many bytes of it accepted. Says how many are left.
    fn write(&mut self, bytes: usize) -> usize {
        self.client.transmit(self.start, &mut self.out);
        let whole: usize = self.out.iter().map(Bytes::len).sum();
        let mut left = bytes.min(whole);
        self.client.written(self.start, left, &mut self.effects);
        while left > 0 {
            let first = &mut self.out[0];
            let piece = left.min(first.len());
            let _ = first.split_to(piece);
            left -= piece;
            if first.is_empty() {
                self.out.pop_front();
            }
        }
        whole - bytes.min(whole)
    }

    /// The frames that go out until there are no more, all accepted.
    fn sent(&mut self) -> Vec<Frame> {
        let mut bytes = BytesMut::new();
        loop {
            self.client.transmit(self.start, &mut self.out);
            if self.out.is_empty() {
                break;
            }
            let mut count = 0;
            for piece in self.out.drain(..) {
                count += piece.len();
                bytes.extend_from_slice(&piece);
            }
            self.client.written(self.start, count, &mut self.effects);
        }
        let mut frames = Vec::new();
        while let Some(payload) = next_payload(&mut bytes).unwrap() {
            frames.push(Frame::decode(payload).unwrap());
        }
        frames
    }

    fn hear(&mut self, frames: &[Frame]) -> Result<(), LossCause> {
        let mut input = Input::default();
        frames.iter().for_each(|frame| frame.encode(&mut input.bytes));
        self.client.received(self.start, &mut input, &mut self.effects)
    }

    /// What became of a call; `None` while that is open.
    fn answer(&mut self, id: u64) -> Option<Answer> {
        match self.client.poll(id, &Waker::from(self.woken.clone())).0 {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        }
    }

    fn wakes(&mut self) -> usize {
        self.effects.wake.drain(..).for_each(Waker::wake);
        self.woken.0.swap(0, Ordering::Relaxed)
    }

    fn lose(&mut self) -> Arc<Loss> {
        let loss = Arc::new(Loss::example(LossCause::ClosedByPeer));
        self.client.lost(&loss, &mut self.effects);
        loss
    }
}

fn reply(id: u64, body: &'static str) -> Frame {
    Frame::Message { head: Head::Reply { id }, total: None, part: body.into() }
}

/// The first frame of a long reply of twice its length.
fn long_reply(id: u64, part: &'static str) -> Frame {
    let total = Some(2 * part.len() as u32);
    Frame::Message { head: Head::Reply { id }, total, part: part.into() }
}

fn rest(id: u64, part: &'static str) -> Frame {
    Frame::Chunk { id, position: Position::Last, part: part.into() }
}

/// `(kind, id)` of frames that have an id.
fn ids(frames: &[Frame]) -> Vec<(&'static str, u64)> {
    let id = |frame: &Frame| match frame {
        Frame::Message { head, .. } => head.id(),
        Frame::Chunk { id, .. } | Frame::Cancel { id } => *id,
        other => panic!("{other:?} has no id"),
    };
    frames.iter().map(|frame| (frame.name(), id(frame))).collect()
}

fn id(frame: &Frame) -> u64 {
    ids(std::slice::from_ref(frame))[0].1
}

#[test]
fn a_deadline_settles_a_call_and_what_the_server_has_seen_it_is_told_to_stop() {
    let mut desk = desk();
    let kind = Kind::Request { repeatable: false, resent: false };
    desk.start(1, kind, &"sent".into(), 100).unwrap();
    desk.sent();
    desk.start(2, kind, &"queued".into(), 200).unwrap();
    desk.start(3, kind, &"patient".into(), MINUTE).unwrap();
    assert_eq!(desk.client.next_deadline(), Some(desk.at(100)));
    for (now, first, second) in [
        (99, None, None),
        (
            100,
            Some(Answer::Expired { sent: true, stage: Stage::Reply, vacancy: Vacancy::Now }),
            None,
        ),
        (199, None, None),
        (
            200,
            None,
            Some(Answer::Expired { sent: false, stage: Stage::Sending, vacancy: Vacancy::Now }),
        ),
    ] {
        desk.client.timeout(desk.at(now), &mut desk.effects).unwrap();
        assert_eq!((desk.answer(1), desk.answer(2)), (first, second), "at {now}");
    }
    // The second never left, so nobody needs to hear of it.
    assert_eq!(ids(&desk.sent()), [("CANCEL", 1), ("REQUEST", 3)]);
}

#[test]
fn remaining_time_is_rounded_up_and_never_sent_as_no_deadline() {
    let mut desk = desk();
    let kind = Kind::Request { repeatable: true, resent: true };
    for (id, micros) in [(1, 0), (2, 1), (3, 1000), (4, 1001)] {
        let deadline = desk.start + Duration::from_micros(micros);
        let start =
            Start { id, kind, head: &[], body: &Bytes::new(), deadline, oldest: 1, place: None };
        desk.client.start(desk.start, &start, Waker::noop()).unwrap();
    }
    let remaining = desk.sent().into_iter().map(|frame| match frame {
        Frame::Message { head: Head::Request(head), .. } => {
            assert!(head.repeatable && head.resent);
            head.remaining
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(remaining.collect::<Vec<_>>(), [1, 1, 1, 2]);
}

#[test]
fn who_gives_up_is_forgotten_and_the_server_hears_of_it_only_if_it_has_seen_something() {
    let mut desk = desk();
    let long = Bytes::from(vec![0; 8 * MAX_PART]);
    desk.request(1, "never leaves");
    assert!(desk.client.abandon(1).is_some());
    assert!(desk.sent().is_empty());
    desk.request(2, "leaves");
    desk.sent();
    assert!(desk.client.abandon(2).is_some());
    assert_eq!(ids(&desk.sent()), [("CANCEL", 2)]);
    desk.request(3, long.clone());
    desk.write(10);
    assert!(desk.client.abandon(3).is_some());
    let rest = desk.write(usize::MAX);
    assert_eq!(rest, 0);
    assert!(desk.client.abandon(3).is_none(), "gone already");
    desk.sent();
    assert!(desk.client.is_empty());
}

#[test]
fn a_lost_call_was_sent_exactly_if_its_last_byte_was_accepted() {
    let small = 26 + 4;
    for written in 0..=2 * small {
        let mut desk = desk();
        (1..=2).for_each(|id| desk.request(id, "body"));
        desk.write(written);
        let loss = desk.lose();
        assert_eq!(desk.wakes(), 2);
        for id in [1, 2] {
            let sent = written >= id as usize * small;
            assert_eq!(
                desk.answer(id),
                Some(Answer::Lost { sent, loss: loss.clone() }),
                "{written}"
            );
        }
        assert!(desk.client.is_empty());
    }
    let length = 26 + 4 + MAX_PART + 14 + 1;
    for (written, sent) in [(length - 1, false), (length, true)] {
        let mut desk = desk();
        desk.request(1, vec![0; MAX_PART + 1]);
        desk.write(written);
        let loss = desk.lose();
        assert_eq!(desk.answer(1), Some(Answer::Lost { sent, loss }));
    }
}

#[test]
fn a_notification_is_done_when_its_last_byte_was_accepted() {
    let mut desk = desk();
    desk.notify(1, "note");
    let length = 14 + 4;
    desk.write(length - 1);
    assert_eq!(desk.answer(1), None);
    desk.write(1);
    assert_eq!((desk.wakes(), desk.answer(1)), (1, Some(Answer::Written)));
    desk.notify(2, vec![0; 100_000]);
    desk.notify(3, "overtakes");
    desk.sent();
    assert_eq!(desk.answer(2), Some(Answer::Written));
    assert_eq!(desk.answer(3), Some(Answer::Written));
    assert!(desk.client.is_empty());
}

#[test]
fn what_is_too_much_is_not_taken() {
    let mut desk = desk();
    let kind = Kind::Request { repeatable: false, resent: false };
    let too_long = Bytes::from(vec![0; LIMIT + 1]);
    let longest = too_long.slice(1..);
    let not_taken = desk.start(1, kind, &too_long, MINUTE);
    assert_eq!(not_taken, Err(NotTaken::TooLong { limit: LIMIT }));
    desk.start(2, kind, &longest, MINUTE).unwrap();
    desk.start(3, kind, &longest, MINUTE).unwrap();
    let not_taken = desk.start(4, kind, &"x".into(), MINUTE);
    assert_eq!(not_taken, Err(NotTaken::Full { limit: 2 * LIMIT }));
    desk.client.abandon(2);
    desk.start(5, kind, &"x".into(), MINUTE).unwrap();
    desk.lose();
    assert!(matches!(desk.start(6, kind, &Bytes::new(), MINUTE), Err(NotTaken::Gone(Some(_)))));
}

#[test]
fn pushes_are_reported_short_and_long() {
    let mut desk = desk();
    let push = |n: u64, total, part: &'static str| Frame::Message {
        head: Head::Push { id: PUSH_BIT + n },
        total,
        part: part.into(),
    };
    desk.hear(&[push(1, Some(4), "ab"), push(2, None, "short"), rest(PUSH_BIT + 1, "cd")]).unwrap();
    let bodies = desk.effects.events.drain(..).map(|event| match event {
        Event::Push(body) => body,
        other => panic!("{other:?}"),
    });
    assert_eq!(bodies.collect::<Vec<_>>(), ["short", "abcd"]);
    let low = Frame::Message { head: Head::Push { id: 5 }, total: None, part: Bytes::new() };
    assert_eq!(desk.hear(&[low]), Err(Violation::IdOutOfRange { id: 5 }.into()));
}

#[test]
fn a_drained_client_is_finished_when_its_last_call_is_settled() {
    let mut desk = desk();
    desk.request(1, "body");
    desk.client.drain();
    assert!(!desk.client.is_finished());
    desk.sent();
    assert!(!desk.client.is_finished());
    desk.hear(&[reply(1, "one")]).unwrap();
    assert!(desk.client.is_finished());
}

#[test]
fn a_hundred_thousand_cancelled_and_timed_out_calls_leave_the_tables_empty() {
    let mut desk = desk();
    let mut rng = fastrand::Rng::with_seed(3);
    let (mut open, mut seen, mut now) = (Vec::new(), VecDeque::new(), 0);
    let (mut replied, mut expired, mut given_up) = (0, 0, 0);
    for id in 1..=100_000u64 {
        let (kind, body) =
            (Kind::Request { repeatable: false, resent: false }, Bytes::from(id.to_string()));
        desk.start(id, kind, &body, now + rng.u64(1..200)).unwrap();
        open.push(id);
        if rng.u8(..) < 100 {
            seen.extend(desk.sent().iter().filter(|frame| frame.name() == "REQUEST").map(self::id));
        }
        if rng.u8(..) < 60 {
            let gone = open.swap_remove(rng.usize(..open.len()));
            desk.client.abandon(gone);
            given_up += 1;
        }
        // Late, twice, and out of order.
        for _ in 0..rng.usize(..3) {
            if let Some(some) = seen.get(rng.usize(..seen.len().max(1))).copied() {
                let head = Head::Reply { id: some };
                let part = some.to_string().into();
                desk.hear(&[Frame::Message { head, total: None, part }]).unwrap();
            }
        }
        seen.drain(..seen.len().saturating_sub(60));
        now += rng.u64(..2);
        desk.client.timeout(desk.at(now), &mut desk.effects).unwrap();
        desk.effects.wake.clear();
        open.retain(|open| match desk.answer(*open) {
            None => true,
            Some(Answer::Reply(body)) => {
                assert_eq!(body, open.to_string());
                replied += 1;
                false
            }
            Some(Answer::Expired { .. }) => {
                expired += 1;
                false
            }
            Some(other) => panic!("{other:?}"),
        });
    }
    assert!(replied > 10_000 && expired > 10_000 && given_up > 10_000, "{replied} {expired}");
    open.drain(..).for_each(|id| _ = desk.client.abandon(id));
    desk.sent();
    assert!(desk.client.is_empty());
    assert!(desk.client.line.outgoing.is_empty());
    assert_eq!(desk.client.line.outgoing.queued_bytes(), 0);
}
