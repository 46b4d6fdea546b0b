//! What was executed, on disk before it is answered: it survives the server's SIGKILL.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// Where a server writes the numbers of the calls that it executes.
#[derive(Debug)]
pub(crate) struct Journal(File);

impl Journal {
    pub(crate) fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        OpenOptions::new().create(true).append(true).open(path).map(Self)
    }

    /// One write, which the kernel does whole.
    pub(crate) fn executes(&self, number: u64) -> io::Result<()> {
        (&self.0).write_all(&number.to_be_bytes())
    }
}

/// All numbers, in their order.
pub(crate) fn read(path: &Path) -> Vec<u64> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        bytes => bytes.unwrap(),
    };
    let numbers = bytes.chunks(8).map(|number| u64::from_be_bytes(number.try_into().unwrap()));
    numbers.collect()
}
