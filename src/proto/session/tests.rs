//! Both ends of one connection, joined by a simulated line that cuts, delays and loses bytes as it likes: each call
//! settles exactly once, never with another's reply, and says truthfully whether it ran. And: no bytes and no times make
//! either end panic.

#![allow(clippy::disallowed_methods)]

use std::collections::{HashMap, HashSet};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::error::answer::{ErrorReply, Refusal};
use crate::policy;
use crate::proto::calling::{self, Calling as _, Kind, Start};
use crate::proto::calls::Answer;
use crate::proto::client::Client;
use crate::proto::head::{Head, Position, RequestHead};
use crate::proto::native::{Frame, PUSH_BIT};
use crate::proto::replies::Response;
use crate::proto::serving::{self, Serving};

mod hostile;
mod idle;

const LONGEST: usize = 300_000;

/// One end with its half of the line.
struct End<S: Session> {
    session: S,
    effects: Effects<S::Event>,
    /// Handed over by the session, not accepted by the line.
    out: VecDeque<Bytes>,
    /// On the line, not arrived at the other end.
    line: BytesMut,
    /// Arrived here, not taken.
    input: Input,
}

impl<S: Session> End<S> {
    fn new(session: S) -> Self {
        let (out, line, input) = (VecDeque::new(), BytesMut::new(), Input::default());
        Self { session, effects: Effects::default(), out, line, input }
    }

    /// The line accepts up to so many bytes.
    fn write(&mut self, now: Instant, mut most: usize) -> usize {
        self.session.transmit(now, &mut self.out);
        let mut count = 0;
        while let Some(first) = self.out.front_mut().filter(|_| most > 0) {
            let piece = first.split_to(most.min(first.len()));
            most -= piece.len();
            count += piece.len();
            self.line.extend_from_slice(&piece);
            if first.is_empty() {
                self.out.pop_front();
            }
        }
        if count > 0 {
            self.session.written(now, count, &mut self.effects);
        }
        count
    }

    /// Up to so many bytes arrive.
    fn read(&mut self, now: Instant, from: &mut BytesMut, most: usize) -> usize {
        let count = most.min(from.len());
        self.input.bytes.extend_from_slice(&from.split_to(count));
        if count > 0 {
            self.session.received(now, &mut self.input, &mut self.effects).expect("no violation");
        }
        count
    }
}

/// What became of a call, as the test sees it.
#[derive(Debug, Default)]
struct Record {
    answers: Vec<Answer>,
    given_up: bool,
    length: usize,
    is_notification: bool,
}

struct World {
    now: Instant,
    client: End<Client>,
    server: End<Serving>,
    calls: HashMap<u64, Record>,
    /// Handed to the server's handlers and not answered or cancelled.
    running: Vec<(u64, Bytes)>,
    ran: HashSet<u64>,
    notified: Vec<u64>,
    pushed: Vec<Bytes>,
    push_ids: u64,
    next_id: u64,
}

/// What can happen. Numbers choose among what is there.
#[derive(Debug, Clone)]
enum Step {
    Request { length: usize, timeout: u64 },
    Notify { length: usize },
    GiveUp(usize),
    Poll(usize),
    Answer { which: usize, how: u8 },
    Push { length: usize },
    ClientWrites(usize),
    ServerWrites(usize),
    ClientReads(usize),
    ServerReads(usize),
    Wait(u64),
    GoAway,
}

fn step() -> impl Strategy<Value = Step> {
    let length = || {
        prop_oneof![
            6 => 8usize..100,
            2 => 15_000usize..70_000,
            1 => 65_500usize..65_600,
            1 => 100_000..LONGEST,
        ]
    };
    let bytes = || prop_oneof![1usize..40, 40usize..5_000, Just(usize::MAX), Just(usize::MAX)];
    prop_oneof![
        8 => (length(), 1u64..3000).prop_map(|(length, timeout)| Step::Request { length, timeout }),
        1 => length().prop_map(|length| Step::Notify { length }),
        2 => any::<usize>().prop_map(Step::GiveUp),
        2 => any::<usize>().prop_map(Step::Poll),
        6 => (any::<usize>(), any::<u8>()).prop_map(|(which, how)| Step::Answer { which, how }),
        1 => length().prop_map(|length| Step::Push { length }),
        6 => bytes().prop_map(Step::ClientWrites),
        6 => bytes().prop_map(Step::ServerWrites),
        6 => bytes().prop_map(Step::ClientReads),
        6 => bytes().prop_map(Step::ServerReads),
        2 => (0u64..300).prop_map(Step::Wait),
        1 => Just(Step::GoAway),
    ]
}

/// A body that tells whose it is, all the way.
fn body(id: u64, length: usize) -> Bytes {
    let mut bytes = id.to_be_bytes().repeat(length / 8 + 1);
    bytes.truncate(length);
    bytes.into()
}

fn owner(body: &Bytes) -> u64 {
    let id = u64::from_be_bytes(body[..8].try_into().unwrap());
    assert_eq!(*body, self::body(id, body.len()), "a mixed body");
    id
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        // The bounds are never met here; the tables of either end show what happens then.
        let hour = Duration::from_secs(3600);
        let heartbeat = policy::Heartbeat::every(hour).give_up_after(hour);
        let bounds = calling::Bounds { send: LONGEST, receive: LONGEST, queued_bytes: usize::MAX };
        let client = Client::new(now, heartbeat, None, bounds);
        let bounds = serving::Bounds {
            send: LONGEST,
            receive: LONGEST,
            in_flight: 20,
            held_bytes: usize::MAX,
            idle_limit: None,
        };
        let serving = Serving::new(now, heartbeat, None, bounds);
        Self {
            now,
            client: End::new(client),
            server: End::new(serving),
            calls: HashMap::new(),
            running: Vec::new(),
            ran: HashSet::new(),
            notified: Vec::new(),
            pushed: Vec::new(),
            push_ids: 0,
            next_id: 1,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Request { length, timeout } => {
                let kind = Kind::Request { repeatable: false, resent: false };
                self.start(kind, length, timeout);
            }
            Step::Notify { length } => self.start(Kind::Notification, length, 3_600_000),
            Step::GiveUp(which) => {
                if let Some(id) = pick(&self.open(), which) {
                    self.client.session.abandon(id);
                    self.calls.get_mut(&id).unwrap().given_up = true;
                }
            }
            Step::Poll(which) => {
                if let Some(id) = pick(&self.open(), which) {
                    self.poll(id);
                }
            }
            Step::Answer { which, how } => self.answer(which, how),
            Step::Push { length } => {
                self.push_ids += 1;
                let body = body(self.push_ids, length);
                if self.server.session.push(&body).is_err() {
                    self.push_ids -= 1;
                }
            }
            Step::ClientWrites(most) => _ = self.client.write(self.now, most),
            Step::ServerWrites(most) => _ = self.server.write(self.now, most),
            Step::ClientReads(most) => _ = self.client_reads(most),
            Step::ServerReads(most) => _ = self.server_reads(most),
            Step::Wait(ms) => self.wait(ms),
            Step::GoAway => self.server.session.go_away(0, None, "closing"),
        }
    }

    fn start(&mut self, kind: Kind, length: usize, timeout: u64) {
        let id = self.next_id;
        let deadline = self.now + Duration::from_millis(timeout);
        let start = Start {
            id,
            kind,
            head: &[],
            body: &body(id, length),
            deadline,
            oldest: 1,
            place: None,
        };
        if self.client.session.start(self.now, &start, Waker::noop()).is_ok() {
            self.next_id += 1;
            let is_notification = kind == Kind::Notification;
            self.calls.insert(id, Record { length, is_notification, ..Record::default() });
        }
    }

    /// Calls whose end nobody has seen.
    fn open(&self) -> Vec<u64> {
        let is_open = |record: &Record| record.answers.is_empty() && !record.given_up;
        let mut open: Vec<_> =
            self.calls.iter().filter(|(_, record)| is_open(record)).map(|(id, _)| *id).collect();
        open.sort_unstable();
        open
    }

    fn poll(&mut self, id: u64) {
        if let (Poll::Ready(answer), _) = self.client.session.poll(id, Waker::noop()) {
            self.calls.get_mut(&id).unwrap().answers.push(answer);
        }
    }

    fn answer(&mut self, which: usize, how: u8) {
        if self.running.is_empty() {
            return;
        }
        let (id, body) = self.running.swap_remove(which % self.running.len());
        let serving = &mut self.server.session;
        match how {
            0..20 => {
                serving.respond(self.now, id, &Response::Error(ErrorReply::new(id as u32, "no")))
            }
            20..40 => {
                let refusal = Refusal { code: Refusal::EXPIRED, retry_after: None };
                serving.respond(self.now, id, &Response::Refused(refusal));
            }
            _ => serving.respond(self.now, id, &Response::Reply(body)),
        }
    }

    fn client_reads(&mut self, most: usize) -> usize {
        let count = self.client.read(self.now, &mut self.server.line, most);
        for event in self.client.effects.events.drain(..) {
            if let calling::Event::Push(body) = event {
                self.pushed.push(body);
            }
        }
        count
    }

    fn server_reads(&mut self, most: usize) -> usize {
        let count = self.server.read(self.now, &mut self.client.line, most);
        self.happened();
        count
    }

    fn happened(&mut self) {
        for event in std::mem::take(&mut self.server.effects.events) {
            match event {
                serving::Event::Request { id, body, .. } => {
                    assert_eq!((owner(&body), body.len()), (id, self.calls[&id].length));
                    assert!(self.ran.insert(id), "{id} ran twice");
                    self.running.push((id, body));
                }
                serving::Event::Notification { body } => {
                    self.notified.push(owner(&body));
                    self.server.session.notification_done(body.len());
                }
                serving::Event::Cancelled { id } | serving::Event::Orphaned { id } => {
                    self.running.retain(|(other, _)| *other != id);
                    // Its handler ends, too.
                    self.server.session.respond(self.now, id, &Response::Reply(Bytes::new()));
                }
            }
        }
    }

    fn wait(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.client.session.timeout(self.now, &mut self.client.effects).unwrap();
        self.server.session.timeout(self.now, &mut self.server.effects).unwrap();
    }

    /// Everything arrives and everything is answered.
    fn finish(&mut self) {
        loop {
            while !self.running.is_empty() {
                self.answer(0, 255);
            }
            let mut moved = self.client.write(self.now, usize::MAX);
            moved += self.server_reads(usize::MAX);
            moved += self.server.write(self.now, usize::MAX);
            moved += self.client_reads(usize::MAX);
            if moved == 0 && self.running.is_empty() {
                break;
            }
        }
    }

    fn cut(&mut self) {
        let loss = Arc::new(Loss::example(LossCause::ClosedByPeer));
        // What has arrived by then was read.
        self.server.session.lost(&loss, &mut self.server.effects);
        self.client.session.lost(&loss, &mut self.client.effects);
        self.happened();
    }

    fn check(&mut self) {
        for id in self.open() {
            self.poll(id);
        }
        for (id, record) in &self.calls {
            let settled = record.answers.len() + usize::from(record.given_up);
            assert_eq!(settled, 1, "call {id}");
            let ran = self.ran.contains(id) || self.notified.contains(id);
            match record.answers.first() {
                Some(Answer::Reply(reply)) => {
                    assert_eq!((owner(reply), reply.len()), (*id, record.length));
                }
                Some(Answer::Error(error)) => assert_eq!(u64::from(error.code()), *id),
                Some(Answer::SentAway { .. }) => assert!(!ran, "{id} was sent away, and ran"),
                Some(Answer::Expired { sent: false, .. } | Answer::Lost { sent: false, .. }) => {
                    assert!(!ran, "{id} was not sent, and ran");
                }
                Some(Answer::Written) => assert!(record.is_notification),
                Some(Answer::Refused(_) | Answer::Expired { .. } | Answer::Lost { .. }) | None => {}
            }
        }
        for (number, push) in self.pushed.iter().enumerate() {
            let others = &self.pushed[number + 1..];
            assert!(!others.iter().any(|other| owner(other) == owner(push)), "pushed twice");
        }
        assert!(self.running.is_empty());
        assert!(self.client.session.is_empty());
        assert!(self.server.session.is_empty());
    }
}

fn pick(open: &[u64], which: usize) -> Option<u64> {
    open.get(which.checked_rem(open.len())?).copied()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn each_call_settles_once_with_its_own_reply_and_the_truth(
        steps in prop::collection::vec(step(), 1..150),
        is_cut in any::<bool>(),
    ) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        if is_cut {
            world.cut();
        } else {
            world.finish();
            // Calls beyond a goodbye, and those whose cancellation crossed their answer, have been settled by now.
            prop_assert_eq!(world.pushed.len() as u64, world.push_ids);
        }
        world.check();
    }
}
