//! The pure core: no I/O, no runtime, no clock, no global randomness.
//!
//! Bytes and the time go in; bytes, events and the next deadline come out. The shells above
//! ([`driver`](crate::driver), [`channel`](crate::channel), [`pool`](crate::pool),
//! [`server`](crate::server)) move bytes and time and decide nothing.

pub(crate) mod assembly;
pub(crate) mod backoff;
pub(crate) mod calling;
pub(crate) mod calls;
pub(crate) mod client;
pub(crate) mod course;
pub(crate) mod dialect;
pub(crate) mod eviction;
pub(crate) mod foreign;
pub(crate) mod frame;
pub(crate) mod framing;
pub(crate) mod greeting;
pub(crate) mod head;
pub(crate) mod heartbeat;
pub(crate) mod id_map;
pub(crate) mod ids;
pub(crate) mod input;
pub(crate) mod kind;
pub(crate) mod landing;
pub(crate) mod ledger;
pub(crate) mod lent;
pub(crate) mod line;
pub(crate) mod line_up;
pub(crate) mod native;
pub(crate) mod ordered;
pub(crate) mod outgoing;
pub(crate) mod owed;
pub(crate) mod pulse;
pub(crate) mod ranges;
pub(crate) mod reconnect;
pub(crate) mod replies;
pub(crate) mod requests;
pub(crate) mod resume;
pub(crate) mod retry;
pub(crate) mod sequence;
pub(crate) mod serving;
pub(crate) mod session;
pub(crate) mod sizing;
pub(crate) mod spares;
pub(crate) mod speech;
pub(crate) mod tenure;
pub(crate) mod unsent;
pub(crate) mod wakes;
pub(crate) mod window;
