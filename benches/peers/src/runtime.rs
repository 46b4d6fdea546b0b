//! What client and server processes run on.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};

/// Says how many worker threads both ends have, if not two. (Processes that are started inherit it.)
const WORKERS: &str = "PEERS_WORKERS";

/// Both ends have one like this.
pub(crate) fn runtime() -> Runtime {
    let asked = std::env::var(WORKERS).map(|asked| asked.parse().expect("a number of workers"));
    let workers = asked.unwrap_or(2);
    let runtime = Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    runtime.expect("a runtime")
}

/// As many as there may be.
pub(crate) fn allow_descriptors() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}
