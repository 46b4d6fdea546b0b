//! Whether a connection lives: inbound silence and outbound standstill, judged against the same bound.
//!
//! What is asked, and how, is the business of whoever speaks a protocol.

use std::time::{Duration, Instant};

use crate::error::loss::LossCause;
use crate::policy;
use crate::proto::heartbeat::{Beat, Dead, GRACES, Heartbeat};
use crate::proto::outgoing::Outgoing;

#[derive(Debug)]
pub(crate) struct Pulse {
    heartbeat: Heartbeat,
    sending: Sending,
}

/// Whether the operating system takes what is handed to it.
#[derive(Debug, Clone, Copy)]
enum Sending {
    Idle,
    /// Something is in the shell's hands; the last byte of it was accepted then. So many verdicts were put off.
    Busy {
        progress: Instant,
        graces: u8,
    },
}

impl Pulse {
    /// `peer_every` is how often the peer wants to hear something, if it said so.
    pub(crate) fn new(
        now: Instant,
        heartbeat: policy::Heartbeat,
        peer_every: Option<Duration>,
    ) -> Self {
        let heartbeat = Heartbeat::new(now, heartbeat, peer_every);
        Self { heartbeat, sending: Sending::Idle }
    }

    /// Speaks together with all others whose steps are counted from the same time.
    pub(crate) fn in_step(self, since: Instant) -> Self {
        Self { heartbeat: self.heartbeat.in_step(since), ..self }
    }

    /// Bytes have arrived.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heartbeat.heard(now);
    }

    /// The shell has been given what there is to be written.
    pub(crate) fn transmitted(&mut self, now: Instant, outgoing: &Outgoing) {
        if matches!(self.sending, Sending::Idle) && outgoing.is_in_hand() {
            self.sending = Sending::Busy { progress: now, graces: 0 };
        }
    }

    /// The operating system accepted bytes.
    pub(crate) fn written(&mut self, now: Instant, outgoing: &Outgoing) {
        self.heartbeat.spoke(now);
        self.sending = match outgoing.is_in_hand() {
            true => Sending::Busy { progress: now, graces: 0 },
            false => Sending::Idle,
        };
    }

    /// Judges a standstill of sending.
    pub(crate) fn check_sending(&mut self, now: Instant) -> Result<(), LossCause> {
        let Sending::Busy { progress, graces } = self.sending else {
            return Ok(());
        };
        let bound = self.bound();
        let Some(late) = now.checked_duration_since(progress + bound) else {
            return Ok(());
        };
        // A verdict that is due long ago is not given: then it was us who slept. But not for ever.
        if late <= bound / 4 || graces >= GRACES {
            return Err(LossCause::Stalled { stalled_for: bound + late, bound });
        }
        self.sending = Sending::Busy { progress: now, graces: graces + 1 };
        Ok(())
    }

    /// When sending counts as stalled.
    pub(crate) fn stalled_at(&self) -> Option<Instant> {
        match self.sending {
            Sending::Idle => None,
            Sending::Busy { progress, .. } => Some(progress + self.bound()),
        }
    }

    /// Judges a silence, or says what is to be done about it.
    pub(crate) fn beat(&mut self, now: Instant) -> Result<Beat, LossCause> {
        self.heartbeat.timeout(now).map_err(|Dead| LossCause::Silent {
            silent_for: self.heartbeat.silent_for(now),
            bound: self.bound(),
        })
    }

    /// When [`beat`](Self::beat) should be asked.
    pub(crate) fn beat_at(&self) -> Instant {
        self.heartbeat.deadline()
    }

    /// A connection to the same server has just died of silence.
    pub(crate) fn probe(&mut self, now: Instant) -> Beat {
        self.heartbeat.probe(now)
    }

    /// How often the peer is asked, if nothing comes by itself.
    pub(crate) fn every(&self) -> Duration {
        self.heartbeat.every()
    }

    /// The longest silence, or standstill of sending, that is borne.
    pub(crate) fn bound(&self) -> Duration {
        self.heartbeat.bound()
    }

    /// When bytes arrived last.
    pub(crate) fn heard_at(&self) -> Instant {
        self.heartbeat.heard_at()
    }
}
