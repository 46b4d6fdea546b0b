//! A file of lines that survives SIGKILL: each line is one `write(2)` in append mode, with no buffer of our own, so
//! what was recorded is in the kernel's hands before anybody is told. It does not survive a power failure (no `fsync`).

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

#[derive(Debug)]
pub(crate) struct Journal(File);

impl Journal {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Self(file))
    }

    /// Appends a line. Lines of several tasks, and of several processes, do not mix: the kernel appends each as a whole.
    ///
    /// It blocks for the microseconds of a copy into the page cache, which is less than handing it to another thread.
    pub(crate) fn record(&self, line: &[u8]) -> io::Result<()> {
        let line = [line, b"\n"].concat();
        (&self.0).write_all(&line)
    }
}
