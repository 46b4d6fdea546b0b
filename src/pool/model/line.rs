//! One connection: both sessions, and the bytes between them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::error::instance::InstanceId;
use crate::error::loss::{Loss, LossCause};
use crate::policy::Heartbeat;
use crate::proto::calling;
use crate::proto::client::Client;
use crate::proto::input::Input;
use crate::proto::serving::{self, Serving};
use crate::proto::session::{Effects, Session};

/// The longest body.
pub(super) const LONGEST: usize = 200_000;

pub(super) struct Line {
    pub(super) slot: usize,
    pub(super) instance: InstanceId,
    pub(super) client: Client,
    client_effects: Effects<calling::Event>,
    client_out: VecDeque<Bytes>,
    client_input: Input,
    /// The client has lost it.
    pub(super) lost: Option<Arc<Loss>>,
    /// The client sends no new calls here.
    pub(super) closed: bool,
    up: BytesMut,
    pub(super) serving: Serving,
    serving_effects: Effects<serving::Event>,
    serving_out: VecDeque<Bytes>,
    serving_input: Input,
    /// The server has lost it, or fenced it off.
    pub(super) served: bool,
    down: BytesMut,
}

impl Line {
    pub(super) fn new(now: Instant, slot: usize, instance: InstanceId, serving: Serving) -> Self {
        let bounds =
            calling::Bounds { send: LONGEST, receive: LONGEST, queued_bytes: 10 * LONGEST };
        Self {
            slot,
            instance,
            client: Client::new(now, heartbeat(), None, bounds),
            client_effects: Effects::default(),
            client_out: VecDeque::new(),
            client_input: Input::default(),
            lost: None,
            closed: false,
            up: BytesMut::new(),
            serving,
            serving_effects: Effects::default(),
            serving_out: VecDeque::new(),
            serving_input: Input::default(),
            served: true,
            down: BytesMut::new(),
        }
    }

    pub(super) fn client_writes(&mut self, now: Instant, most: usize) {
        if self.lost.is_none() {
            let (session, out) = (&mut self.client, &mut self.client_out);
            write(now, most, session, &mut self.client_effects, out, &mut self.up);
        }
    }

    pub(super) fn server_writes(&mut self, now: Instant, most: usize) {
        if self.served {
            let (session, out) = (&mut self.serving, &mut self.serving_out);
            write(now, most, session, &mut self.serving_effects, out, &mut self.down);
        }
    }

    pub(super) fn server_reads(&mut self, now: Instant, most: usize) -> Vec<serving::Event> {
        if self.up.is_empty() && self.lost.is_some() && self.served {
            // The end that the client has left.
            return self.server_loses(0);
        }
        let piece = self.up.split_to(most.min(self.up.len()));
        if !self.served || piece.is_empty() {
            return Vec::new();
        }
        self.serving_input.bytes.extend_from_slice(&piece);
        let Self { serving, serving_input, serving_effects, .. } = self;
        serving.received(now, serving_input, serving_effects).expect("no violation");
        std::mem::take(&mut serving_effects.events)
    }

    pub(super) fn client_reads(&mut self, now: Instant, most: usize) {
        if self.lost.is_some() {
            return self.down.clear();
        }
        if self.down.is_empty() && !self.served {
            return self.client_loses(usize::MAX);
        }
        let piece = self.down.split_to(most.min(self.down.len()));
        if piece.is_empty() {
            return;
        }
        self.client_input.bytes.extend_from_slice(&piece);
        let Self { client, client_input, client_effects, .. } = self;
        client.received(now, client_input, client_effects).expect("no violation");
        for event in client_effects.events.drain(..) {
            self.closed |= matches!(event, calling::Event::GoAway(_));
        }
    }

    /// What the client has sent arrives only up to some byte.
    pub(super) fn client_loses(&mut self, keep: usize) {
        if self.lost.is_some() {
            return;
        }
        self.up.truncate(keep);
        let loss = Arc::new(Loss::example(LossCause::ClosedByPeer));
        self.client.lost(&loss, &mut self.client_effects);
        self.client_out.clear();
        self.lost = Some(loss);
    }

    /// What the server has sent arrives only up to some byte.
    pub(super) fn server_loses(&mut self, keep: usize) -> Vec<serving::Event> {
        if !self.served {
            return Vec::new();
        }
        self.served = false;
        self.up.clear();
        self.down.truncate(keep);
        self.serving
            .lost(&Arc::new(Loss::example(LossCause::ClosedByPeer)), &mut self.serving_effects);
        self.serving_out.clear();
        std::mem::take(&mut self.serving_effects.events)
    }

    pub(super) fn timeout(&mut self, now: Instant) {
        if self.lost.is_none() {
            self.client.timeout(now, &mut self.client_effects).expect("no silence");
        }
    }

    pub(super) fn takes_calls(&self) -> bool {
        self.lost.is_none() && !self.closed
    }

    /// Nothing more will come of it.
    pub(super) fn is_quiet(&self) -> bool {
        match (&self.lost, self.served) {
            (None, true) => self.up.is_empty() && self.down.is_empty() && self.is_empty(),
            (None, false) | (Some(_), true) => false,
            (Some(_), false) => true,
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

pub(super) fn heartbeat() -> Heartbeat {
    let hour = Duration::from_secs(3600);
    Heartbeat::every(hour).give_up_after(hour)
}
