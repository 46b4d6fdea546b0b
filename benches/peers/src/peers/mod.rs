//! Those compared: how each is configured, and how it makes one call.

use std::fmt;
use std::future::Future;

use bytes::Bytes;
use clap::ValueEnum as _;

pub(crate) mod blocking;
pub(crate) mod naive;
pub(crate) mod pooled;
pub(crate) mod raw1;
pub(crate) mod rawpipe;
pub(crate) mod redis;
pub(crate) mod steadfast;
pub(crate) mod tarpc;
pub(crate) mod tonic;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Those compared, in the order of the tables.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
pub(crate) enum Name {
    /// This library, as it is by default.
    Steadfast,
    /// The hand-written limit: one connection, one writer that batches.
    Rawpipe,
    /// One socket for each caller.
    Raw1,
    /// `std::net` without a runtime; one caller.
    Blocking,
    /// `Framed` in a bb8 pool of 8.
    Bb8,
    /// `Framed` in a deadpool of 8.
    Deadpool,
    /// tarpc over TCP, with bincode.
    Tarpc,
    /// tonic: gRPC.
    Tonic,
    /// redis-rs's `ConnectionManager`.
    Redis,
    /// A socket for each caller that is resent into after errors; only seen where servers die.
    Naive,
}

impl Name {
    /// Those whose calls are measured.
    pub(crate) const ALL: [Self; 9] = [
        Self::Steadfast,
        Self::Rawpipe,
        Self::Raw1,
        Self::Blocking,
        Self::Bb8,
        Self::Deadpool,
        Self::Tarpc,
        Self::Tonic,
        Self::Redis,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Steadfast => "steadfast",
            Self::Rawpipe => "rawpipe",
            Self::Raw1 => "raw1",
            Self::Blocking => "blocking",
            Self::Bb8 => "bb8",
            Self::Deadpool => "deadpool",
            Self::Tarpc => "tarpc",
            Self::Tonic => "tonic",
            Self::Redis => "redis-rs",
            Self::Naive => "naive loop",
        }
    }

    /// As the command line has it.
    pub(crate) fn argument(self) -> String {
        let value = self.to_possible_value().expect("none is hidden");
        value.get_name().to_owned()
    }

    /// Whether it is measured with so many callers.
    pub(crate) fn takes(self, callers: usize) -> bool {
        self != Self::Blocking || callers == 1
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What to connect to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) address: &'a str,
    /// How many connections, of those that can have several.
    pub(crate) connections: usize,
}

/// A client of one of those compared.
pub(crate) trait Peer: Sized {
    type Caller: Caller;

    fn connect(target: Target<'_>) -> impl Future<Output = Result<Self, BoxError>>;

    /// For one more caller.
    fn caller(&self) -> impl Future<Output = Result<Self::Caller, BoxError>>;
}

/// What one caller holds.
pub(crate) trait Caller: Send + 'static {
    /// One call whose answer is `body` again. Compares it.
    fn call(&mut self, body: &Bytes) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// Up to here every byte is compared; of what is longer, the ends and some bytes of each page.
const COMPARED_WHOLE: usize = 64 * 1024;
const PAGE: usize = 4096;
const OF_EACH_PAGE: usize = 64;

/// Whether the reply is the right one.
pub(crate) fn compare(reply: &[u8], body: &[u8]) -> Result<(), BoxError> {
    let same = reply.len() == body.len()
        && if body.len() <= COMPARED_WHOLE {
            reply == body
        } else {
            let some = |bytes| {
                <[u8]>::chunks(bytes, PAGE).map(|page| &page[..OF_EACH_PAGE.min(page.len())])
            };
            some(reply).eq(some(body)) && reply.last() == body.last()
        };
    if same { Ok(()) } else { Err("the reply is another call's".into()) }
}
