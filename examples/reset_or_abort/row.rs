//! What was seen of one end of a connection, for people and for programs.

use std::fmt;

use serde::Serialize;
use steadfast::{Loss, LossCause};

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// Null where the system does not tell.
    pub(crate) tcp_before: Option<String>,
    /// Null where the system does not tell.
    tcp_after: Option<String>,
    fin_seen: bool,
    /// What the operating system said to either, in this order or the other.
    reading: String,
    writing: String,
    cause: String,
    line: String,
    /// What became of the call in hand, if there was one.
    pub(crate) call: Option<&'static str>,
    expected: &'static str,
}

impl Row {
    pub(crate) fn new(
        name: &'static str,
        what: &'static str,
        expected: &'static str,
        loss: &Loss,
    ) -> Self {
        let half = if loss.cut_off { ", in the middle of a frame" } else { "" };
        Self {
            name,
            what,
            tcp_before: None,
            tcp_after: loss.tcp.map(|tcp| tcp.state.to_string()),
            fin_seen: loss.fin_seen,
            reading: loss.reading.to_string(),
            writing: loss.writing.to_string(),
            cause: cause(loss),
            line: format!("{}{half}", loss.cause),
            call: None,
            expected,
        }
    }

    pub(crate) fn is_as_expected(&self) -> bool {
        self.cause == self.expected
    }
}

/// The cause in a word.
fn cause(loss: &Loss) -> String {
    match &loss.cause {
        LossCause::ClosedByPeer => "closed by the peer",
        LossCause::Os(error) => error.name().unwrap_or("an unknown code"),
        LossCause::Silent { .. } => "silent",
        LossCause::Stalled { .. } => "stalled",
        LossCause::Unanswered { .. } => "unanswered",
        LossCause::Violation(_) => "violation",
        LossCause::ClosedHere => "closed here",
        _ => "another",
    }
    .into()
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown = match cfg!(target_os = "linux") {
            true => "unknown (the kernel did not tell)",
            false => "unknown (only Linux tells)",
        };
        let state = |state: &Option<String>| state.clone().unwrap_or_else(|| unknown.into());
        let (before, after) = (state(&self.tcp_before), state(&self.tcp_after));
        let fin = if self.fin_seen { "yes" } else { "no" };
        writeln!(f, "{}: {}", self.name, self.what)?;
        writeln!(f, "  TCP        {before} -> {after}")?;
        writeln!(f, "  FIN first  {fin}")?;
        writeln!(f, "  reading    {}", self.reading)?;
        writeln!(f, "  writing    {}", self.writing)?;
        writeln!(f, "  steadfast  the connection {}", self.line)?;
        if let Some(call) = self.call {
            writeln!(f, "  the call   {call}")?;
        }
        match self.is_as_expected() {
            true => Ok(()),
            false => writeln!(f, "  EXPECTED   {}, not {}", self.expected, self.cause),
        }
    }
}
