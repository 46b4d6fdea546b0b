//! One end of a connection, and the shell around it, without a socket.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut as _, Bytes};

use crate::error::loss::{Loss, LossCause};
use crate::fuzzing::script::{Script, Shell};
use crate::proto::input::Input;
use crate::proto::session::{Effects, Session};
use crate::proto::speech::Speech;

/// What was handed over and is not written is no more than this, unless more was asked for: answers and complaints about what
/// comes are bounded.
const MOST_OWED: usize = 4 << 20;

/// So much may be due at one time.
const AT_ONCE: usize = 4;

pub(super) struct End<S: Session> {
    pub(super) session: S,
    pub(super) effects: Effects<S::Event>,
    pub(super) now: Instant,
    input: Input,
    reader: Option<Arc<Speech>>,
    out: VecDeque<Bytes>,
    over: bool,
    /// What has left, and what has come, since somebody took it from here.
    pub(super) left: Vec<u8>,
    pub(super) came: Vec<u8>,
}

impl<S: Session> End<S> {
    pub(super) fn new(now: Instant, session: S) -> Self {
        let reader = session.reader();
        let (effects, input, out) = (Effects::default(), Input::default(), VecDeque::new());
        let (left, came) = (Vec::new(), Vec::new());
        Self { session, effects, now, input, reader, out, over: false, left, came }
    }

    /// The session has said that the connection is to end.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn step(&mut self, step: Shell, script: &mut Script<'_>) {
        match step {
            Shell::Hear => {
                let bytes = usize::from(script.byte());
                self.hear(script.take(bytes));
            }
            Shell::HearFrame => self.hear(&script.frame()),
            Shell::Write => self.write(usize::from(script.short())),
            Shell::WriteAll => self.write(usize::MAX),
            Shell::Wait => self.wait(u64::from(script.short())),
        }
    }

    /// These bytes arrive, as the shell reads them: to where they belong, if a long part is coming.
    pub(super) fn hear(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.over {
            let count = match &mut self.input.landing {
                Some(landing) => {
                    let mut room = landing.room();
                    let count = room.remaining_mut().min(bytes.len());
                    room.put_slice(&bytes[..count]);
                    count
                }
                None => {
                    self.input.bytes.extend_from_slice(bytes);
                    bytes.len()
                }
            };
            self.came.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if let Some(reader) = &self.reader {
                reader.read(&mut self.input);
            }
            let result = self.session.received(self.now, &mut self.input, &mut self.effects);
            self.judge(result);
        }
    }

    /// Time passes, in milliseconds. Several things may be due by then, but not without end.
    fn wait(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        for _ in 0..AT_ONCE {
            let result = self.session.timeout(self.now, &mut self.effects);
            self.judge(result);
            if self.over {
                return;
            }
            self.write(0);
            if self.session.next_deadline().is_none_or(|next| next > self.now) {
                return;
            }
        }
        panic!("the time stands still");
    }

    /// The operating system takes so many.
    pub(super) fn write(&mut self, most: usize) {
        self.session.transmit(self.now, &mut self.out);
        let owed: usize = self.out.iter().map(Bytes::len).sum();
        assert!(owed <= MOST_OWED, "{owed} bytes are in hand");
        let (mut left, mut count) = (most, 0);
        while let Some(first) = self.out.front_mut().filter(|_| left > 0) {
            let piece = first.split_to(left.min(first.len()));
            self.left.extend_from_slice(&piece);
            (left, count) = (left - piece.len(), count + piece.len());
            if first.is_empty() {
                self.out.pop_front();
            }
        }
        if count > 0 {
            self.session.written(self.now, count, &mut self.effects);
        }
    }

    fn judge(&mut self, result: Result<(), LossCause>) {
        self.over |= result.is_err();
    }

    /// The connection has ended.
    pub(super) fn lose(&mut self) {
        let loss = Arc::new(Loss::example(LossCause::ClosedByPeer));
        self.session.lost(&loss, &mut self.effects);
    }
}
