//! Bytes to and from a peer, of whatever kind; and what is done about a user's own kind that panics.

use std::any::Any;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

use crate::error::tcp_info::TcpInfo;
#[cfg(target_os = "linux")]
use crate::error::tcp_info::TcpState;
use crate::panics::{caught, discard};
#[cfg(target_os = "linux")]
use crate::sock_diag;

/// Bytes to and from a peer: whatever is `AsyncRead` and `AsyncWrite`.
///
/// What the pool and the server build upon:
/// - Bytes that a write has accepted have left, as far as outcomes are concerned: the call may have run. What is accepted must not be
///   taken back, and is flushed when nothing else is to be written, so it may be held back until then.
/// - [`poll_shutdown`](AsyncWrite::poll_shutdown) says that nothing more comes (FIN), and reading goes on behind it; a read of 0
///   bytes means that the peer has said so.
/// - Dropping it closes the connection at once.
/// - A panic in one ends its connection, like an error of the operating system, and so does a write that claims more than it was
///   given. What was given to such a write counts as accepted.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// What TCP itself knows of the connection now, for the report of its loss. `None` where this is not a plain
    /// [`TcpStream`], and where the operating system does not tell.
    fn tcp_info(&self) -> Option<TcpInfo>;
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for T {
    fn tcp_info(&self) -> Option<TcpInfo> {
        let transport: &dyn Any = self;
        if let Some(inner) = transport.downcast_ref::<Box<dyn Transport>>() {
            return (**inner).tcp_info();
        }
        if let Some(GuardedTransport::Sound(inner)) = transport.downcast_ref() {
            return (**inner).tcp_info();
        }
        transport.downcast_ref().and_then(examine)
    }
}

/// Writes all of it, and sees it off.
pub(crate) async fn send_all(transport: &mut dyn Transport, bytes: &[u8]) -> io::Result<()> {
    transport.write_all(bytes).await?;
    transport.flush().await
}

#[cfg(target_os = "linux")]
fn examine(stream: &TcpStream) -> Option<TcpInfo> {
    match stream.peer_addr() {
        Ok(peer) => sock_diag::ask(stream.local_addr().ok()?, peer).ok()?,
        // The kernel knows no peer of a connection that it has given up.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => {
            Some(TcpInfo { state: TcpState::Close, flow: None })
        }
        Err(_) => None,
    }
}

#[cfg(not(target_os = "linux"))]
fn examine(_: &TcpStream) -> Option<TcpInfo> {
    None
}

/// Around a connector or a listener of the user's own, whose transports are guarded, too.
pub(crate) struct Guarded<T>(pub(crate) T);

/// Around a transport of the user's own: a panic in it, or a write that claims more than it was given, ends its connection, as an
/// error of its would, and nothing else.
pub(crate) enum GuardedTransport {
    Sound(Box<dyn Transport>),
    /// Nobody knows what state it was in: it is gone, and this is why.
    Broken(&'static str),
}

impl GuardedTransport {
    pub(crate) fn new(transport: Box<dyn Transport>) -> Self {
        Self::Sound(transport)
    }

    fn poll<R>(
        &mut self,
        poll: impl FnOnce(Pin<&mut dyn Transport>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        match self {
            Self::Broken(why) => Poll::Ready(Err(io::Error::other(*why))),
            Self::Sound(transport) => caught(|| poll(Pin::new(&mut **transport)))
                .unwrap_or_else(|| Poll::Ready(Err(self.breaks("the transport panicked")))),
        }
    }

    /// Of a write that goes wrong like this, all that it was given may have left: it counts as accepted, and what comes next fails.
    fn poll_written(
        &mut self,
        given: usize,
        write: impl FnOnce(Pin<&mut dyn Transport>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let was_sound = matches!(self, Self::Sound(_));
        match self.poll(write) {
            Poll::Ready(Ok(written)) if written > given => {
                self.breaks("the transport claims to have written more than it was given");
            }
            Poll::Ready(Err(_)) if was_sound && matches!(self, Self::Broken(_)) => {}
            polled => return polled,
        }
        Poll::Ready(Ok(given))
    }

    fn breaks(&mut self, why: &'static str) -> io::Error {
        discard(std::mem::replace(self, Self::Broken(why)));
        io::Error::other(why)
    }
}

impl Drop for GuardedTransport {
    fn drop(&mut self) {
        if let Self::Sound(transport) = self {
            discard(std::mem::replace(transport, Box::new(tokio::io::empty())));
        }
    }
}

impl AsyncRead for GuardedTransport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(|transport| transport.poll_read(cx, buffer))
    }
}

impl AsyncWrite for GuardedTransport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_written(bytes.len(), |transport| transport.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let given = slices.iter().map(|slice| slice.len()).sum::<usize>();
        self.poll_written(given, |transport| transport.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Sound(transport) => caught(|| transport.is_write_vectored()).unwrap_or(false),
            Self::Broken(_) => false,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|transport| transport.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|transport| transport.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Panics where it is asked whether it writes several pieces at once, and claims 1 byte more than it was given where it does.
    struct Mad;

    impl AsyncRead for Mad {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Mad {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum::<usize>() + 1))
        }

        fn is_write_vectored(&self) -> bool {
            panic!("a transport's own bug");
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn one_that_panics_when_asked_for_several_pieces_gets_them_one_by_one() {
        let mut guarded = GuardedTransport::new(Box::new(Mad));
        assert!(!guarded.is_write_vectored());
        send_all(&mut guarded, b"hello").await.unwrap();
    }

    #[tokio::test]
    async fn one_that_claims_more_than_the_pieces_it_was_given_has_written_those_and_is_broken() {
        let mut guarded = GuardedTransport::new(Box::new(Mad));
        let pieces = [IoSlice::new(b"ab"), IoSlice::new(b"c")];
        let write = poll_fn(|cx| Pin::new(&mut guarded).poll_write_vectored(cx, &pieces));
        assert_eq!(write.await.unwrap(), 3);
        let error = guarded.flush().await.unwrap_err();
        assert!(error.to_string().contains("more than it was given"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn tcp_tells_of_itself_through_any_box_and_guard_while_other_transports_tell_nothing() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let boxed: Box<dyn Transport> = Box::new(stream);
        let twice: Box<dyn Transport> = Box::new(GuardedTransport::new(Box::new(boxed)));
        let info = (*twice).tcp_info().unwrap();
        assert_eq!(info.state, TcpState::Established);
        assert_eq!(tokio::io::duplex(1).0.tcp_info(), None);
    }
}
