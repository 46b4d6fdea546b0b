//! What a client's frames mean, and which of its requests are taken.

use std::time::Instant;

use bytes::Bytes;

use super::{Event, Serving, State};
use crate::error::answer::Refusal;
use crate::error::loss::{GoAway, LossCause};
use crate::error::violation::Violation;
use crate::proto::head::{Head, RequestHead};
use crate::proto::line::Inbound;
use crate::proto::native::{Frame, PUSH_BIT, after};
use crate::proto::outgoing::Mark;
use crate::proto::requests::{Remember, Terms};
use crate::proto::session::Effects;

/// Bodies shorter than this, in bytes, are copied.
const SMALL: usize = 4 * 1024;

impl Serving {
    pub(super) fn dispatch(
        &mut self,
        now: Instant,
        inbound: Inbound,
        effects: &mut Effects<Event>,
    ) -> Result<(), LossCause> {
        match inbound {
            Inbound::Message(head, body) => self.message(now, head, body, effects)?,
            Inbound::Begun { head, total, part } => self.begin(now, head, total, &part)?,
            Inbound::StrayChunk { id } => {
                if id > self.highest_id {
                    return Err(Violation::ToNobody { name: "CHUNK", id }.into());
                }
            }
            Inbound::Frame(Frame::Cancel { id }) => self.cancel(now, id, effects),
            Inbound::Frame(Frame::GoAway(goodbye)) if goodbye.code == GoAway::VIOLATION => {
                return Err(LossCause::SentAway(goodbye));
            }
            Inbound::Frame(Frame::GoAway(_)) => {}
            Inbound::Frame(frame) => {
                return Err(Violation::Unexpected { name: frame.name() }.into());
            }
        }
        Ok(())
    }

    fn message(
        &mut self,
        now: Instant,
        head: Head,
        body: Bytes,
        effects: &mut Effects<Event>,
    ) -> Result<(), Violation> {
        match head {
            Head::Request(request) => {
                let Some(Terms { deadline, remember }) = self.whole(now, &request, body.len())?
                else {
                    return Ok(());
                };
                let (id, body) = (request.id, owned(body));
                self.requests.run(id, body.len());
                effects.events.push(Event::Request { id, body, deadline, remember });
            }
            Head::Notify { id } => {
                self.use_id(id)?;
                if self.takes_notification(body.len()) {
                    let body = owned(body);
                    self.requests.notified(body.len());
                    effects.events.push(Event::Notification { body });
                }
            }
            _ => return Err(Violation::Unexpected { name: head.name() }),
        }
        Ok(())
    }

    fn begin(
        &mut self,
        now: Instant,
        head: Head,
        total: u32,
        part: &Bytes,
    ) -> Result<(), Violation> {
        match head {
            Head::Request(request) => match self.accept(now, &request, total as usize)? {
                Some(terms) => self.requests.begin(request.id, terms),
                None => return Ok(()),
            },
            Head::Notify { id } => {
                self.use_id(id)?;
                if !self.takes_notification(total as usize) {
                    return Ok(());
                }
            }
            _ => return Err(Violation::Unexpected { name: head.name() }),
        }
        self.line.assembly.begin(head, total, part)
    }

    fn takes_notification(&self, length: usize) -> bool {
        matches!(self.state, State::Open) && length <= self.bounds.receive
    }

    /// The terms of a request that has come whole: those of its first frame, if it came in parts. `None` if it is not taken.
    fn whole(
        &mut self,
        now: Instant,
        request: &RequestHead,
        length: usize,
    ) -> Result<Option<Terms>, Violation> {
        match self.requests.coming(request.id) {
            // Not while its parts are still coming: then this is a second one with its id.
            Some(terms) if !self.line.assembly.contains(request.id) => Ok(Some(terms)),
            _ => self.accept(now, request, length),
        }
    }

    /// The terms of a new request. `None` if it is not taken: then it is refused or, after `GOAWAY`, ignored.
    fn accept(
        &mut self,
        now: Instant,
        request: &RequestHead,
        length: usize,
    ) -> Result<Option<Terms>, Violation> {
        let id = request.id;
        self.use_id(id)?;
        if self.requests.is_in_use(id) {
            return Err(Violation::IdInUse { id });
        }
        let State::Open = self.state else {
            return Ok(None);
        };
        self.requests.came(now);
        self.accepted += 1;
        let code = if length > self.bounds.receive {
            Refusal::TOO_LONG
        } else if self.requests.in_flight() >= self.bounds.in_flight {
            Refusal::OVERLOADED
        } else {
            let deadline = deadline(now, request);
            return Ok(Some(Terms { deadline, remember: Remember::from(request) }));
        };
        self.refused(id, Refusal { code, retry_after: None });
        Ok(None)
    }

    fn use_id(&mut self, id: u64) -> Result<(), Violation> {
        if id == 0 || id & PUSH_BIT != 0 {
            return Err(Violation::IdOutOfRange { id });
        }
        if self.line.assembly.contains(id) {
            return Err(Violation::IdInUse { id });
        }
        self.highest_id = self.highest_id.max(id);
        Ok(())
    }

    fn cancel(&mut self, now: Instant, id: u64, effects: &mut Effects<Event>) {
        self.line.assembly.forget(id);
        // A long answer may be half-way out.
        self.line.outgoing.withdraw(id, Mark::Apart);
        if self.requests.cancel(now, id) {
            effects.events.push(Event::Cancelled { id });
        }
    }
}

/// A body that does not hold much more memory than its length says. A small one is a piece of what was read at a time:
/// whoever keeps it would keep all of that.
fn owned(body: Bytes) -> Bytes {
    if body.len() < SMALL { Bytes::copy_from_slice(&body) } else { body }
}

/// When the caller's time is up. Too far away to count is as good as never.
fn deadline(now: Instant, request: &RequestHead) -> Option<Instant> {
    after(request.remaining).and_then(|remaining| now.checked_add(remaining))
}
