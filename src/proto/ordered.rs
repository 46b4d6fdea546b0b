//! Plain frames, answered in order: what most old servers speak.

use bytes::{Bytes, BytesMut};

use crate::error::unsendable::Unsendable;
use crate::error::violation::Violation;
use crate::proto::dialect::{Dialect, Matching, Meaning, To};
use crate::proto::framing::Framing;

/// Plain frames, each of which is answered by one frame, in order. A call's body is the frame that is sent, its reply the
/// frame that comes back. It must be one: of an answer in several frames the first is taken for the whole, and those that
/// come when the next call has left, for the next call's. Such requests belong into a [lease](crate::Pool::lease).
///
/// A call that is cancelled, or whose time is up, when its request has left keeps its place until its reply has come,
/// which is thrown away: nobody gets another's reply. If that reply does not come, and nothing else arrives for as long
/// as the [`Heartbeat`](crate::Heartbeat) bears, the connection is closed
/// ([`LossCause::Unanswered`](crate::LossCause::Unanswered)).
///
/// Without a [`heartbeat`](Self::heartbeat) frame a peer whose host is gone is found out by TCP keepalive and
/// `TCP_USER_TIMEOUT` within the bound of the [`Heartbeat`](crate::Heartbeat). They are answered by the other host's kernel:
/// a process that is frozen is found out only by calls that are not answered.
///
/// # Examples
/// ```no_run
/// use steadfast::{Framing, Ordered, Pool};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = Pool::builder("legacy:9000").protocol(Ordered::new(Framing::u32_le())).build()?;
/// let answer = pool.call("price of apples").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Ordered {
    framing: Framing,
    pipeline: usize,
    heartbeat: Option<Bytes>,
    /// Frames that the server sends before it is asked anything.
    pub(crate) greeting: usize,
}

impl Ordered {
    /// Frames cut by `framing`, one request under way at a time, no heartbeat.
    pub fn new(framing: Framing) -> Self {
        Self { framing, pipeline: 1, heartbeat: None, greeting: 0 }
    }

    /// How many requests may be under way on one connection at a time. 1 to 1,000,000, default 1.
    ///
    /// Too few: each call waits for the line once there and back. Too many: a server that was written for one request at a
    /// time may read two as one, or a slow one holds up all behind it.
    #[must_use]
    pub fn pipeline(self, requests: usize) -> Self {
        Self { pipeline: requests, ..self }
    }

    /// The server speaks first: so many frames come on a new connection before it is asked anything. They are received and
    /// thrown away. Default 0.
    ///
    /// Too few: the rest comes unasked, which ends the connection; if a call leaves before it has come, **it is taken for that call's
    /// answer**, and so on. A hook that logs in and compares the server's words finds that out. Too many: the connection is never
    /// ready, and is given up after [`Timeouts::handshake`](crate::Timeouts::handshake).
    #[must_use]
    pub fn greeting(self, frames: usize) -> Self {
        Self { greeting: frames, ..self }
    }

    /// A frame that the server answers like any other and that changes nothing there. It is sent when nothing was heard for
    /// [`Heartbeat::every`](crate::Heartbeat::every), and only while no answer is outstanding: behind a slow request it would
    /// tell nothing.
    #[must_use]
    pub fn heartbeat(self, frame: impl Into<Bytes>) -> Self {
        Self { heartbeat: Some(frame.into()), ..self }
    }
}

impl Dialect for Ordered {
    fn framing(&self) -> Framing {
        self.framing
    }

    fn matching(&self) -> Matching {
        Matching::InOrder { pipeline: self.pipeline }
    }

    fn request(&self, _id: u64, body: Bytes, _head: &mut BytesMut) -> Result<Bytes, Unsendable> {
        Ok(body)
    }

    /// A frame that the server does not answer: whether it does is the server's business, so be sure.
    fn notification(&self, body: Bytes, _head: &mut BytesMut) -> Result<Bytes, Unsendable> {
        Ok(body)
    }

    fn received(&self, frame: Bytes) -> Result<Meaning, Violation> {
        Ok(Meaning::Reply { to: To::Oldest, body: frame })
    }

    fn ping(&self, _id: u64) -> Option<Bytes> {
        self.heartbeat.clone()
    }
}
