//! One connection: its handshake, both sessions, and the bytes between them.
//!
//! ```text
//!   the client's end                      the server's end
//!   Greeting ── WELCOME ──► Open          Silent ── HELLO ──► Serving
//!       └── cut, BUSY ─► Lost ◄┘             └─ cut, BUSY ─► Gone ◄┘
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::error::loss::{Loss, LossCause};
use crate::policy::Heartbeat;
use crate::proto::calling;
use crate::proto::client::Client;
use crate::proto::course::{ServerMemory, ServerProcess};
use crate::proto::frame::next_payload;
use crate::proto::greeting::{Hello, Welcome};
use crate::proto::input::Input;
use crate::proto::native::Frame;
use crate::proto::serving::{self, Serving};
use crate::proto::session::{Effects, Session};

/// The longest body.
pub(super) const LONGEST: usize = 200_000;

pub(super) struct Line {
    pub(super) slot: usize,
    pub(super) pace: Pace,
    pub(super) client: Client,
    client_effects: Effects<calling::Event>,
    client_out: VecDeque<Bytes>,
    client_input: Input,
    pub(super) near: Near,
    /// The client sends no new calls here.
    pub(super) closed: bool,
    up: BytesMut,
    pub(super) serving: Serving,
    serving_effects: Effects<serving::Event>,
    serving_out: VecDeque<Bytes>,
    serving_input: Input,
    far: Far,
    down: BytesMut,
}

/// How often a line gets its turn. A handshake on a slow one is under way while other connections live and die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    Usual,
    Slow,
}

/// The client's end.
#[derive(Debug)]
pub(super) enum Near {
    /// `HELLO` has left.
    Greeting,
    /// To this process.
    Open(ServerProcess),
    Lost,
}

/// The server's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Far {
    /// `HELLO` has not come.
    Silent,
    Serving,
    /// The server has lost it, fenced it off, or turned it away.
    Gone,
}

impl Line {
    /// The client has connected, and said this.
    pub(super) fn new(now: Instant, slot: usize, pace: Pace, hello: Hello) -> Self {
        let mut up = BytesMut::new();
        Frame::Hello(hello).encode(&mut up);
        Self {
            slot,
            pace,
            client: Client::new(now, heartbeat(), None, calling_bounds()),
            client_effects: Effects::default(),
            client_out: VecDeque::new(),
            client_input: Input::default(),
            near: Near::Greeting,
            closed: false,
            up,
            serving: Serving::new(now, heartbeat(), None, serving_bounds()),
            serving_effects: Effects::default(),
            serving_out: VecDeque::new(),
            serving_input: Input::default(),
            far: Far::Silent,
            down: BytesMut::new(),
        }
    }

    /// The server's end waits for `HELLO`. Returns it when it has come whole.
    pub(super) fn hear(&mut self, most: usize) -> Option<Hello> {
        if self.far != Far::Silent {
            return None;
        }
        let piece = self.up.split_to(most.min(self.up.len()));
        self.serving_input.bytes.extend_from_slice(&piece);
        match first_frame(&mut self.serving_input) {
            Some(Frame::Hello(hello)) => Some(hello),
            Some(frame) => panic!("{frame:?}"),
            None => {
                if self.up.is_empty() && self.is_lost() {
                    self.far = Far::Gone;
                }
                None
            }
        }
    }

    /// The server's answer to `HELLO`.
    pub(super) fn answer(&mut self, answer: &Frame) {
        answer.encode(&mut self.down);
        self.far = if let Frame::Welcome(_) = answer { Far::Serving } else { Far::Gone };
    }

    pub(super) fn client_writes(&mut self, now: Instant, most: usize) {
        if self.server().is_some() {
            let (session, out) = (&mut self.client, &mut self.client_out);
            write(now, most, session, &mut self.client_effects, out, &mut self.up);
        }
    }

    pub(super) fn server_writes(&mut self, now: Instant, most: usize) {
        if self.far == Far::Serving {
            let (session, out) = (&mut self.serving, &mut self.serving_out);
            write(now, most, session, &mut self.serving_effects, out, &mut self.down);
        }
    }

    pub(super) fn server_reads(&mut self, now: Instant, most: usize) -> Vec<serving::Event> {
        if self.far != Far::Serving {
            return Vec::new();
        }
        if self.up.is_empty() && self.is_lost() {
            // The end that the client has left.
            return self.server_loses(0);
        }
        let piece = self.up.split_to(most.min(self.up.len()));
        if piece.is_empty() {
            return Vec::new();
        }
        self.serving_input.bytes.extend_from_slice(&piece);
        let Self { serving, serving_input, serving_effects, .. } = self;
        serving.received(now, serving_input, serving_effects).expect("no violation");
        std::mem::take(&mut serving_effects.events)
    }

    pub(super) fn client_reads(&mut self, now: Instant, most: usize) {
        if self.is_lost() {
            return self.down.clear();
        }
        if self.down.is_empty() && self.far == Far::Gone {
            return self.client_loses(usize::MAX);
        }
        let piece = self.down.split_to(most.min(self.down.len()));
        if piece.is_empty() {
            return;
        }
        self.client_input.bytes.extend_from_slice(&piece);
        if let Near::Greeting = self.near {
            match first_frame(&mut self.client_input) {
                Some(Frame::Welcome(welcome)) => self.near = Near::Open(process(&welcome)),
                Some(Frame::Busy { .. }) => return self.client_loses(usize::MAX),
                Some(frame) => panic!("{frame:?}"),
                None => return,
            }
        }
        let Self { client, client_input, client_effects, .. } = self;
        client.received(now, client_input, client_effects).expect("no violation");
        for event in client_effects.events.drain(..) {
            self.closed |= matches!(event, calling::Event::GoAway(_));
        }
    }

    /// What the client has sent arrives only up to some byte.
    pub(super) fn client_loses(&mut self, keep: usize) {
        if self.is_lost() {
            return;
        }
        self.up.truncate(keep);
        let loss = Arc::new(Loss::example(LossCause::ClosedByPeer));
        self.client.lost(&loss, &mut self.client_effects);
        self.client_out.clear();
        self.near = Near::Lost;
    }

    /// What the server has sent arrives only up to some byte.
    pub(super) fn server_loses(&mut self, keep: usize) -> Vec<serving::Event> {
        if self.far == Far::Gone {
            return Vec::new();
        }
        self.far = Far::Gone;
        self.up.clear();
        self.down.truncate(keep);
        self.serving
            .lost(&Arc::new(Loss::example(LossCause::ClosedByPeer)), &mut self.serving_effects);
        self.serving_out.clear();
        std::mem::take(&mut self.serving_effects.events)
    }

    pub(super) fn timeout(&mut self, now: Instant) {
        if self.server().is_some() {
            self.client.timeout(now, &mut self.client_effects).expect("no silence");
        }
    }

    /// The process at the other end, while the client has the connection.
    pub(super) fn server(&self) -> Option<ServerProcess> {
        match self.near {
            Near::Open(server) => Some(server),
            Near::Greeting | Near::Lost => None,
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        matches!(self.near, Near::Lost)
    }

    pub(super) fn is_silent(&self) -> bool {
        self.far == Far::Silent
    }

    pub(super) fn takes_calls(&self) -> bool {
        self.server().is_some() && !self.closed
    }

    /// Nothing more will come of it.
    pub(super) fn is_quiet(&self) -> bool {
        match (&self.near, self.far) {
            (Near::Open(_), Far::Serving) => {
                self.up.is_empty() && self.down.is_empty() && self.is_empty()
            }
            (Near::Lost, Far::Gone) => true,
            _ => false,
        }
    }

    fn is_empty(&self) -> bool {
        let shells = self.client_out.is_empty() && self.serving_out.is_empty();
        shells && self.client.is_empty() && self.serving.is_empty()
    }

    pub(super) fn check_empty(&self) {
        assert!(self.client.is_empty(), "{:?}", self.client);
        assert!(self.serving.is_empty(), "{:?}", self.serving);
    }
}

fn write<S: Session>(
    now: Instant,
    mut most: usize,
    session: &mut S,
    effects: &mut Effects<S::Event>,
    out: &mut VecDeque<Bytes>,
    wire: &mut BytesMut,
) {
    if out.is_empty() {
        session.transmit(now, out);
    }
    let mut count = 0;
    while let Some(first) = out.front_mut().filter(|_| most > 0) {
        let piece = first.split_to(most.min(first.len()));
        most -= piece.len();
        count += piece.len();
        wire.extend_from_slice(&piece);
        if first.is_empty() {
            out.pop_front();
        }
    }
    if count > 0 {
        session.written(now, count, effects);
    }
}

/// The first frame of either side, once it has come whole.
fn first_frame(input: &mut Input) -> Option<Frame> {
    let payload = next_payload(&mut input.bytes).expect("no violation")?;
    Some(Frame::decode(payload).expect("no violation"))
}

/// What the client makes of `WELCOME`.
fn process(welcome: &Welcome) -> ServerProcess {
    let memory = match welcome.cached_calls {
        0 => ServerMemory::None,
        _ => ServerMemory::ReplyCache { number: welcome.memory },
    };
    ServerProcess { instance: Some(welcome.instance), memory }
}

fn calling_bounds() -> calling::Bounds {
    calling::Bounds { send: LONGEST, receive: LONGEST, queued_bytes: 10 * LONGEST }
}

fn serving_bounds() -> serving::Bounds {
    serving::Bounds {
        send: LONGEST,
        receive: LONGEST,
        in_flight: 1000,
        held_bytes: usize::MAX,
        idle_limit: None,
    }
}

fn heartbeat() -> Heartbeat {
    let hour = Duration::from_secs(3600);
    Heartbeat::every(hour).give_up_after(hour)
}
