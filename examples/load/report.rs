//! What became of the calls, and of the connections under them.

use std::io::{self, Write as _};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use steadfast::{Bytes, CallError, Event, Outcome, Subscription};
use tokio::time::Instant;

/// What became of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ok,
    Failed(Outcome),
    /// The reply was not that of this request.
    Mismatched,
}

impl Verdict {
    pub(crate) fn of(result: &Result<Bytes, CallError>, request: &Bytes) -> Self {
        match result {
            Ok(reply) if reply == request => Self::Ok,
            Ok(_) => Self::Mismatched,
            Err(error) => Self::Failed(error.outcome()),
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed(outcome) => outcome.as_str(),
            Self::Mismatched => "mismatched",
        }
    }
}

/// Grows with every call that is settled.
#[derive(Debug)]
pub(crate) struct Tally {
    start: Instant,
    last_success: Instant,
    longest_gap: Duration,
    ok: u64,
    not_sent: u64,
    refused: u64,
    indeterminate: u64,
    remote: u64,
    mismatched: u64,
    /// Of successful calls, in microseconds.
    latencies: Histogram<u64>,
    last_error: Option<CallError>,
}

impl Tally {
    pub(crate) fn new(start: Instant) -> Self {
        // From 1 us to 1 h; a call may take 24 h, but nobody will tell the difference here.
        let latencies = Histogram::new_with_bounds(1, 3_600_000_000, 3)
            .expect("the bounds are more than a factor of two apart");
        Self {
            start,
            last_success: start,
            longest_gap: Duration::ZERO,
            ok: 0,
            not_sent: 0,
            refused: 0,
            indeterminate: 0,
            remote: 0,
            mismatched: 0,
            latencies,
            last_error: None,
        }
    }

    pub(crate) fn settled(
        &mut self,
        now: Instant,
        took: Duration,
        verdict: Verdict,
        error: Option<CallError>,
    ) {
        match verdict {
            Verdict::Ok => {
                self.ok += 1;
                self.latencies.saturating_record(took.as_micros() as u64);
                self.success(now);
            }
            Verdict::Failed(Outcome::NotSent) => self.not_sent += 1,
            Verdict::Failed(Outcome::Refused) => self.refused += 1,
            Verdict::Failed(Outcome::Indeterminate) => self.indeterminate += 1,
            Verdict::Failed(Outcome::Remote) => self.remote += 1,
            Verdict::Mismatched => self.mismatched += 1,
        }
        self.last_error = error.or(self.last_error.take());
    }

    pub(crate) fn settled_calls(&self) -> u64 {
        self.ok + self.failed() + self.mismatched
    }

    fn failed(&self) -> u64 {
        self.not_sent + self.refused + self.indeterminate + self.remote
    }

    fn success(&mut self, now: Instant) {
        // Callers read the clock before they get here, so a later time may come first.
        let gap = now.saturating_duration_since(self.last_success);
        self.longest_gap = self.longest_gap.max(gap);
        self.last_success = self.last_success.max(now);
    }

    /// The account at the end of the run. The time from the last success to the end is a gap like others.
    pub(crate) fn report(&self, end: Instant, connections: Connections) -> Report {
        let gap = end.saturating_duration_since(self.last_success);
        let took = end.saturating_duration_since(self.start).as_secs_f64();
        Report {
            calls: self.settled_calls(),
            ok: self.ok,
            not_sent: self.not_sent,
            refused: self.refused,
            indeterminate: self.indeterminate,
            remote: self.remote,
            mismatched: self.mismatched,
            connects: connections.connects,
            losses: connections.losses,
            instance_changes: connections.instance_changes,
            longest_gap_ms: self.longest_gap.max(gap).as_secs_f64() * 1e3,
            p50_us: self.latencies.value_at_quantile(0.5),
            p99_us: self.latencies.value_at_quantile(0.99),
            p999_us: self.latencies.value_at_quantile(0.999),
            calls_per_s: self.ok as f64 / took.max(1e-6),
            seconds: took,
            last_error: self.last_error.as_ref().map(ToString::to_string),
        }
    }
}

/// What the pool's events say.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Connections {
    connects: u64,
    losses: u64,
    instance_changes: u64,
}

impl Connections {
    /// Counts until the pool is closed.
    pub(crate) async fn count(mut events: Subscription<Event>) -> Self {
        let mut seen = Self::default();
        while let Some(event) = events.next().await {
            match event {
                Event::Ready { .. } => seen.connects += 1,
                Event::Lost { loss, .. } if !loss.is_intended() => seen.losses += 1,
                Event::InstanceChanged { .. } => seen.instance_changes += 1,
                _ => {}
            }
        }
        seen
    }
}

/// The result of a run. Every call is in exactly one of `ok` to `mismatched`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    calls: u64,
    ok: u64,
    not_sent: u64,
    refused: u64,
    indeterminate: u64,
    remote: u64,
    pub(crate) mismatched: u64,
    connects: u64,
    losses: u64,
    instance_changes: u64,
    /// The longest time without any success, the beginning and the end included.
    longest_gap_ms: f64,
    /// Latencies are those of successful calls.
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    /// Successful ones.
    calls_per_s: f64,
    #[serde(skip)]
    seconds: f64,
    #[serde(skip)]
    last_error: Option<String>,
}

impl Report {
    pub(crate) fn print(&self, json: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if json {
            serde_json::to_writer(&mut out, self)?;
            return writeln!(out);
        }
        let Self {
            calls,
            ok,
            not_sent,
            refused,
            indeterminate,
            remote,
            mismatched,
            connects,
            losses,
            instance_changes,
            longest_gap_ms,
            p50_us,
            p99_us,
            p999_us,
            calls_per_s,
            seconds,
            last_error,
        } = self;
        writeln!(out, "calls        {calls} in {seconds:.1} s, {ok} ok")?;
        writeln!(
            out,
            "failed       {not_sent} not sent, {refused} refused, {indeterminate} indeterminate, {remote} remote, \
             {mismatched} mismatched"
        )?;
        if let Some(error) = last_error {
            writeln!(out, "last error   {error}")?;
        }
        writeln!(
            out,
            "connections  {connects} made, {losses} lost, {instance_changes} changes of the server process"
        )?;
        writeln!(out, "latency      p50 {p50_us} us, p99 {p99_us} us, p99.9 {p999_us} us")?;
        writeln!(out, "longest gap  {longest_gap_ms:.1} ms without a success")?;
        writeln!(out, "throughput   {calls_per_s:.0} ok/s")
    }
}
