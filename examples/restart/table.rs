//! The comparison at the end, for people and for programs.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::time::Duration;

use serde::Serialize;

use crate::ledger::Settled;

#[derive(Debug, Serialize)]
pub(crate) struct Table {
    kills: u32,
    down_ms: u64,
    naive: Column,
    steadfast: Column,
}

/// One client. `failed` is the sum of the five after it; `unknown` are errors that do not say whether the call ran.
#[derive(Debug, Serialize)]
struct Column {
    calls: u64,
    ok: u64,
    failed: u64,
    not_sent: u64,
    refused: u64,
    indeterminate: u64,
    remote: u64,
    unknown: u64,
    mixed_up: u64,
    /// Null without a kill.
    gap_ms_median: Option<f64>,
    longest_gap_ms: Option<f64>,
}

impl Table {
    pub(crate) fn new(kills: u32, down_ms: u64, naive: &Settled, steadfast: &Settled) -> Self {
        Self { kills, down_ms, naive: Column::new(naive), steadfast: Column::new(steadfast) }
    }

    /// No idempotent call was lost, and no reply mixed up.
    pub(crate) fn steadfast_kept_its_word(&self) -> bool {
        let Column { ok, failed, mixed_up, .. } = self.steadfast;
        ok > 0 && failed == 0 && mixed_up == 0
    }

    pub(crate) fn print(&self, json: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if json {
            serde_json::to_writer(&mut out, self)?;
            return writeln!(out);
        }
        writeln!(out)?;
        write_row(&mut out, "", "naive", "steadfast")?;
        for (name, value) in ROWS {
            write_row(&mut out, name, value(&self.naive), value(&self.steadfast))?;
        }
        Ok(())
    }
}

impl Column {
    fn new(settled: &Settled) -> Self {
        let in_ms = |gap: Duration| (gap.as_secs_f64() * 1e6).round() / 1e3;
        Self {
            calls: settled.calls(),
            ok: settled.ok,
            failed: settled.failed(),
            not_sent: settled.not_sent,
            refused: settled.refused,
            indeterminate: settled.indeterminate,
            remote: settled.remote,
            unknown: settled.unknown,
            mixed_up: settled.mixed_up,
            gap_ms_median: settled.median_gap().map(in_ms),
            longest_gap_ms: settled.longest_gap().map(in_ms),
        }
    }
}

type Row = (&'static str, fn(&Column) -> String);

const ROWS: [Row; 11] = [
    ("calls", |column| column.calls.to_string()),
    ("ok", |column| column.ok.to_string()),
    ("failed", |column| column.failed.to_string()),
    ("  not sent", |column| column.not_sent.to_string()),
    ("  refused", |column| column.refused.to_string()),
    ("  indeterminate", |column| column.indeterminate.to_string()),
    ("  remote error", |column| column.remote.to_string()),
    ("  error that does not say whether it ran", |column| column.unknown.to_string()),
    ("replies to the wrong caller", |column| column.mixed_up.to_string()),
    ("server listens again to first reply, median", |column| gap(column.gap_ms_median)),
    ("server listens again to first reply, longest", |column| gap(column.longest_gap_ms)),
];

fn gap(ms: Option<f64>) -> String {
    ms.map_or("-".into(), |ms| format!("{ms:.1} ms"))
}

fn write_row(
    out: &mut impl io::Write,
    name: &str,
    naive: impl Display,
    steadfast: impl Display,
) -> io::Result<()> {
    writeln!(out, "{name:<44}  {naive:>12}  {steadfast:>12}")
}
