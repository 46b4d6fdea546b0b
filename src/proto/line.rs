//! What both ends of a connection do alike: cut frames, put long messages together, answer pings, and queue what goes
//! out.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};

use crate::error::loss::{GoAway, LossCause};
use crate::error::violation::Violation;
use crate::policy;
use crate::proto::assembly::{Assembly, Chunk};
use crate::proto::frame::next_payload;
use crate::proto::head::{ChunkHead, Head};
use crate::proto::heartbeat::Beat;
use crate::proto::input::Input;
use crate::proto::native::Frame;
use crate::proto::outgoing::Outgoing;
use crate::proto::pulse::Pulse;

/// With so many bytes of control frames waiting, pings are not answered: their sender does not read.
const MAX_CONTROL: usize = 64 * 1024;

/// A part at least so long is read to where it belongs. For shorter ones more reads would cost more than the copying.
const LANDS: usize = 16 * 1024;

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) outgoing: Outgoing,
    pub(crate) assembly: Assembly,
    pulse: Pulse,
    nonce: u64,
}

/// What the end itself has to deal with.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// A whole message.
    Message(Head, Bytes),
    /// The first part of a long one.
    Begun { head: Head, total: u32, part: Bytes },
    /// A part of a message that is not being put together here.
    StrayChunk { id: u64 },
    /// Any other frame, none of those that the line deals with.
    Frame(Frame),
}

impl Inbound {
    /// What a chunk of the message `id` amounts to.
    fn of(chunk: Chunk, id: u64) -> Option<Self> {
        match chunk {
            Chunk::Taken => None,
            Chunk::Stray => Some(Self::StrayChunk { id }),
            Chunk::Completed(head, body) => Some(Self::Message(head, body)),
        }
    }
}

impl Line {
    pub(crate) fn new(
        now: Instant,
        heartbeat: policy::Heartbeat,
        peer_every: Option<Duration>,
    ) -> Self {
        Self {
            outgoing: Outgoing::default(),
            assembly: Assembly::default(),
            pulse: Pulse::new(now, heartbeat, peer_every),
            nonce: 0,
        }
    }

    /// Speaks together with all others whose steps are counted from the same time.
    pub(crate) fn in_step(self, since: Instant) -> Self {
        Self { pulse: self.pulse.in_step(since), ..self }
    }

    /// Bytes have arrived; [`next`](Self::next) takes them apart.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.pulse.heard(now);
        self.assembly.cool(now);
    }

    /// The next thing that the end has to deal with; `None` when the input holds no whole frame.
    pub(crate) fn next(&mut self, input: &mut Input) -> Result<Option<Inbound>, Violation> {
        if let Some(landed) = self.land(input) {
            return Ok(Some(landed));
        }
        if input.landing.is_some() {
            return Ok(None);
        }
        while let Some(payload) = next_payload(&mut input.bytes)? {
            match Frame::decode(payload)? {
                Frame::Message { head, total: None, part } => {
                    return Ok(Some(Inbound::Message(head, part)));
                }
                Frame::Message { head, total: Some(total), part } => {
                    return Ok(Some(Inbound::Begun { head, total, part }));
                }
                Frame::Chunk { id, position, part } => {
                    let chunk = self.assembly.add(id, position, &part)?;
                    if let Some(inbound) = Inbound::of(chunk, id) {
                        return Ok(Some(inbound));
                    }
                }
                Frame::Ping { nonce } => self.pong(nonce),
                Frame::Pong { .. } | Frame::Unknown { .. } => {}
                frame => return Ok(Some(Inbound::Frame(frame))),
            }
        }
        self.begin_landing(input)?;
        Ok(None)
    }

    /// Takes the part that is landing, when it is whole.
    fn land(&mut self, input: &mut Input) -> Option<Inbound> {
        let mut landing = input.landing.take()?;
        landing.take_from(&mut input.bytes);
        if !landing.is_whole() {
            input.landing = Some(landing);
            return None;
        }
        landing.give_back(&mut input.bytes);
        let id = landing.id;
        Inbound::of(self.assembly.landed(landing), id)
    }

    /// Where the long part is to land with which the input ends, if its head has come.
    fn begin_landing(&mut self, input: &mut Input) -> Result<(), Violation> {
        let chunk = ChunkHead::peek(&input.bytes).filter(|chunk| chunk.length >= LANDS);
        let Some(chunk) = chunk else {
            return Ok(());
        };
        let Some(mut landing) = self.assembly.land(chunk)? else {
            return Ok(());
        };
        input.bytes.advance(ChunkHead::LENGTH);
        landing.take_from(&mut input.bytes);
        input.landing = Some(landing);
        Ok(())
    }

    pub(crate) fn transmit(&mut self, now: Instant, out: &mut VecDeque<Bytes>) {
        self.outgoing.transmit(out);
        self.pulse.transmitted(now, &self.outgoing);
    }

    pub(crate) fn written(&mut self, now: Instant, bytes: usize) {
        self.outgoing.written(bytes);
        self.pulse.written(now, &self.outgoing);
    }

    /// Pings, or judges.
    pub(crate) fn timeout(&mut self, now: Instant) -> Result<(), LossCause> {
        self.assembly.cool(now);
        self.pulse.check_sending(now)?;
        match self.pulse.beat(now)? {
            Beat::Nothing => {}
            Beat::Ask => self.ping(),
            // What waits to be sent will be heard, too.
            Beat::Speak if !self.outgoing.is_empty() => {}
            Beat::Speak => self.ping(),
        }
        Ok(())
    }

    /// Pings at once, because a connection to the same server has just died of silence.
    pub(crate) fn probe(&mut self, now: Instant) {
        if self.pulse.probe(now) == Beat::Ask {
            self.ping();
        }
    }

    pub(crate) fn next_deadline(&self) -> Instant {
        let others = [self.pulse.stalled_at(), self.assembly.cools_at()];
        others.into_iter().flatten().fold(self.pulse.beat_at(), Instant::min)
    }

    /// Says goodbye because of a violation, and nothing else any more. Whether it arrives is not our business.
    pub(crate) fn complain(&mut self, violation: &Violation) {
        let goodbye = GoAway {
            code: GoAway::VIOLATION,
            accepted: 0,
            retry_after: None,
            text: violation.to_string().into(),
        };
        self.outgoing.discard();
        Frame::GoAway(goodbye).encode(self.outgoing.control());
    }

    /// The connection is dead: nothing more goes out, and what has not come whole never will. The session may live on
    /// in the hands of whoever keeps a handle to it.
    pub(crate) fn die(&mut self) {
        self.outgoing.die();
        self.assembly = Assembly::default();
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.outgoing.is_empty() && self.outgoing.queued_bytes() == 0 && self.assembly.is_empty()
    }

    /// Answers a ping, unless the peer asks faster than it takes the answers.
    fn pong(&mut self, nonce: u64) {
        let control = self.outgoing.control();
        if control.len() < MAX_CONTROL {
            Frame::Pong { nonce }.encode(control);
        }
    }

    fn ping(&mut self) {
        self.nonce += 1;
        Frame::Ping { nonce: self.nonce }.encode(self.outgoing.control());
    }
}

#[cfg(test)]
mod tests;
