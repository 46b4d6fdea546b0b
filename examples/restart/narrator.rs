//! Tells the story, one line an event, with the time since its beginning.

use std::fmt;
use std::io::{self, Write as _};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Narrator {
    start: Instant,
    json: bool,
}

impl Narrator {
    pub(crate) fn new(json: bool) -> Self {
        Self { start: Instant::now(), json }
    }

    pub(crate) fn say(self, who: &str, what: impl fmt::Display) {
        let at = self.start.elapsed().as_secs_f64();
        let line = format!("{at:8.3} s  {who:<9}  {what}\n");
        // A story that nobody reads to its end is no error.
        let _ = match self.json {
            true => io::stderr().write_all(line.as_bytes()),
            false => io::stdout().write_all(line.as_bytes()),
        };
    }
}

/// A duration in milliseconds, for people.
pub(crate) fn ms(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}
