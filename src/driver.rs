//! One live connection's owner: the task that reads and writes its socket, from the handshake to its one death.
//!
//! ```text
//!  Open ── write failed ──► WriteFailed: reading goes on, a reply may still wait ──► over
//!    │ ── end of file, error, silence ─────────────────────────────────────────► over
//!    └─── finished, or the peer broke the protocol ──► Parting: flush, FIN, read to the peer's FIN ──► over
//! ```
//!
//! It moves bytes and time and decides nothing. Reading and writing are always polled together.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::task::yield_now;

use crate::autopsy::{About, Ending, Meter};
use crate::clock::now;
use crate::connection::{Connection, Tell, Then};
use crate::driver::inflow::Inflow;
use crate::driver::outflow::Outflow;
use crate::error::loss::{Loss, LossCause};
use crate::error::os::OsError;
use crate::panics::discard;
use crate::proto::session::{Effects, Happened, Session};
use crate::proto::speech::Speech;
use crate::proto::wakes::wake;
use crate::timer::Timer;
use crate::transport::Transport;

mod ending;
mod inflow;
mod outflow;

/// After a failed write, what the peer said before it closed is awaited for so long.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// After FIN, the peer's FIN is awaited for so long, so that no RST destroys the last bytes.
const LINGER: Duration = Duration::from_secs(2);
/// After FIN, the FIN of a peer that broke the protocol is awaited for so long.
const LINGER_VIOLATION: Duration = Duration::from_millis(200);

/// After so many rounds others on its thread have their turn: with a transport that is always ready there would be no end. So tokio
/// stops a task after 128 operations on sockets of its own.
const ROUNDS: usize = 128;

/// The owner of the socket.
pub(crate) struct Driver<S: Session + ?Sized> {
    connection: Connection<S>,
    transport: Box<dyn Transport>,
    input: Inflow,
    /// Who makes sense of what arrives, where that is not the session itself.
    reader: Option<Arc<Speech>>,
    wants_input: bool,
    output: Outflow,
    effects: Effects<S::Event>,
    timer: Timer,
    phase: Phase,
    about: About,
    meter: Meter,
    /// Whether callers were given a turn to add their bytes since the last write.
    gathered: bool,
}

#[derive(Debug)]
enum Phase {
    Open,
    /// Nothing can be written any more.
    WriteFailed {
        error: OsError,
        until: Instant,
    },
    /// The session is settled.
    Parting {
        loss: Arc<Loss>,
        until: Instant,
        fin_sent: bool,
    },
}

impl Phase {
    /// When it is over, whatever the peer does.
    fn until(&self) -> Option<Instant> {
        match self {
            Self::Open => None,
            Self::WriteFailed { until, .. } | Self::Parting { until, .. } => Some(*until),
        }
    }
}

/// What one attempt to read gave.
#[derive(Debug)]
enum Read {
    Nothing,
    Bytes,
    Eof,
    Failed(OsError),
}

/// What one turn with the session gave.
#[derive(Debug)]
struct Turn {
    asked: Result<Asked, LossCause>,
    deadline: Option<Instant>,
    /// Input is wanted again, so reading must be tried again.
    reopened: bool,
}

/// What is to be done next.
#[derive(Debug)]
enum Act {
    Next {
        /// Whether the session must be asked again before this task sleeps.
        at_once: bool,
        deadline: Option<Instant>,
    },
    /// Callers first: this task has a turn behind them.
    Gather,
    Over(Arc<Loss>),
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// Several callers are about to add their bytes: let them, then write once.
    Gather,
    Write,
    Finished,
    /// Somebody else takes the socket.
    Leave,
}

impl<S: Session + ?Sized> Driver<S> {
    /// `input` holds what came behind the handshake.
    pub(crate) fn new(
        connection: Connection<S>,
        transport: Box<dyn Transport>,
        input: BytesMut,
        about: About,
    ) -> Self {
        let reader = connection.reader();
        let framing = reader.as_ref().map(|reader| reader.framing());
        let meter = Meter::new(now(), &input, framing);
        Self {
            reader,
            connection,
            transport,
            input: Inflow::new(input),
            wants_input: true,
            output: Outflow::default(),
            effects: Effects::default(),
            timer: Timer::default(),
            phase: Phase::Open,
            about,
            meter,
            gathered: false,
        }
    }

    /// Runs until the connection's death. `event` hears what happens meanwhile, never under a lock.
    /// It borrows, so that a future that has a driver is not twice as large: what an `async fn` takes by value it keeps twice.
    ///
    /// # Cancel safety
    /// Dropping the driver closes the socket and settles everything as closed on this side.
    pub(crate) fn run<'a, F>(
        &'a mut self,
        mut event: F,
    ) -> impl Future<Output = Arc<Loss>> + Send + use<'a, S, F>
    where
        F: FnMut(Happened<'_, S::Event>) + Send + 'a,
    {
        poll_fn(move |cx| self.poll(cx, &mut event))
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        event: &mut impl FnMut(Happened<'_, S::Event>),
    ) -> Poll<Arc<Loss>> {
        // Whether the session may have something to do, and when it has in any case.
        let (mut due, mut deadline) = (true, None);
        for _ in 0..ROUNDS {
            let now = now();
            let read = self.poll_read(cx, now);
            let waits = matches!(read, Read::Nothing);
            if due || !waits || deadline.is_some_and(|deadline| now >= deadline) {
                match self.act(cx, now, &read, event) {
                    Act::Gather => return Poll::Pending,
                    Act::Over(loss) => return Poll::Ready(loss),
                    Act::Next { at_once, deadline: next } => (due, deadline) = (at_once, next),
                }
            }
            let is_idle = waits && !due;
            if is_idle && !deadline.is_some_and(|deadline| self.timer.poll(cx, deadline)) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Tells the session what was read, and does what it wants.
    fn act(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        read: &Read,
        event: &mut impl FnMut(Happened<'_, S::Event>),
    ) -> Act {
        let (mut at_once, mut deadline) = (false, None);
        if !matches!(self.phase, Phase::Parting { .. }) {
            let turn = self.turn(cx, now, read);
            self.deliver(event);
            (at_once, deadline) = (turn.reopened, turn.deadline);
            match turn.asked {
                Ok(Asked::Gather) if !matches!(read, Read::Eof | Read::Failed(_)) => {
                    // Wakes this task behind those that are ready.
                    let _ = pin!(yield_now()).poll(cx);
                    return Act::Gather;
                }
                Ok(Asked::Gather | Asked::Write) => {}
                // What has just been found out is not kept from whoever takes it.
                Ok(Asked::Leave) if !matches!(read, Read::Failed(_)) => {
                    return Act::Over(self.leave(now, event));
                }
                Ok(Asked::Leave) => {}
                Ok(Asked::Finished) => self.part(now, LossCause::ClosedHere, LINGER, event),
                Err(cause @ (LossCause::Violation(_) | LossCause::DialectPanicked)) => {
                    self.part(now, cause, LINGER_VIOLATION, event);
                }
                Err(verdict) => return Act::Over(self.end(now, Ending::Verdict(verdict), event)),
            }
        }
        match read {
            Read::Eof => return Act::Over(self.end(now, Ending::Eof, event)),
            Read::Failed(error) => {
                return Act::Over(self.end(now, Ending::Failed(error.clone()), event));
            }
            Read::Nothing | Read::Bytes => {}
        }
        at_once |= self.poll_write(cx, now);
        let until = self.phase.until();
        if until.is_some_and(|until| now >= until) {
            return Act::Over(self.end(now, Ending::WaitedLongEnough, event));
        }
        Act::Next { at_once, deadline: deadline.into_iter().chain(until).min() }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, now: Instant) -> Read {
        // Judged, and answered, before what may be the end is read.
        if self.input.take_fresh() {
            return Read::Bytes;
        }
        if !self.wants_input && matches!(self.phase, Phase::Open) {
            return Read::Nothing;
        }
        if matches!(self.phase, Phase::Parting { .. }) {
            self.input.arrived.discard();
        }
        match self.input.poll_read(&mut *self.transport, cx) {
            Poll::Pending => Read::Nothing,
            Poll::Ready(Ok([])) => Read::Eof,
            Poll::Ready(Ok(came)) => {
                self.meter.came(now, came);
                Read::Bytes
            }
            Poll::Ready(Err(error)) => Read::Failed(error.into()),
        }
    }

    /// One turn with the session: tells it what happened, takes what is to be written.
    fn turn(&mut self, cx: &Context<'_>, now: Instant, read: &Read) -> Turn {
        let arrived = matches!(read, Read::Bytes);
        if let (Some(reader), true) = (&self.reader, arrived) {
            reader.read(&mut self.input.arrived);
        }
        let Self { connection, input, output, effects, gathered, phase, .. } = self;
        let is_open = matches!(phase, Phase::Open);
        let accepted = output.take_accepted();
        let (asked, wants_input, deadline) = connection.turn(cx, |session| {
            let mut ask = || {
                if accepted > 0 {
                    session.written(now, accepted, effects);
                }
                if arrived {
                    session.received(now, &mut input.arrived, effects)?;
                }
                if session.next_deadline().is_some_and(|deadline| now >= deadline) {
                    session.timeout(now, effects)?;
                }
                if output.pieces.is_empty() && is_open {
                    if !*gathered && session.wants_gather() {
                        *gathered = true;
                        return Ok(Asked::Gather);
                    }
                    *gathered = false;
                    session.transmit(now, &mut output.pieces);
                }
                // Behind a failed write there is only the loss, with what the peer may still say.
                Ok(if is_open && session.is_finished() {
                    Asked::Finished
                } else if is_open && output.is_done() && session.is_leaving() {
                    Asked::Leave
                } else {
                    Asked::Write
                })
            };
            let asked = ask();
            session.take_spent(&mut effects.spent);
            let then = match asked {
                Ok(Asked::Gather) => Then::ComeBack,
                _ => Then::Sleep,
            };
            ((asked, session.wants_input(), session.next_deadline()), then)
        });
        let wanted_before = std::mem::replace(&mut self.wants_input, wants_input);
        let reopened = wants_input && !wanted_before;
        Turn { asked, deadline, reopened }
    }

    /// Wakes callers and reports events, now that the lock is released.
    fn deliver(&mut self, event: &mut impl FnMut(Happened<'_, S::Event>)) {
        self.effects.wake.drain(..).for_each(wake);
        if !self.effects.events.is_empty() {
            event(self.effects.events.drain(..));
        }
        self.effects.spent.drain(..).for_each(discard);
    }

    /// Writes as much as is taken, then flushes. True if any of it was done.
    fn poll_write(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if let Phase::WriteFailed { .. } | Phase::Parting { fin_sent: true, .. } = self.phase {
            return false;
        }
        let mut progress = false;
        while !self.output.is_done() {
            let Self { output, transport, meter, .. } = self;
            let polled = match output.pieces.is_empty() {
                true => output.poll_flush(&mut **transport, cx),
                false => output.poll_write(&mut **transport, cx, |gone| meter.went(gone)),
            };
            match polled {
                Poll::Ready(Ok(())) => progress = true,
                Poll::Ready(Err(error)) => {
                    self.write_failed(now, error.into());
                    return true;
                }
                Poll::Pending => return progress,
            }
        }
        let Phase::Parting { fin_sent, .. } = &mut self.phase else {
            return progress;
        };
        *fin_sent = Pin::new(&mut *self.transport).poll_shutdown(cx).is_ready();
        *fin_sent
    }

    /// Nothing more can be written; what the peer said before it closed may still be there to be read.
    fn write_failed(&mut self, now: Instant, error: OsError) {
        self.output.give_up();
        match &mut self.phase {
            Phase::Open => {
                self.phase = Phase::WriteFailed { error, until: now + LAST_WORDS };
                self.connection.with(|session| (session.write_failed(), Tell::Nobody));
            }
            Phase::WriteFailed { .. } => {}
            Phase::Parting { fin_sent, .. } => *fin_sent = true,
        }
    }
}

impl<S: Session + ?Sized> std::fmt::Debug for Driver<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("phase", &self.phase).finish_non_exhaustive()
    }
}
