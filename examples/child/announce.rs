//! The line by which a server's process says where it listens.

use std::io::{self, Write as _};
use std::net::SocketAddr;

pub(crate) const LISTENING: &str = "listening on";

/// Whoever started this process waits for that line, so it must not stay in a buffer.
pub(crate) fn addresses(addresses: &[SocketAddr]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "{LISTENING}")?;
    for address in addresses {
        write!(out, " {address}")?;
    }
    writeln!(out)?;
    out.flush()
}
