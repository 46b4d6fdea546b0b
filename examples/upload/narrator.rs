//! Tells the story, one line an event, with the time since its beginning, and draws the progress.

use std::fmt;
use std::io::{self, Write as _};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

#[derive(Debug, Clone)]
pub(crate) struct Narrator {
    start: Instant,
    json: bool,
    bar: ProgressBar,
}

impl Narrator {
    /// Draws on stderr, and only if that is a terminal. With `json` the story goes to stderr, too.
    pub(crate) fn new(size: u64, json: bool) -> Self {
        let bar = if json { ProgressBar::hidden() } else { ProgressBar::new(size) };
        let template = "{bar:40} {bytes:>10} of {total_bytes}, {bytes_per_sec}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { start: Instant::now(), json, bar }
    }

    pub(crate) fn say(&self, who: &str, what: impl fmt::Display) {
        let at = self.start.elapsed().as_secs_f64();
        let line = format!("{at:8.3} s  {who:<6}  {what}\n");
        // A story that nobody reads to its end is no error.
        self.bar.suspend(|| match self.json {
            true => drop(io::stderr().write_all(line.as_bytes())),
            false => drop(io::stdout().write_all(line.as_bytes())),
        });
    }

    pub(crate) fn draw(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
