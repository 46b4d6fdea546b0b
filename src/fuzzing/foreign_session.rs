//! A calling end that speaks a dialect: in turns, or with ids.

use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::error::unsendable::Unsendable;
use crate::error::violation::Violation;
use crate::fuzzing::client_session::{Callers, LIMIT, bounds};
use crate::fuzzing::end::End;
use crate::fuzzing::script::Script;
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
    let dialect: Box<dyn Dialect> = match script.byte() % 3 {
        0 => Box::new(Ordered::new(Framing::u16_be())),
        1 => Box::new(Ordered::new(Framing::u16_be()).pipeline(8).heartbeat("ping")),
        _ => Box::new(ById),
    };
    let speech = Arc::new(Speech::new(dialect, LIMIT).unwrap());
    let mut end = End::new(now, Foreign::new(now, Heartbeat::default(), speech.clone(), bounds()));
    let mut callers = Callers::default();
    while !script.is_over() && !end.is_over() {
        match script.byte() % 12 {
            // What a server says, in a frame.
            1..=3 => {
                let body = usize::from(script.byte());
                let body = script.take(body);
                let mut frame = BytesMut::new();
                frame.put_u16(body.len() as u16);
                frame.extend_from_slice(body);
                end.hear(&frame);
            }
            step if end.step(step, &mut script) => {}
            step => callers.step(step, &mut script, &mut end, |name, body| {
                let spoken = speech.request(Name(name), body).map_err(drop)?;
                Ok((spoken.head.freeze(), spoken.rest))
            }),
        }
        callers.look(&mut end);
    }
    callers.end(&mut end);
}
