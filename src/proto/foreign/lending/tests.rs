//! A connection that is lent: what its end leaves behind, and what never reaches the next.

#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use super::*;
use crate::error::loss::LossCause;
use crate::error::violation::Violation;
use crate::policy::Heartbeat;
use crate::proto::calling::{Bounds, Calling as _, Event};
use crate::proto::framing::Framing;
use crate::proto::input::Input;
use crate::proto::ordered::Ordered;
use crate::proto::session::{Effects, Session as _};
use crate::proto::speech::Speech;

const BOUNDS: Bounds = Bounds { send: 1000, receive: 1000, queued_bytes: 1000 };
const EVERY: Duration = Duration::from_secs(5);

/// A connection, and the wire that it is on.
struct Bench {
    session: Foreign,
    speech: Arc<Speech>,
    input: Input,
    effects: Effects<Event>,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        let heartbeat = Heartbeat::every(EVERY).give_up_after(2 * EVERY);
        let dialect = Ordered::new(Framing::u8()).heartbeat("ping");
        let speech = Arc::new(Speech::new(Box::new(dialect), 1000).unwrap());
        let session = Foreign::new(now, heartbeat, speech.clone(), BOUNDS);
        Self { session, speech, input: Input::default(), effects: Effects::default(), now }
    }

    /// What the owner does outside of the lock.
    fn read(&mut self, bytes: &[u8]) {
        self.input.bytes.extend_from_slice(bytes);
        self.speech.read(&mut self.input);
    }

    /// What it does with the lock.
    fn tell(&mut self) -> Result<(), LossCause> {
        self.session.received(self.now, &mut self.input, &mut self.effects)
    }

    fn arrive(&mut self, bytes: &[u8]) -> Result<(), LossCause> {
        self.read(bytes);
        self.tell()
    }

    fn lend(&mut self) {
        self.session.lend().unwrap();
    }

    fn queue(&mut self, frame: &'static str) {
        let spoken = self.speech.plain(frame.into()).unwrap();
        self.session.send(&spoken).unwrap();
    }

    /// What is written; so many bytes of it are accepted.
    fn write(&mut self, most: usize) -> Vec<u8> {
        let mut out = VecDeque::new();
        self.session.transmit(self.now, &mut out);
        let bytes: Vec<u8> = out.into_iter().flatten().collect();
        self.session.written(self.now, most.min(bytes.len()), &mut self.effects);
        bytes
    }

    fn send(&mut self, frame: &'static str) {
        self.queue(frame);
        self.write(usize::MAX);
    }

    fn take(&mut self) -> Option<Bytes> {
        match self.session.poll_frame(Waker::noop()).0 {
            Poll::Ready(frame) => Some(frame.unwrap()),
            Poll::Pending => None,
        }
    }

    fn take_two(&mut self) -> [Bytes; 2] {
        [self.take(), self.take()].map(Option::unwrap)
    }

    /// Until the ping has gone out.
    fn ping(&mut self) {
        self.now += EVERY;
        self.session.timeout(self.now, &mut self.effects).unwrap();
        assert_eq!(self.write(usize::MAX), b"\x04ping");
    }

    fn lose(&mut self) {
        let loss = Arc::new(Loss::example(LossCause::ClosedByPeer));
        self.session.lost(&loss, &mut self.effects);
    }
}

#[test]
fn a_conversation_is_over_when_nothing_of_it_can_reach_the_next() {
    use Condition::{Clean, Dead, Spoiled};
    use Handback::{Broken, Dropped, GivenBack};
    type Deed = fn(&mut Bench);
    let answered = |bench: &mut Bench| {
        bench.send("a");
        bench.arrive(b"\x01A").unwrap();
        assert_eq!(bench.take().unwrap(), "A");
    };
    let two_at_once = |bench: &mut Bench| {
        bench.send("a");
        bench.send("b");
        bench.arrive(b"\x01A\x01B").unwrap();
        assert_eq!(bench.take_two(), ["A", "B"]);
    };
    let not_read = |bench: &mut Bench| {
        bench.send("a");
        bench.arrive(b"\x01A").unwrap();
    };
    let part_of_a_frame = |bench: &mut Bench| {
        bench.send("a");
        bench.arrive(b"\x01A\x02B").unwrap();
        bench.take().unwrap();
    };
    let written_in_part = |bench: &mut Bench| {
        bench.queue("abc");
        bench.write(3);
    };
    let answered_too_soon = |bench: &mut Bench| {
        bench.queue("abc");
        bench.write(3);
        bench.arrive(b"\x01A").unwrap();
        bench.take().unwrap();
    };
    let two_for_one = |bench: &mut Bench| {
        bench.send("a");
        bench.arrive(b"\x01A\x01B").unwrap();
        assert_eq!(bench.take_two(), ["A", "B"]);
    };
    let before_the_first = |bench: &mut Bench| {
        bench.arrive(b"\x01A").unwrap();
        bench.take().unwrap();
        bench.send("a");
    };
    // What was done; what comes of it if the lease is dropped, given back, or marked as broken.
    let cases: &[(&str, Deed, [Condition; 3])] = &[
        ("nothing", |_| {}, [Clean, Clean, Spoiled]),
        ("answered", answered, [Clean, Clean, Spoiled]),
        ("two answered at once", two_at_once, [Clean, Clean, Spoiled]),
        ("not answered", |bench| bench.send("a"), [Spoiled, Clean, Spoiled]),
        ("not read", not_read, [Spoiled; 3]),
        ("a part of a frame", part_of_a_frame, [Spoiled; 3]),
        ("not written", |bench| bench.queue("a"), [Spoiled; 3]),
        ("written in part", written_in_part, [Spoiled; 3]),
        ("answered before all of it was written", answered_too_soon, [Spoiled; 3]),
        ("two frames for one", two_for_one, [Spoiled, Clean, Spoiled]),
        ("a frame before the first was sent", before_the_first, [Spoiled, Clean, Spoiled]),
        ("drained", |bench| bench.session.drain(), [Spoiled; 3]),
        ("dead", Bench::lose, [Dead; 3]),
        ("departed", |bench| bench.session.depart().unwrap(), [Spoiled; 3]),
    ];
    for (what, deed, expected) in cases {
        let conditions = [Dropped, GivenBack, Broken].map(|handback| {
            let mut bench = Bench::new();
            bench.lend();
            deed(&mut bench);
            bench.session.end(handback).0
        });
        assert_eq!(conditions, *expected, "{what}");
    }
}

#[test]
fn a_connection_that_was_given_back_clean_can_be_lent_again() {
    let mut bench = Bench::new();
    for round in 0..3 {
        bench.lend();
        let Progress { queued, sent, received } = bench.session.progress();
        assert_eq!((queued, sent, received), (0, 0, 0), "{round}");
        bench.send("a");
        bench.arrive(b"\x01A").unwrap();
        assert_eq!(bench.take().unwrap(), "A");
        assert_eq!(bench.session.end(Handback::Dropped).0, Condition::Clean);
    }
}

#[test]
fn a_connection_that_is_lent_or_spoiled_is_not_lent() {
    let mut bench = Bench::new();
    bench.lend();
    assert!(bench.session.lend().is_err());
    let mut bench = Bench::new();
    bench.lend();
    bench.queue("a");
    bench.session.end(Handback::Dropped);
    assert!(bench.session.lend().is_err());
    // What still comes is nobody's, frame or not, and takes no room.
    bench.arrive(&[1, b'A', 200, 0, 0]).unwrap();
    assert!(bench.input.bytes.is_empty());
    bench.write(usize::MAX);
    assert!(bench.session.is_finished());
}

/// By itself, glued to the answer of the first request, and to a part of it.
#[test]
fn the_answer_to_a_ping_that_was_out_is_no_part_of_the_conversation() {
    for cut in [5, 7, 6, 4, 1] {
        let mut bench = Bench::new();
        bench.ping();
        bench.lend();
        bench.send("a");
        let (first, second) = b"\x04pong\x01A".split_at(cut);
        bench.arrive(first).unwrap();
        bench.arrive(second).unwrap();
        assert_eq!(bench.take().unwrap(), "A", "{cut}");
        bench.send("b");
        bench.arrive(b"\x01B").unwrap();
        assert_eq!(bench.take().unwrap(), "B", "{cut}");
        assert_eq!(bench.session.end(Handback::Dropped).0, Condition::Clean, "{cut}");
        // And the heartbeat goes on.
        bench.ping();
        bench.arrive(b"\x04pong").unwrap();
        bench.ping();
    }
}

#[test]
fn the_answer_to_a_ping_may_come_when_the_conversation_is_over() {
    let mut bench = Bench::new();
    bench.ping();
    bench.lend();
    assert_eq!(bench.session.end(Handback::Dropped).0, Condition::Clean);
    bench.lend();
    assert_eq!(bench.session.end(Handback::Dropped).0, Condition::Clean);
    bench.arrive(b"\x04pong").unwrap();
    bench.lend();
    assert_eq!(bench.take(), None);
}

#[test]
fn what_nobody_asked_for_between_two_leases_ends_the_connection() {
    for unasked in [&b"\x01X"[..], b"\x02X", b"\x00"] {
        let mut bench = Bench::new();
        bench.lend();
        assert_eq!(bench.session.end(Handback::Dropped).0, Condition::Clean);
        assert!(bench.arrive(unasked).is_err());
        assert!(bench.session.lend().is_err());
    }
}

/// The owner takes bytes apart before it has the lock: the lease can change meanwhile.
#[test]
fn what_was_read_under_one_lease_never_reaches_the_next() {
    let unasked = LossCause::from(Violation::Unasked);
    for late in [&b"\x01X"[..], b"\x03X", b"\x00"] {
        let mut bench = Bench::new();
        bench.lend();
        bench.read(late);
        assert_eq!(bench.session.end(Handback::Dropped).0, Condition::Clean);
        bench.lend();
        assert_eq!(bench.tell(), Err(unasked.clone()), "{late:?}");
        assert_eq!(bench.take(), None);
    }
    // Read while nobody had it, told when somebody has.
    for early in [&b"\x01X"[..], b"\x03X"] {
        let mut bench = Bench::new();
        bench.read(early);
        bench.lend();
        assert!(bench.tell().is_err(), "{early:?}");
        assert_eq!(bench.take(), None);
    }
}

#[test]
fn no_heartbeat_is_sent_and_no_silence_judged_while_it_is_lent() {
    let mut bench = Bench::new();
    bench.lend();
    for _ in 0..100 {
        bench.now = bench.session.next_deadline().unwrap().max(bench.now + EVERY / 2);
        bench.session.timeout(bench.now, &mut bench.effects).unwrap();
        assert_eq!(bench.write(usize::MAX), b"");
    }
    bench.session.probe(bench.now);
    assert_eq!(bench.write(usize::MAX), b"");
}

#[test]
fn a_short_lease_does_not_put_the_heartbeat_off() {
    let mut bench = Bench::new();
    let due = bench.now + EVERY;
    bench.lend();
    let alarm = bench.session.next_deadline().unwrap();
    assert!(alarm <= due, "the owner looks in time, whatever it hears of the lease");
    assert_eq!(bench.session.end(Handback::Dropped).0, Condition::Clean);
    bench.now = due;
    bench.session.timeout(bench.now, &mut bench.effects).unwrap();
    assert_eq!(bench.write(usize::MAX), b"\x04ping");
}

/// The return of a lease tells nobody: the owner looks by itself.
#[test]
fn silence_is_found_out_within_the_bound_after_a_long_lease() {
    let mut bench = Bench::new();
    bench.lend();
    let over = bench.now + 100 * EVERY;
    let mut alarm = bench.session.next_deadline().unwrap();
    // The owner is woken when it wished to be.
    let mut wake = |bench: &mut Bench| {
        bench.now = bench.now.max(alarm);
        let due = bench.session.next_deadline().is_some_and(|deadline| bench.now >= deadline);
        let judged = match due {
            true => bench.session.timeout(bench.now, &mut bench.effects),
            false => Ok(()),
        };
        let sent = bench.write(usize::MAX);
        alarm = bench.session.next_deadline().unwrap();
        judged.map(|()| sent)
    };
    while bench.now < over {
        assert_eq!(wake(&mut bench), Ok(Vec::new()));
    }
    assert_eq!(bench.session.end(Handback::Dropped).0, Condition::Clean);
    let returned = bench.now;
    let mut pings = 0;
    let cause = loop {
        match wake(&mut bench) {
            Ok(sent) => pings += usize::from(sent == b"\x04ping"),
            Err(cause) => break cause,
        }
    };
    assert!(matches!(cause, LossCause::Silent { .. }), "{cause:?}");
    assert_eq!(pings, 1);
    assert!(bench.now - returned <= 3 * EVERY, "{:?}", bench.now - returned);
}

#[test]
fn a_caller_who_does_not_read_stops_the_reading() {
    let mut bench = Bench::new();
    bench.lend();
    let mut frames = 0;
    // Also of frames without a byte there are not too many.
    while bench.session.wants_input() {
        bench.arrive(b"\x00").unwrap();
        frames += 1;
    }
    assert!(frames <= BOUNDS.receive, "{frames}");
    while bench.take().is_some() {}
    assert!(bench.session.wants_input());
    let long = [&[100][..], &[7; 100]].concat();
    let mut bytes = 0;
    while bench.session.wants_input() {
        bench.arrive(&long).unwrap();
        bytes += 100;
    }
    assert!(bytes <= BOUNDS.receive + 100, "{bytes}");
}

#[test]
fn what_was_sent_is_counted_when_its_last_byte_was_accepted() {
    let mut bench = Bench::new();
    bench.lend();
    bench.queue("abc");
    bench.queue("de");
    for (accepted, sent_by_then) in [(3, 0), (1, 1), (2, 1), (1, 2)] {
        bench.session.transmit(bench.now, &mut VecDeque::new());
        bench.session.written(bench.now, accepted, &mut bench.effects);
        let Progress { queued, sent, received } = bench.session.progress();
        assert_eq!((queued, sent, received), (2, sent_by_then, 0));
        assert_eq!(bench.session.poll_flushed(Waker::noop()).0.is_ready(), sent == 2);
    }
}

#[test]
fn what_had_arrived_before_the_end_is_received_before_the_error() {
    let mut bench = Bench::new();
    bench.lend();
    bench.send("a");
    bench.arrive(b"\x01A\x01B").unwrap();
    bench.lose();
    assert_eq!(bench.take_two(), ["A", "B"]);
    let ended = bench.session.poll_frame(Waker::noop()).0;
    assert!(matches!(ended, Poll::Ready(Err(Ended::Lost(_)))), "{ended:?}");
    let spoken = bench.speech.plain("b".into()).unwrap();
    assert!(matches!(bench.session.send(&spoken), Err(Ended::Lost(_))));
    // All that was sent had left.
    assert!(matches!(bench.session.poll_flushed(Waker::noop()).0, Poll::Ready(Ok(()))));
}

/// A waker is a part of somebody's task, and what its drop does is not known here.
#[test]
fn who_waits_at_the_end_of_a_conversation_is_dropped_by_whoever_has_released_the_lock() {
    let mut bench = Bench::new();
    bench.lend();
    let owned = Arc::new(Owned);
    assert!(bench.session.poll_frame(&Waker::from(owned.clone())).0.is_pending());
    let (_, spent) = bench.session.end(Handback::Broken);
    assert_eq!(Arc::strong_count(&owned), 2, "it is not dropped yet");
    drop(spent);
    assert_eq!(Arc::strong_count(&owned), 1);
}

struct Owned;

impl std::task::Wake for Owned {
    fn wake(self: Arc<Self>) {}
}
