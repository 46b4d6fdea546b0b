//! How a connection to a foreign server is opened, before any call: log-in, handshake, or nothing at all.

use std::future::Future;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use tokio::io::AsyncReadExt as _;

use crate::error::connect::{BoxError, Busy, ConnectCause, Rejection};
use crate::error::opening::Opening;
use crate::error::os::OsError;
use crate::proto::dialect::Dialect;
use crate::proto::framing::Framing;
use crate::proto::ordered::Ordered;
use crate::transport::{Transport, send_all};

/// How much is read at a time.
const READ: usize = 4096;

/// A protocol of somebody else's: a [`Dialect`], and how its connections are opened.
///
/// A pool keeps the value that [`PoolBuilder::protocol`](crate::PoolBuilder::protocol) was given, and clones it for each
/// connection that it makes; [`open`](Self::open) may change its clone, to keep a session's token for example. From then
/// on the clone does not change any more.
///
/// # Examples
/// Frames of a `u16` length, a `u16` id and the content; log-in on every connection; frames with the id 0xffff are events.
/// ```
/// use steadfast::{BoxError, Bytes, Dialect, Frames, Framing, Matching, Meaning, Permanent, Protocol, To};
/// use steadfast::{Unsendable, Violation};
/// use bytes::{Buf, BufMut, BytesMut};
///
/// const EVENT: u16 = 0xffff;
/// const PING: &[u8] = b"are you there?";
///
/// #[derive(Clone)]
/// struct Warehouse {
///     user: &'static str,
/// }
///
/// impl Dialect for Warehouse {
///     fn framing(&self) -> Framing {
///         Framing::u16_be().limit(10_000)
///     }
///
///     fn matching(&self) -> Matching {
///         Matching::ById { min: 0, max: u64::from(EVENT) - 1 }
///     }
///
///     fn request(&self, id: u64, body: Bytes, head: &mut BytesMut) -> Result<Bytes, Unsendable> {
///         head.put_u16(id as u16);
///         Ok(body)
///     }
///
///     fn received(&self, mut frame: Bytes) -> Result<Meaning, Violation> {
///         let Ok(id) = frame.try_get_u16() else {
///             return Err(Violation::Malformed { what: "it ends before its id does" });
///         };
///         Ok(match id {
///             EVENT => Meaning::Push(frame),
///             _ => Meaning::Reply { to: To::Id(id.into()), body: frame },
///         })
///     }
///
///     fn ping(&self, id: u64) -> Option<Bytes> {
///         let mut frame = BytesMut::new();
///         frame.put_u16(id as u16);
///         frame.put_slice(PING);
///         Some(frame.freeze())
///     }
/// }
///
/// impl Protocol for Warehouse {
///     async fn open(&mut self, frames: &mut Frames<'_>) -> Result<(), BoxError> {
///         frames.send(format!("login {}", self.user)).await?;
///         match &*frames.recv().await? {
///             b"welcome" => Ok(()),
///             // Waiting does not mend it: calls fail at once and say so.
///             _ => Err(Permanent::new("the warehouse does not know this user").into()),
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = steadfast::Pool::builder("warehouse:4000").protocol(Warehouse { user: "alice" }).build()?;
/// # Ok(())
/// # }
/// ```
pub trait Protocol: Dialect + Clone {
    /// Says what must be said on a new connection before any call. It has as long as
    /// [`Timeouts::handshake`](crate::Timeouts::handshake). Unless it is overwritten, nothing is said.
    ///
    /// # Errors
    /// Any: the connection is closed, and made again under the backoff. A [`ConnectCause`], as [`Frames`] returns it, a
    /// [`Busy`] or a [`Rejection`], as you can make it, is told as it is; with a [`Permanent`](crate::Permanent) error calls
    /// fail at once instead of waiting. A panic in it counts as an error.
    ///
    /// # Cancel safety
    /// The future is dropped at the time-out, or when the pool is closed.
    fn open(
        &mut self,
        frames: &mut Frames<'_>,
    ) -> impl Future<Output = Result<(), BoxError>> + Send {
        let _ = frames;
        std::future::ready(Ok(()))
    }
}

/// Nothing is said before the first call, but the server's greeting is heard.
impl Protocol for Ordered {
    async fn open(&mut self, frames: &mut Frames<'_>) -> Result<(), BoxError> {
        for _ in 0..self.greeting {
            frames.recv().await?;
        }
        Ok(())
    }
}

/// Plain frames on a connection that is being opened.
pub struct Frames<'a> {
    transport: &'a mut dyn Transport,
    framing: Framing,
    input: BytesMut,
    sent: Sent,
}

/// What has been sent.
#[derive(Debug, Clone)]
enum Sent {
    /// Whole frames, as far as the operating system has told.
    Whole,
    /// A part of a frame has left, or may have, and nobody sends the rest.
    Cut,
    /// Nothing can be sent any more.
    Failed(OsError),
}

impl<'a> Frames<'a> {
    fn new(transport: &'a mut dyn Transport, framing: Framing) -> Self {
        Self { transport, framing, input: BytesMut::new(), sent: Sent::Whole }
    }

    /// What has come and was not received, of a connection over which frames can be sent.
    fn finish(self) -> Result<BytesMut, ConnectCause> {
        match self.sent {
            Sent::Whole => Ok(self.input),
            Sent::Cut => Err(ConnectCause::HalfAFrame),
            Sent::Failed(error) => Err(ConnectCause::Os(error)),
        }
    }

    /// Sends a frame; returns when the operating system has accepted it, or never will: a server that turns connections
    /// away may have closed already, and what it said before can be received all the same. Behind that,
    /// [`recv`](Self::recv) tells why it could not be sent; if nobody receives, the connection is not opened for that
    /// reason.
    ///
    /// # Errors
    /// That the frame does not fit the framing; [`ConnectCause::HalfAFrame`] behind one that was broken off.
    ///
    /// # Cancel safety
    /// Dropping the future may leave a part of the frame behind, which nothing can follow: the connection is not opened.
    pub async fn send(&mut self, frame: impl Into<Bytes>) -> Result<(), ConnectCause> {
        let frame = frame.into();
        let mut out = BytesMut::with_capacity(frame.len() + 16);
        self.framing.begin(&mut out);
        out.extend_from_slice(&frame);
        self.framing.end(0, 0, &mut out).map_err(|error| ConnectCause::Unsendable(error.into()))?;
        match self.sent {
            Sent::Cut => return Err(ConnectCause::HalfAFrame),
            Sent::Failed(_) => return Ok(()),
            // Unless this future is dropped meanwhile, it stays that for no longer than the sending.
            Sent::Whole => self.sent = Sent::Cut,
        }
        self.sent = match send_all(self.transport, &out).await {
            Ok(()) => Sent::Whole,
            Err(error) => Sent::Failed(error.into()),
        };
        Ok(())
    }

    /// The next frame.
    ///
    /// # Errors
    /// [`ConnectCause::ClosedByPeer`] at the end of the stream, what the operating system says, or
    /// [`ConnectCause::NoFrame`] if what has come is none, [`ConnectCause::Violation`] if it is known to be another
    /// protocol's: [`unread`](Self::unread) has it.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn recv(&mut self) -> Result<Bytes, ConnectCause> {
        loop {
            match self.framing.next(&mut self.input) {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(violation) => {
                    let opening = Opening::of(&self.input);
                    return Err(match opening.is_known() {
                        true => ConnectCause::Violation { violation, opening },
                        // It may be the server's own word for "full".
                        false => ConnectCause::NoFrame { violation, opening },
                    });
                }
            }
            self.input.reserve(READ);
            match self.transport.read_buf(&mut self.input).await {
                Ok(0) => {
                    return Err(match &self.sent {
                        Sent::Failed(error) => ConnectCause::Os(error.clone()),
                        Sent::Whole | Sent::Cut => ConnectCause::ClosedByPeer,
                    });
                }
                Ok(_) => {}
                Err(error) => return Err(ConnectCause::Os(error.into())),
            }
        }
    }

    /// The bytes that have come and are not part of a frame that was received: the beginning of the next frame, or what a
    /// server says that does not keep to its protocol when it has no room for another connection.
    pub fn unread(&self) -> &[u8] {
        &self.input
    }
}

impl std::fmt::Debug for Frames<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frames").field("framing", &self.framing).finish_non_exhaustive()
    }
}

/// Opens a connection, whose dialect it then knows, and what came behind what was received meanwhile.
pub(crate) type OpenFuture<'a> = BoxFuture<'a, Result<(Box<dyn Dialect>, BytesMut), ConnectCause>>;

/// A protocol, whichever it is.
pub(crate) trait Opener: Send + Sync {
    /// A dialect as it is before it is opened.
    fn dialect(&self) -> Box<dyn Dialect>;

    /// Opens a connection. May panic: it is the user's code.
    fn open<'a>(&'a self, transport: &'a mut dyn Transport, limit: usize) -> OpenFuture<'a>;
}

impl<P: Protocol> Opener for P {
    fn dialect(&self) -> Box<dyn Dialect> {
        Box::new(self.clone())
    }

    fn open<'a>(&'a self, transport: &'a mut dyn Transport, limit: usize) -> OpenFuture<'a> {
        Box::pin(async move {
            let mut dialect = self.clone();
            let framing = dialect.framing().at_most(limit);
            let mut frames = Frames::new(transport, framing);
            Protocol::open(&mut dialect, &mut frames).await.map_err(cause_of)?;
            let input = frames.finish()?;
            let dialect: Box<dyn Dialect> = Box::new(dialect);
            Ok((dialect, input))
        })
    }
}

/// What `open` returned as an error of ours is told as that.
fn cause_of(error: BoxError) -> ConnectCause {
    let error = match error.downcast::<ConnectCause>() {
        Ok(cause) => return *cause,
        Err(error) => error,
    };
    let error = match error.downcast::<Busy>() {
        Ok(busy) => return ConnectCause::Busy(*busy),
        Err(error) => error,
    };
    match error.downcast::<Rejection>() {
        Ok(rejection) => ConnectCause::Rejected(*rejection),
        Err(error) => ConnectCause::Hook(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind::BrokenPipe;

    use futures::FutureExt as _;
    use tokio::io::{AsyncRead, AsyncWrite, duplex, join};

    use super::*;

    /// A peer that has said this, and closed.
    fn closed(said: &'static [u8]) -> impl AsyncRead + AsyncWrite + Unpin + Send + 'static {
        let (here, _there) = duplex(64);
        join(said, here)
    }

    #[tokio::test]
    async fn what_a_server_said_before_it_closed_is_received_although_nothing_can_be_sent() {
        let mut transport = closed(b"\0\x04full");
        let mut frames = Frames::new(&mut transport, Framing::u16_be());
        assert_eq!(frames.send("log in").await, Ok(()));
        assert_eq!(frames.recv().await, Ok(Bytes::from("full")));
        assert_eq!(frames.recv().await, Err(ConnectCause::Os(BrokenPipe.into())));
    }

    #[tokio::test]
    async fn what_a_server_said_in_other_words_before_it_closed_is_shown() {
        let mut transport = closed(b"full");
        let mut frames = Frames::new(&mut transport, Framing::u16_be());
        assert_eq!(frames.send("log in").await, Ok(()));
        assert!(frames.recv().await.is_err());
        assert_eq!(frames.unread(), b"full");
    }

    #[tokio::test]
    async fn a_connection_over_which_nothing_can_be_sent_is_not_open() {
        let mut transport = closed(b"");
        let mut frames = Frames::new(&mut transport, Framing::u16_be());
        assert_eq!(frames.send("log in").await, Ok(()));
        assert_eq!(frames.finish(), Err(ConnectCause::Os(BrokenPipe.into())));
    }

    /// `open` may wait with a time-out of its own, or for the first of several things.
    #[tokio::test]
    async fn behind_a_frame_whose_sending_was_broken_off_nothing_more_is_said() {
        let (mut transport, mut there) = duplex(4);
        let mut frames = Frames::new(&mut transport, Framing::u16_be());
        assert!(frames.send("log in").now_or_never().is_none());
        let mut said = [0; 4];
        there.read_exact(&mut said).await.unwrap();
        let _ = frames.send("").await;
        assert!(frames.finish().is_err());
        drop(transport);
        assert_eq!(there.read(&mut said).await.unwrap(), 0);
    }
}
