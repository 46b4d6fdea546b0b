//! What the frames of a protocol mean: the trait by which steadfast learns the protocols of servers that nobody can
//! change. It is pure: no I/O, no clock; how a connection is opened is
//! [`Protocol`](crate::protocol::Protocol)'s business.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::error::answer::{ErrorReply, Refusal};
use crate::error::unsendable::Unsendable;
use crate::error::violation::Violation;
use crate::proto::framing::Framing;

/// What frames mean: how a call is written, how its answer is found, what a heartbeat looks like.
///
/// ```text
///   body ──► request ──► frame ──► the framing ──► the socket            one call, one frame
///   the socket ──► the framing ──► frame ──► received ──► Meaning        whose answer it is, or what else
/// ```
///
/// Its methods are called from the tasks of callers and of connections, several at a time, never while steadfast holds a
/// lock. They should be quick: while [`received`](Self::received) runs, its connection does nothing else. A panic in
/// `request` is the caller's; one in the others costs the connection, and nothing else.
///
/// [`Ordered`](crate::Ordered) is the simplest one. [`Protocol`](crate::Protocol) has an example of another.
pub trait Dialect: Send + Sync + 'static {
    /// Where a frame ends.
    fn framing(&self) -> Framing;

    /// How an answer finds its call.
    fn matching(&self) -> Matching;

    /// Makes the frame of a call: writes its beginning to `head` and returns the rest, which is not copied if it is long.
    /// `head` may hold the framing's own bytes already: write behind them, leave them alone.
    ///
    /// `id` is what the answer must carry, where [`matching`](Self::matching) says that there are ids; no other call has it
    /// until that answer has come. In order it means nothing. What a caller gave as the body can be anything: a part of the
    /// frame, the whole frame with room for the id, or an empty one. It may be called again for the same call with another
    /// id: that one was still in use.
    ///
    /// # Errors
    /// [`Unsendable`] if no frame can be made of this body: the call fails, with nothing sent.
    fn request(&self, id: u64, body: Bytes, head: &mut BytesMut) -> Result<Bytes, Unsendable>;

    /// Makes the frame of a message that is not answered. As [`request`](Self::request) otherwise; unless it is overwritten,
    /// there are none.
    ///
    /// # Errors
    /// [`Unsendable`], as above.
    fn notification(&self, body: Bytes, head: &mut BytesMut) -> Result<Bytes, Unsendable> {
        let _ = (body, head);
        Err(Unsendable::Refused { why: "this protocol has no messages without an answer" })
    }

    /// Says what a frame means that has arrived.
    ///
    /// # Errors
    /// [`Violation::Malformed`], or another, ends the connection.
    fn received(&self, frame: Bytes) -> Result<Meaning, Violation>;

    /// Whether frames come that nobody asked for. Unless it is overwritten: no, and where answers come in order, whatever
    /// begins to come while nothing is asked ends the connection, before it can be taken for an answer.
    fn has_pushes(&self) -> bool {
        false
    }

    /// The content of a frame by which a peer is asked for a sign of life. It is answered like a call, under this id or in
    /// its turn, or by something that means [`Meaning::Pong`]. It is made once for each connection, with an id that no call
    /// gets: the greatest.
    ///
    /// `None`, unless it is overwritten: then the peer cannot be asked. What is left are TCP keepalive and
    /// `TCP_USER_TIMEOUT`, which find out that the other host or the way to it is gone, but not that the process there is
    /// frozen.
    fn ping(&self, id: u64) -> Option<Bytes> {
        let _ = id;
        None
    }
}

/// How an answer finds its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Matching {
    /// By its turn: answers come in the order of the requests.
    InOrder {
        /// How many requests may be under way at a time, 1 to 1,000,000, and no more than
        /// [`Limits::in_flight`](crate::Limits::in_flight). With 1 the next request goes out when the answer to the one
        /// before has come. [`Ordered::pipeline`](crate::Ordered::pipeline) says what too few and too many do.
        pipeline: usize,
    },
    /// By an id that request and answer carry.
    ById {
        /// The least id that a request may carry: 1, where 0 means something else.
        min: u64,
        /// The greatest one, above the least. It is kept for the [ping](Dialect::ping). An eighth of the others, at most
        /// 4,096, stand in for those whose answers never come; the rest are calls at a time, if
        /// [`Limits::in_flight`](crate::Limits::in_flight) allows them.
        ///
        /// Too small: callers wait though the server is idle. Too great, more than the id's field can say: two calls get
        /// the same id, and one of them the other's answer.
        max: u64,
    },
}

/// What a frame means.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Meaning {
    /// The answer to a call, or its last part.
    Reply {
        /// Whose answer it is.
        to: To,
        /// What the caller gets.
        body: Bytes,
    },
    /// A part of an answer, with more to come. The caller gets all parts in one piece.
    Part {
        /// Whose answer it is.
        to: To,
        /// What comes before the next part.
        body: Bytes,
    },
    /// The answer to a call is an error. The call ran.
    Error {
        /// Whose answer it is.
        to: To,
        /// What the caller finds in [`CallCause::Remote`](crate::CallCause::Remote).
        error: ErrorReply,
    },
    /// The server did not run the call. It is tried again, as the policy says.
    Refused {
        /// Whose answer it is.
        to: To,
        /// What the caller finds in [`CallCause::Refused`](crate::CallCause::Refused).
        refusal: Refusal,
    },
    /// Nobody's answer: it goes to those who read [`Pool::pushes`](crate::Pool::pushes).
    Push(Bytes),
    /// The answer to a ping that carries no id and has no turn.
    Pong,
    /// The server takes no new requests on this connection. What is under way is awaited, and another connection is made.
    GoAway {
        /// A lower bound on the time until the next attempt, if the server named one.
        retry_after: Option<Duration>,
        /// For people.
        text: Arc<str>,
    },
    /// Nothing for anybody here. It is a sign of life, as all that comes is.
    Nothing,
}

impl Meaning {
    /// What a caller would have got of it.
    pub(crate) fn into_body(self) -> Option<Bytes> {
        match self {
            Self::Reply { body, .. } | Self::Part { body, .. } | Self::Push(body) => Some(body),
            _ => None,
        }
    }

    pub(crate) fn is_answer(&self) -> bool {
        matches!(
            self,
            Self::Reply { .. } | Self::Part { .. } | Self::Error { .. } | Self::Refused { .. }
        )
    }
}

/// Whose answer a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum To {
    /// That of the oldest request that is not answered.
    Oldest,
    /// That of the request with this id.
    Id(u64),
}
