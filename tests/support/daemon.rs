//! Real servers as child processes. Where one is not installed, a test is [skipped](crate::support::skipping).

use std::io;
use std::net::SocketAddr;

use crate::support::loopback::own_loopback;
use crate::support::skipping::skip_unless_demanded;

#[path = "../../examples/real/daemon.rs"]
mod process;

pub(crate) use process::Daemon;

/// Starts it at an address of its own. `None`, with a word about it, where it is not installed.
pub(crate) async fn start(
    program: &'static str,
    arguments: impl Fn(SocketAddr) -> Vec<String>,
) -> Option<Daemon> {
    let started = match std::env::var_os("STEADFAST_WINE") {
        // It finds the servers of the system around it, and cannot start them.
        Some(_) => Err(io::ErrorKind::NotFound.into()),
        None => Daemon::start(program, own_loopback(), arguments).await,
    };
    match started {
        Ok(daemon) => Some(daemon),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            skip_unless_demanded(&format!("needs {program}, which is not installed"));
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}
