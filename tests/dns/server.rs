//! A real unbound, and a slow name server behind it.

use tempfile::NamedTempFile;

use crate::configuration::configuration;
use crate::slow::Slow;
use crate::support::daemon::{self, Daemon};

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) daemon: Daemon,
    /// Asked for the names below `slow.test`.
    pub(crate) slow: Slow,
    /// Read again when it is started again.
    _configuration: NamedTempFile,
}

/// With these lines more. `None`, with a word about it, where it is not installed.
pub(crate) async fn start(more: &str) -> Option<Server> {
    let (slow, file) = (Slow::start().await.unwrap(), NamedTempFile::new().unwrap());
    let path = file.path().to_str().unwrap();
    let daemon = daemon::start("unbound", |address| {
        std::fs::write(path, configuration(address, slow.address(), more)).unwrap();
        ["-d", "-p", "-c", path].map(str::to_owned).to_vec()
    });
    Some(Server { daemon: daemon.await?, slow, _configuration: file })
}
