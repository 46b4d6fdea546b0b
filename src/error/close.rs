//! What a graceful end could not wait for, of a pool or of a server.

use std::fmt;

use crate::error::text::Count;

/// [`Pool::close`](crate::Pool::close) or [`Server::serve`](crate::Server::serve) had to cut calls off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} cut off when the time limit was reached", Cut(*.unfinished))]
#[non_exhaustive]
pub struct CloseError {
    /// How many calls had not settled when the limit was reached. Of a pool, a connection that was still lent counts as one.
    pub unfinished: usize,
}

/// `1 call was`, `2 calls were`.
struct Cut(usize);

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = Count(self.0 as u64, "call");
        write!(f, "{calls} {}", if self.0 == 1 { "was" } else { "were" })
    }
}
