//! Any sequence of calls, cancellations, time, partial writes and answers in pieces, against a server that answers each
//! request with its own body: nobody gets another's answer, every call settles once, every place is left once, and what is
//! said to be sent or not is what the server has seen.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
enum Act {
    Call {
        timeout: u64,
    },
    /// A caller looks, or goes away. Which one: the rest of a division.
    Poll(usize),
    Drop(usize),
    Pass(u64),
    Write(usize),
    /// The server answers one of its requests, in so many parts before the last.
    Answer {
        which: usize,
        parts: usize,
    },
    Push,
    GoAway,
    /// So many bytes of what the server has said arrive.
    Arrive(usize),
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1u64..20_000).prop_map(|timeout| Act::Call { timeout }),
        4 => any::<usize>().prop_map(Act::Poll),
        2 => any::<usize>().prop_map(Act::Drop),
        3 => (0u64..6000).prop_map(Act::Pass),
        4 => (0usize..40).prop_map(Act::Write),
        2 => Just(Act::Write(100_000)),
        5 => (any::<usize>(), 0usize..3).prop_map(|(which, parts)| Act::Answer { which, parts }),
        1 => Just(Act::Push),
        4 => (1usize..30).prop_map(Act::Arrive),
        3 => Just(Act::Arrive(100_000)),
    ]
}

struct Caller {
    name: u64,
    body: String,
    slot: usize,
}

/// The server, the callers, and the ledger of places.
struct World {
    desk: Desk,
    matching: Matching,
    callers: Vec<Caller>,
    free: Vec<usize>,
    calls: usize,
    /// What was said never to have left.
    not_sent: HashSet<String>,
    /// What has come to the server of a frame that is not whole.
    came: BytesMut,
    seen: HashSet<String>,
    unanswered: VecDeque<Seen>,
    most_unanswered: usize,
    said: BytesMut,
}

impl World {
    fn new(dialect: Plain) -> Self {
        let desk = desk(dialect);
        let places = desk.speech.ids().places().min(8);
        Self {
            desk,
            matching: dialect.matching,
            callers: Vec::new(),
            free: (0..places).collect(),
            calls: 0,
            not_sent: HashSet::new(),
            came: BytesMut::new(),
            seen: HashSet::new(),
            unanswered: VecDeque::new(),
            most_unanswered: 0,
            said: BytesMut::new(),
        }
    }

    fn act(&mut self, act: Act) -> Result<(), LossCause> {
        match act {
            Act::Call { timeout } => self.call(timeout),
            Act::Poll(which) => self.poll(which),
            Act::Drop(which) => self.drop_caller(which),
            Act::Pass(time) => self.desk.until(self.desk.now + time)?,
            Act::Write(bytes) => self.write(bytes),
            Act::Answer { which, parts } => self.answer(which, parts),
            Act::Push => self.said.extend_from_slice(&frame(b"!push")),
            Act::GoAway => self.said.extend_from_slice(&frame(b"g")),
            Act::Arrive(bytes) => {
                let bytes = self.said.split_to(bytes.min(self.said.len()));
                // The part of a push that comes while nothing is outstanding would be a violation.
                self.desk.hear_bytes(&bytes)?;
            }
        }
        for slot in self.desk.vacated() {
            self.release(slot);
        }
        Ok(())
    }

    fn call(&mut self, timeout: u64) {
        let Some(slot) = self.free.pop() else { return };
        self.calls += 1;
        // Some are long enough not to be copied.
        let body =
            format!("{}{}", self.calls, "x".repeat(if self.calls % 5 == 0 { 20_000 } else { 0 }));
        let kind = Kind::Request { repeatable: false, resent: false };
        match self.desk.begin(kind, &body, slot, timeout) {
            Ok(name) => self.callers.push(Caller { name, body, slot }),
            Err(NotTaken::Gone(_)) => self.release(slot),
            Err(not_taken) => panic!("{not_taken:?}"),
        }
    }

    fn poll(&mut self, which: usize) {
        if self.callers.is_empty() {
            return;
        }
        let at = which % self.callers.len();
        if let Some(answer) = self.desk.answer(self.callers[at].name) {
            let caller = self.callers.swap_remove(at);
            self.settled(&caller, answer);
        }
    }

    fn settled(&mut self, caller: &Caller, answer: Answer) {
        match answer {
            Answer::Reply(body) => assert_eq!(body, caller.body.as_bytes(), "another's answer"),
            Answer::Expired { sent: true, vacancy: Vacancy::Later, .. } => return,
            Answer::Expired { sent: false, vacancy: Vacancy::Now, .. }
            | Answer::SentAway { sent: false, .. } => {
                self.not_sent.insert(caller.body.clone());
            }
            Answer::Lost { sent, .. } => {
                assert_eq!(sent, self.seen.contains(&caller.body), "{}", caller.body);
            }
            answer => panic!("{answer:?}"),
        }
        self.release(caller.slot);
    }

    fn drop_caller(&mut self, which: usize) {
        if self.callers.is_empty() {
            return;
        }
        let caller = self.callers.swap_remove(which % self.callers.len());
        let waits = self.desk.foreign.calls.pending(caller.name).is_some();
        if self.desk.leave(caller.name) == Vacancy::Now {
            if waits {
                self.not_sent.insert(caller.body);
            }
            self.release(caller.slot);
        }
    }

    fn release(&mut self, slot: usize) {
        assert!(!self.free.contains(&slot), "the place {slot} was left twice");
        self.free.push(slot);
    }

    fn write(&mut self, bytes: usize) {
        let written = self.desk.write(bytes);
        self.came.extend_from_slice(&written);
        for seen in seen(self.matching, &mut self.came) {
            let is_ping = seen.body == "ping";
            assert!(!self.not_sent.contains(&seen.body), "{} has left", seen.body);
            assert!(is_ping || self.seen.insert(seen.body.clone()), "{} came twice", seen.body);
            let again = self.unanswered.iter().any(|other| other.id == seen.id);
            assert!(seen.id == 0 || !again, "the id {} is in use", seen.id);
            self.unanswered.push_back(seen);
        }
        self.most_unanswered = self.most_unanswered.max(self.unanswered.len());
    }

    fn answer(&mut self, which: usize, parts: usize) {
        let at = match self.matching {
            _ if self.unanswered.is_empty() => return,
            Matching::InOrder { .. } => 0,
            Matching::ById { .. } => which % self.unanswered.len(),
        };
        let Some(Seen { id, body }) = self.unanswered.remove(at) else { return };
        let pieces = body.len() / (parts + 1);
        for part in 0..=parts {
            let (kind, piece) = match part == parts {
                true => (b'r', &body[part * pieces..]),
                false => (b'p', &body[part * pieces..(part + 1) * pieces]),
            };
            let answer = match self.matching {
                Matching::InOrder { .. } => frame(&[&[kind], piece.as_bytes()].concat()),
                Matching::ById { .. } => answer(kind, id, piece),
            };
            self.said.extend_from_slice(&answer);
        }
    }

    /// The connection dies: whoever waits is told, and all places come back.
    fn end(mut self, places: usize) {
        self.desk.lose();
        for slot in self.desk.vacated() {
            self.release(slot);
        }
        for caller in std::mem::take(&mut self.callers) {
            let answer = self.desk.answer(caller.name).expect("every call is settled");
            self.settled(&caller, answer);
        }
        assert_eq!(self.free.len(), places, "all places are free");
        assert!(self.desk.foreign.calls.is_empty());
        assert!(self.not_sent.is_disjoint(&self.seen));
        if let Matching::InOrder { pipeline } = self.matching {
            assert!(self.most_unanswered <= pipeline, "{} outstanding", self.most_unanswered);
        }
    }
}

fn dialects() -> impl Strategy<Value = Plain> {
    let matchings = prop_oneof![
        (1usize..9).prop_map(|pipeline| Matching::InOrder { pipeline }),
        Just(Matching::ById { min: 0, max: 3 }),
        Just(Matching::ById { min: 0, max: 16 }),
        Just(Matching::ById { min: 0, max: 60_000 }),
    ];
    (matchings, any::<bool>())
        .prop_map(|(matching, asks)| if asks { pinging(matching) } else { silent(matching) })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_gets_anothers_answer_and_nothing_is_lost_or_left_twice(
        dialect in dialects(),
        acts in prop::collection::vec(acts(), 1..120),
        goes_away in prop::option::weighted(0.1, 0usize..120),
    ) {
        let mut world = World::new(dialect);
        let places = world.free.len();
        for (at, act) in acts.into_iter().enumerate() {
            if goes_away == Some(at) {
                world.act(Act::GoAway).unwrap();
            }
            match world.act(act) {
                Ok(()) => {}
                Err(LossCause::Violation(violation)) => {
                    let is_part = violation == Violation::Unasked && !world.desk.input.bytes.is_empty();
                    prop_assert!(is_part, "the server keeps to the protocol: {violation}");
                    break;
                }
                Err(_) => break,
            }
        }
        world.end(places);
    }
}
