//! The calling end of a foreign protocol as tables: (time, event) in, answers and frames out. No runtime, no socket. The
//! server is the test itself.

#![allow(clippy::disallowed_methods)]

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, BytesMut};

use super::*;
use crate::error::answer::{ErrorReply, Refusal};
use crate::error::call::Stage;
use crate::error::loss::GoAway;
use crate::error::unsendable::Unsendable;
use crate::error::violation::Violation;
use crate::proto::dialect::{Dialect, Meaning, To};
use crate::proto::framing::Framing;
use crate::proto::ledger::Place;

mod answers;
mod heartbeat;
mod hostile;
mod ids;
mod lent;
mod places;
mod random;

/// In bytes, of a whole answer.
const LIMIT: usize = 100_000;
const MINUTE: u64 = 60_000;
/// Of the heartbeat, in milliseconds.
const EVERY: u64 = 5000;
const GIVE_UP_AFTER: u64 = 10_000;
const BOUND: u64 = EVERY + GIVE_UP_AFTER;

/// A frame from the server says in its first byte what it is; where answers have ids, two bytes of id follow. A request is
/// its body, behind such an id.
#[derive(Debug, Clone, Copy)]
struct Plain {
    matching: Matching,
    ping: Option<&'static str>,
    has_pushes: bool,
}

impl Dialect for Plain {
    fn framing(&self) -> Framing {
        Framing::u16_be()
    }

    fn matching(&self) -> Matching {
        self.matching
    }

    fn request(&self, id: u64, body: Bytes, head: &mut BytesMut) -> Result<Bytes, Unsendable> {
        assert_ne!(body, "panic");
        if body == "unsendable" {
            return Err(Unsendable::Refused { why: "a test" });
        }
        if let Matching::ById { .. } = self.matching {
            head.put_u16(id as u16);
        }
        Ok(body)
    }

    fn notification(&self, body: Bytes, head: &mut BytesMut) -> Result<Bytes, Unsendable> {
        head.put_slice(b"note ");
        Ok(body)
    }

    fn received(&self, mut frame: Bytes) -> Result<Meaning, Violation> {
        let kind = frame.get_u8();
        let mut to = || match self.matching {
            Matching::InOrder { .. } => To::Oldest,
            Matching::ById { .. } => To::Id(frame.get_u16().into()),
        };
        Ok(match kind {
            b'r' => Meaning::Reply { to: to(), body: frame },
            b'p' => Meaning::Part { to: to(), body: frame },
            b'e' => Meaning::Error { to: to(), error: ErrorReply::new(404, "no") },
            b'x' => Meaning::Refused { to: to(), refusal: refusal() },
            b'!' => Meaning::Push(frame),
            b'o' => Meaning::Pong,
            b'g' => Meaning::GoAway { retry_after: Some(ms(70)), text: "closing".into() },
            b'.' => Meaning::Nothing,
            b'#' => panic!("a test"),
            _ => return Err(Violation::Malformed { what: "a test" }),
        })
    }

    fn has_pushes(&self) -> bool {
        self.has_pushes
    }

    fn ping(&self, id: u64) -> Option<Bytes> {
        let mut frame = BytesMut::new();
        if let Matching::ById { .. } = self.matching {
            frame.put_u16(id as u16);
        }
        frame.put_slice(self.ping?.as_bytes());
        Some(frame.freeze())
    }
}

const IN_ORDER: Matching = Matching::InOrder { pipeline: 8 };
const BY_ID: Matching = Matching::ById { min: 0, max: 1000 };

fn silent(matching: Matching) -> Plain {
    Plain { matching, ping: None, has_pushes: false }
}

fn pinging(matching: Matching) -> Plain {
    Plain { matching, ping: Some("ping"), has_pushes: false }
}

fn refusal() -> Refusal {
    Refusal { code: Refusal::OVERLOADED, retry_after: None }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A session, what its shell would keep, and a time.
struct Desk {
    foreign: Foreign,
    speech: Arc<Speech>,
    start: Instant,
    now: u64,
    effects: Effects<Event>,
    out: VecDeque<Bytes>,
    input: Input,
}

/// A message from the client, as the server sees it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// 0 where there are none.
    id: u64,
    body: String,
}

fn desk(dialect: Plain) -> Desk {
    let start = Instant::now();
    let speech = Arc::new(Speech::new(Box::new(dialect), LIMIT).unwrap());
    let bounds = Bounds { send: LIMIT, receive: LIMIT, queued_bytes: 2 * LIMIT };
    let heartbeat = Heartbeat::every(ms(EVERY)).give_up_after(ms(GIVE_UP_AFTER));
    Desk {
        foreign: Foreign::new(start, heartbeat, speech.clone(), bounds),
        speech,
        start,
        now: 0,
        effects: Effects::default(),
        out: VecDeque::new(),
        input: Input::default(),
    }
}

impl Desk {
    fn now(&self) -> Instant {
        self.start + ms(self.now)
    }

    /// As a caller does: under another name, if the id is taken. Its place is that of its slot.
    fn begin(
        &mut self,
        kind: Kind,
        body: &str,
        slot: usize,
        timeout: u64,
    ) -> Result<u64, NotTaken> {
        let body = Bytes::from(body.to_owned());
        let place = Some(Place::example(slot));
        loop {
            let name = self.speech.ids().name();
            let spoken = match kind {
                Kind::Notification => self.speech.notification(body.clone()),
                Kind::Request { .. } => self.speech.request(name, body.clone()),
            };
            let spoken = spoken.map_err(NotTaken::Unsendable)?;
            let deadline = self.now() + ms(timeout);
            let (id, head, body) = (name.0, &spoken.head[..], &spoken.rest);
            let start = Start { id, kind, head, body, deadline, oldest: 1, place };
            match self.foreign.start(self.now(), &start, Waker::noop()) {
                Err(NotTaken::IdTaken) => {}
                result => return result.map(|()| id),
            }
        }
    }

    /// A call with the deadline in a minute, and the place of the slot 0.
    fn call(&mut self, body: &str) -> u64 {
        self.call_at(body, 0, MINUTE)
    }

    fn call_at(&mut self, body: &str, slot: usize, timeout: u64) -> u64 {
        let kind = Kind::Request { repeatable: false, resent: false };
        self.begin(kind, body, slot, timeout).unwrap()
    }

    /// A call that the server has got whole.
    fn sent_call(&mut self, body: &str, slot: usize, timeout: u64) -> u64 {
        let name = self.call_at(body, slot, timeout);
        assert_eq!(self.sent().last().map(|seen| &*seen.body), Some(body));
        name
    }

    fn notify(&mut self, body: &str) -> u64 {
        self.begin(Kind::Notification, body, 0, MINUTE).unwrap()
    }

    /// Has so many bytes accepted of what the shell holds, and returns them.
    fn write(&mut self, bytes: usize) -> BytesMut {
        self.foreign.transmit(self.now(), &mut self.out);
        let mut written = BytesMut::new();
        while let Some(first) = self.out.front_mut() {
            let piece = first.split_to(first.len().min(bytes - written.len()));
            written.extend_from_slice(&piece);
            if !first.is_empty() {
                break;
            }
            self.out.pop_front();
        }
        self.foreign.written(self.now(), written.len(), &mut self.effects);
        written
    }

    /// The messages that go out until there are no more, all accepted.
    fn sent(&mut self) -> Vec<Seen> {
        let mut bytes = BytesMut::new();
        loop {
            let written = self.write(usize::MAX);
            if written.is_empty() {
                break;
            }
            bytes.extend_from_slice(&written);
        }
        seen(self.speech.ids().matching(), &mut bytes)
    }

    /// The bodies of those.
    fn bodies(&mut self) -> Vec<String> {
        self.sent().into_iter().map(|seen| seen.body).collect()
    }

    fn hear_bytes(&mut self, bytes: &[u8]) -> Result<(), LossCause> {
        self.input.bytes.extend_from_slice(bytes);
        self.speech.read(&mut self.input);
        self.foreign.received(self.now(), &mut self.input, &mut self.effects)
    }

    /// Frames, each with its kind in front.
    fn hear(&mut self, frames: &[&str]) -> Result<(), LossCause> {
        let bytes: Vec<u8> = frames.iter().flat_map(|content| frame(content.as_bytes())).collect();
        self.hear_bytes(&bytes)
    }

    /// One frame with an id.
    fn hear_id(&mut self, kind: u8, id: u64, body: &str) -> Result<(), LossCause> {
        self.hear_bytes(&answer(kind, id, body))
    }

    /// What became of a call; `None` while that is open.
    fn answer(&mut self, name: u64) -> Option<Answer> {
        match self.foreign.poll(name, Waker::noop()).0 {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        }
    }

    /// Moves the time on to this one, and does what is due, as the shell would.
    fn until(&mut self, at: u64) -> Result<(), LossCause> {
        while let Some(due) = self.foreign.next_deadline() {
            let due = due.saturating_duration_since(self.start).as_millis() as u64;
            if due > at {
                break;
            }
            self.now = self.now.max(due);
            self.foreign.timeout(self.now(), &mut self.effects)?;
        }
        self.now = at;
        Ok(())
    }

    /// The slots of the places that became free since this was asked last.
    fn vacated(&mut self) -> Vec<usize> {
        let mut slots = Vec::new();
        self.effects.events.retain(|event| match event {
            Event::Vacated(place) => {
                slots.push(place.slot);
                false
            }
            _ => true,
        });
        slots
    }

    /// How much is kept of answers that have come in part.
    fn kept(&mut self, names: [u64; 2]) -> [Option<usize>; 2] {
        let Self { foreign, speech, .. } = self;
        names.map(|name| foreign.owed.parts(speech.ids().of(Name(name))).map(|parts| parts.len()))
    }

    fn leave(&mut self, name: u64) -> Vacancy {
        self.foreign.leave(self.now(), name).vacancy
    }

    fn lose(&mut self) -> Arc<Loss> {
        let loss = Arc::new(Loss::example(LossCause::ClosedByPeer));
        self.foreign.lost(&loss, &mut self.effects);
        loss
    }
}

fn frame(content: &[u8]) -> Vec<u8> {
    let mut frame = (content.len() as u16).to_be_bytes().to_vec();
    frame.extend_from_slice(content);
    frame
}

/// An answer with an id.
fn answer(kind: u8, id: u64, body: &str) -> Vec<u8> {
    let mut content = vec![kind];
    content.put_u16(id as u16);
    content.put_slice(body.as_bytes());
    frame(&content)
}

/// What a server makes of whole frames at the front of the bytes.
fn seen(matching: Matching, bytes: &mut BytesMut) -> Vec<Seen> {
    let mut seen = Vec::new();
    while let Some(mut frame) = Framing::u16_be().next(bytes).unwrap() {
        let has_id = matches!(matching, Matching::ById { .. }) && !frame.starts_with(b"note ");
        let id = if has_id { frame.get_u16().into() } else { 0 };
        seen.push(Seen { id, body: String::from_utf8(frame.into()).unwrap() });
    }
    seen
}

fn reply(body: &'static str) -> Option<Answer> {
    Some(Answer::Reply(body.into()))
}

fn expired(sent: bool, vacancy: Vacancy) -> Option<Answer> {
    let stage = if sent { Stage::Reply } else { Stage::Sending };
    Some(Answer::Expired { sent, stage, vacancy })
}
