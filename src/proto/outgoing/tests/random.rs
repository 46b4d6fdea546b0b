//! Any sequence of messages, withdrawals, partial writes and an end: what goes out is what was queued and not taken back, whole
//! and in order; what is said of each is true; and what is counted is what is here.

use std::collections::HashMap;

use bytes::Buf as _;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
enum Act {
    Message(usize),
    Foreign(usize),
    /// One of all that were not withdrawn: the rest of a division.
    Withdraw(usize),
    Transmit,
    Write(usize),
    Discard,
}

fn acts() -> impl Strategy<Value = Act> {
    let copied = prop_oneof![Just(0), 1usize..100, BY_REFERENCE - 2000..BY_REFERENCE];
    let single = BY_REFERENCE..=MAX_PART;
    let long = MAX_PART + 1..3 * MAX_PART;
    prop_oneof![
        60 => prop_oneof![4 => copied.clone(), 2 => single.clone(), 1 => long].prop_map(Act::Message),
        30 => prop_oneof![2 => copied, 1 => single].prop_map(Act::Foreign),
        80 => any::<usize>().prop_map(Act::Withdraw),
        10 => Just(Act::Transmit),
        20 => (0usize..300_000).prop_map(Act::Write),
        1 => Just(Act::Discard),
    ]
}

/// Those of a queue keep their order, but for long messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queue {
    Pages,
    Single,
    Long,
}

#[derive(Debug)]
struct Message {
    id: u64,
    mark: Mark,
    queue: Queue,
    is_request: bool,
    /// What counts of it before any of it goes out.
    counted: usize,
    body: usize,
    /// Of its body, what went out.
    handed: usize,
    /// Where on the wire it ends, when all of it has been handed over.
    end: Option<usize>,
    is_discarded: bool,
}

impl Message {
    fn waits(&self) -> bool {
        self.end.is_none() && !self.is_discarded
    }
}

#[derive(Default)]
struct World {
    outgoing: Outgoing,
    /// Those that were not withdrawn, as they were queued.
    messages: Vec<Message>,
    queued: u64,
    /// What was handed over and accepted so far, in bytes.
    handed: usize,
    accepted: usize,
    has_discarded: bool,
}

impl World {
    fn act(&mut self, act: Act) {
        match act {
            Act::Message(length) => self.message(length),
            Act::Foreign(length) => self.foreign(length),
            Act::Withdraw(which) if !self.messages.is_empty() => {
                let message = self.messages.remove(which % self.messages.len());
                let expected = match (message.end, message.handed) {
                    (Some(_), _) => Withdrawn::TooLate,
                    (None, 0) => Withdrawn::Unseen,
                    (None, _) => Withdrawn::Begun,
                };
                assert_eq!(
                    self.outgoing.withdraw(message.id, message.mark),
                    expected,
                    "{message:?}"
                );
            }
            Act::Withdraw(_) => {}
            Act::Transmit => self.transmit(),
            Act::Write(bytes) => {
                let bytes = bytes.min(self.handed - self.accepted);
                self.accepted += bytes;
                self.outgoing.written(bytes);
            }
            // Nobody does it again when more has gone out.
            Act::Discard if std::mem::replace(&mut self.has_discarded, true) => {}
            Act::Discard => {
                self.outgoing.discard();
                for message in self.messages.iter_mut().filter(|message| message.waits()) {
                    message.is_discarded = true;
                }
            }
        }
        self.check();
    }

    fn message(&mut self, length: usize) {
        self.queued += 1;
        let id = self.queued;
        let is_request = id.is_multiple_of(2);
        let head = match is_request {
            true => Head::Request(RequestHead {
                id,
                repeatable: false,
                resent: false,
                remaining: 0,
                oldest: 0,
            }),
            false => reply(id),
        };
        let mark = self.outgoing.message(head, &Bytes::from(vec![0; length]));
        let (queue, head) = match length {
            0..BY_REFERENCE => (Queue::Pages, if is_request { 26 } else { 14 }),
            BY_REFERENCE..=MAX_PART => (Queue::Single, 0),
            _ => (Queue::Long, 0),
        };
        self.put(mark, queue, is_request, head + length, length);
    }

    /// Its frame is one of `Native`, so that both can be told apart from others on the wire.
    fn foreign(&mut self, length: usize) {
        self.queued += 1;
        let mut head = BytesMut::new();
        reply(self.queued).put(None, length, &mut head);
        let mark = self.outgoing.foreign_frame(self.queued, &head, &Bytes::from(vec![0; length]));
        self.put(mark, Queue::Pages, true, head.len() + length, length);
    }

    fn put(&mut self, mark: Mark, queue: Queue, is_request: bool, counted: usize, body: usize) {
        let (id, handed, end, is_discarded) = (self.queued, 0, None, false);
        self.messages.push(Message {
            id,
            mark,
            queue,
            is_request,
            counted,
            body,
            handed,
            end,
            is_discarded,
        });
    }

    fn transmit(&mut self) {
        let mut bytes = BytesMut::from(&transmit(&mut self.outgoing)[..]);
        let mut begun = Vec::new();
        while !bytes.is_empty() {
            let before = bytes.len();
            let frame = Frame::decode(next_payload(&mut bytes).unwrap().unwrap()).unwrap();
            self.handed += before - bytes.len();
            let length = match &frame {
                Frame::Message { part, .. } | Frame::Chunk { part, .. } => part.remaining(),
                _ => unreachable!(),
            };
            self.went(id(&frame), length, &mut begun);
        }
        assert_eq!(self.outgoing.take_begun().collect::<Vec<_>>(), begun);
    }

    /// A part of a message was handed over.
    fn went(&mut self, id: u64, length: usize, begun: &mut Vec<u64>) {
        let at = self.messages.iter().position(|message| message.id == id);
        let at = at.expect("what was withdrawn goes no further");
        let (before, message) = self.messages.split_at_mut(at);
        let message = &mut message[0];
        assert!(message.waits(), "{message:?}");
        let queue = message.queue;
        if queue != Queue::Long {
            assert!(
                !before.iter().any(|other| other.queue == queue && other.waits()),
                "{message:?}"
            );
        }
        if message.handed == 0 && message.is_request {
            begun.push(id);
        }
        message.handed += length;
        assert!(message.handed <= message.body && length <= MAX_PART);
        if message.handed == message.body {
            message.end = Some(self.handed);
        }
    }

    fn check(&self) {
        let outgoing = &self.outgoing;
        // Sent is exact.
        for message in &self.messages {
            let is_sent = message.end.is_some_and(|end| end <= self.accepted);
            assert_eq!(outgoing.is_sent(message.id, message.mark), is_sent, "{message:?}");
        }
        // What is counted is what is here, ...
        let pages = || outgoing.closed.iter().chain([&outgoing.open]);
        let apart = || outgoing.single.iter().chain(&outgoing.long);
        let in_pages: usize = pages().map(Page::length).sum();
        let in_bodies: usize = apart().map(|apart| apart.body.len() - apart.handed).sum();
        assert_eq!(outgoing.queued_bytes(), in_pages + in_bodies);
        // ... and nothing is here but what waits, and the pages of that.
        let waiting: Vec<_> = self.messages.iter().filter(|message| message.waits()).collect();
        let mut live = HashMap::new();
        let mut needed = 0;
        for message in &waiting {
            needed += message.counted - message.handed;
            if let Mark::InPage { page, .. } = message.mark {
                *live.entry(page).or_insert(0) += 1;
            }
        }
        assert!(needed <= outgoing.queued_bytes());
        for page in pages() {
            assert_eq!(page.live, live.remove(&page.number).unwrap_or(0), "{page:?}");
        }
        assert!(live.is_empty());
        assert!(outgoing.closed.iter().all(|page| page.live > 0));
        assert!(outgoing.open.live > 0 || outgoing.open.length() == 0);
        assert_eq!(apart().count(), waiting.iter().filter(|it| it.mark == Mark::Apart).count());
        assert_eq!(outgoing.is_empty(), waiting.is_empty() && self.accepted == self.handed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn what_goes_out_is_what_was_not_taken_back_and_what_counts_is_what_is_here(
        acts in prop::collection::vec(acts(), 1..120),
    ) {
        let mut world = World::default();
        for act in acts {
            world.act(act);
        }
        while world.messages.iter().any(Message::waits) {
            world.act(Act::Transmit);
            world.act(Act::Write(usize::MAX));
        }
        prop_assert_eq!(world.outgoing.queued_bytes(), 0);
    }
}
