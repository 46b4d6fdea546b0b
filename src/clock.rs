//! The time, as tokio tells it, so that tests can pause it. The core never asks; it is told.

use std::time::Instant;

pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
