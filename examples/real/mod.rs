//! What the examples with real servers share: the server's process and its fate, callers who check their answers, and a
//! word about each connection.

use std::time::Duration;

pub(crate) mod daemon;
pub(crate) mod news;
pub(crate) mod survival;
pub(crate) mod traffic;

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
