//! A calling end of the native protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::fuzzing::callers::{Callers, Wire, mark};
use crate::fuzzing::end::End;
use crate::fuzzing::script::{Script, Step};
use crate::policy::Heartbeat;
use crate::proto::calling::Bounds;
use crate::proto::client::Client;
use crate::proto::frame::next_payload;
use crate::proto::head::{Head, Position};
use crate::proto::native::Frame;

pub(super) const LIMIT: usize = 100_000;
pub(super) const BOUNDS: Bounds = Bounds { send: LIMIT, receive: LIMIT, queued_bytes: 2 * LIMIT };

/// Whatever comes: see [`Callers`].
pub fn client_session(data: &[u8]) {
    let (mut script, now) = (Script::new(data), Instant::now());
    let client = Client::new(now, Heartbeat::default(), None, BOUNDS);
    let mut end = End::new(now, client);
    let mut callers = Callers::new(Native::default());
    while !script.is_over() && !end.is_over() {
        match script.step() {
            Step::Shell(step) => end.step(step, &mut script),
            Step::Own(step) => {
                callers.step(step, &mut script, &mut end, |_, body| Ok((Bytes::new(), body)));
            }
        }
        callers.look(&mut end);
    }
    callers.end(&mut end);
}

#[derive(Debug, Default)]
struct Native {
    leaving: BytesMut,
    coming: BytesMut,
    replies: BTreeMap<u64, Vec<Bytes>>,
    /// Whose replies came in parts.
    in_parts: BTreeSet<u64>,
}

impl Wire for Native {
    fn left(&mut self, bytes: &[u8]) -> Vec<u64> {
        self.leaving.extend_from_slice(bytes);
        let mut whole = Vec::new();
        while let Some(frame) = next(&mut self.leaving) {
            match frame {
                Frame::Message {
                    head: Head::Request(_) | Head::Notify { .. },
                    total: None,
                    part,
                } => {
                    whole.extend(mark(&part));
                }
                // A request's id is its mark.
                Frame::Chunk { id, position: Position::Last, .. } => whole.push(id),
                _ => {}
            }
        }
        whole
    }

    fn came(&mut self, bytes: &[u8]) {
        self.coming.extend_from_slice(bytes);
        while let Some(frame) = next(&mut self.coming) {
            match frame {
                Frame::Message { head: Head::Reply { id }, total: None, part } => {
                    self.replies.entry(id).or_default().push(part);
                }
                Frame::Message { head: Head::Reply { id }, .. } => drop(self.in_parts.insert(id)),
                _ => {}
            }
        }
    }

    fn is_reply(&self, call: u64, body: &Bytes) -> bool {
        let whole = self.replies.get(&call);
        self.in_parts.contains(&call) || whole.is_some_and(|replies| replies.contains(body))
    }

    /// The script answers calls before they are made, too.
    fn is_answered(&self, _: u64) -> bool {
        false
    }
}

/// Behind one that cannot be read there is none.
fn next(bytes: &mut BytesMut) -> Option<Frame> {
    let payload = next_payload(bytes).ok()??;
    Frame::decode(payload).ok()
}
