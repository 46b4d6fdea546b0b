//! A real memcached.

use crate::support::daemon::{self, Daemon};

/// With these arguments more. `None`, with a word about it, where it is not installed.
pub(crate) async fn start(more: &[&str]) -> Option<Daemon> {
    let arguments = |address: std::net::SocketAddr| {
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let listen = ["-l", &host, "-p", &port, "-U", "0"];
        // As root it wants to be told who to be; others are who they are.
        let all = [&["-u", "nobody", "-m", "64"], &listen[..], more].concat();
        all.into_iter().map(str::to_owned).collect()
    };
    daemon::start("memcached", arguments).await
}
