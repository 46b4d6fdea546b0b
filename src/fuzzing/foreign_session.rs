//! A calling end that speaks a dialect: in turns, or with ids.

use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::error::unsendable::Unsendable;
use crate::error::violation::Violation;
use crate::fuzzing::callers::{Callers, Wire, is_answered, mark};
use crate::fuzzing::client_session::{BOUNDS, LIMIT};
use crate::fuzzing::end::End;
use crate::fuzzing::script::{Script, Shell, Step};
use crate::policy::Heartbeat;
use crate::proto::dialect::{Dialect, Matching, Meaning, To};
use crate::proto::foreign::Foreign;
use crate::proto::framing::Framing;
use crate::proto::ids::Name;
use crate::proto::ordered::Ordered;
use crate::proto::speech::Speech;

/// A frame is an id of one byte, what it means, and a body.
#[derive(Debug)]
struct ById;

impl Dialect for ById {
    fn framing(&self) -> Framing {
        Framing::u16_be()
    }

    fn matching(&self) -> Matching {
        Matching::ById { min: 0, max: u8::MAX.into() }
    }

    fn request(&self, id: u64, body: Bytes, head: &mut BytesMut) -> Result<Bytes, Unsendable> {
        head.put_u8(id as u8);
        Ok(body)
    }

    fn received(&self, frame: Bytes) -> Result<Meaning, Violation> {
        let [id, means, ..] = frame[..] else {
            return Err(Violation::Malformed { what: "it is too short" });
        };
        let (to, body) = (To::Id(id.into()), frame.slice(2..));
        Ok(match means % 6 {
            0 | 1 => Meaning::Reply { to, body },
            2 => Meaning::Part { to, body },
            3 => Meaning::Push(body),
            4 => Meaning::Pong,
            _ => Meaning::Nothing,
        })
    }

    fn has_pushes(&self) -> bool {
        true
    }

    fn ping(&self, id: u64) -> Option<Bytes> {
        Some(Bytes::copy_from_slice(&[id as u8]))
    }
}

/// The first byte chooses the dialect.
pub fn foreign_session(data: &[u8]) {
    let (mut script, now) = (Script::new(data), Instant::now());
    let (dialect, matching): (Box<dyn Dialect>, _) = match script.byte() % 3 {
        0 => (Box::new(Ordered::new(Framing::u16_be())), By::Turn),
        1 => (Box::new(Ordered::new(Framing::u16_be()).pipeline(8).heartbeat("ping")), By::Turn),
        _ => (Box::new(ById), By::Id),
    };
    let wire = Frames { by: matching, asked: Direction::default(), answered: Direction::default() };
    let speech = Arc::new(Speech::new(dialect, LIMIT).unwrap());
    let mut end = End::new(now, Foreign::new(now, Heartbeat::default(), speech.clone(), BOUNDS));
    let mut callers = Callers::new(wire);
    while !script.is_over() && !end.is_over() {
        match script.step() {
            // Not one of ours: what a server says.
            Step::Shell(Shell::HearFrame) => {
                let body = usize::from(script.byte());
                let body = script.take(body);
                let mut frame = BytesMut::new();
                frame.put_u16(body.len() as u16);
                frame.extend_from_slice(body);
                end.hear(&frame);
            }
            Step::Shell(step) => end.step(step, &mut script),
            Step::Own(step) => callers.step(step, &mut script, &mut end, |name, body| {
                let spoken = speech.request(Name(name), body).map_err(drop)?;
                Ok((spoken.head.freeze(), spoken.rest))
            }),
        }
        callers.look(&mut end);
    }
    callers.end(&mut end);
}

#[derive(Debug)]
enum By {
    /// The first answer is to the first question, a heartbeat's among them.
    Turn,
    Id,
}

/// What passed: frames behind a length of two bytes.
#[derive(Debug)]
struct Frames {
    by: By,
    asked: Direction,
    answered: Direction,
}

#[derive(Debug, Default)]
struct Direction {
    bytes: BytesMut,
    frames: Vec<Bytes>,
}

impl Direction {
    /// Returns the frames that are whole with these.
    fn pass(&mut self, bytes: &[u8]) -> &[Bytes] {
        self.bytes.extend_from_slice(bytes);
        let before = self.frames.len();
        while let Ok(Some(frame)) = Framing::u16_be().next(&mut self.bytes) {
            self.frames.push(frame);
        }
        &self.frames[before..]
    }
}

impl Frames {
    /// The whole frame of a call, and how many before it are answered.
    fn question(&self, call: u64) -> Option<(usize, &Bytes)> {
        let frames = self.asked.frames.iter();
        let mut questions = frames.filter(|f| is_answered(Self::body(&self.by, f))).enumerate();
        questions.find(|(_, frame)| mark(Self::body(&self.by, frame)) == Some(call))
    }

    /// What a caller gave, of a frame.
    fn body<'a>(by: &By, frame: &'a Bytes) -> &'a [u8] {
        match by {
            By::Turn => frame,
            By::Id => frame.get(1..).unwrap_or_default(),
        }
    }
}

impl Wire for Frames {
    fn left(&mut self, bytes: &[u8]) -> Vec<u64> {
        let by = &self.by;
        self.asked.pass(bytes).iter().filter_map(|frame| mark(Self::body(by, frame))).collect()
    }

    fn came(&mut self, bytes: &[u8]) {
        self.answered.pass(bytes);
    }

    fn is_reply(&self, call: u64, reply: &Bytes) -> bool {
        let Some((turn, question)) = self.question(call) else {
            // It was answered before all of it had left.
            return true;
        };
        let answers = &self.answered.frames;
        match self.by {
            By::Turn => answers.get(turn).is_some_and(|answer| answer == reply),
            By::Id => answers.iter().any(|answer| {
                let is_whole = answer.len() >= 2 && answer[1] % 6 < 2;
                answer.first() == question.first() && is_whole && reply.ends_with(&answer[2..])
            }),
        }
    }

    fn is_answered(&self, call: u64) -> bool {
        let is_past = |(turn, _)| turn < self.answered.frames.len();
        matches!(self.by, By::Turn) && self.question(call).is_some_and(is_past)
    }
}
