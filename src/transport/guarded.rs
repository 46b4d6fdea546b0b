//! What is done about transports, connectors and listeners of a user's own that panic, claim too much, or are interrupted.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::panics::{caught, discard};
use crate::transport::Transport;

/// Around a connector or a listener of the user's own: a panic in it is an error of its, and its transports are guarded, too.
pub(crate) struct Guarded<T>(pub(crate) T);

/// Around a transport of the user's own: a panic in it, or a write that claims more than it was given, ends its connection, as an
/// error of its would, and nothing else. What a signal has interrupted is done again; a socket's own calls, which never sleep, are
/// never interrupted.
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
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut dyn Transport>, &mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let polled = match self {
            Self::Broken(why) => Poll::Ready(Err(io::Error::other(*why))),
            Self::Sound(transport) => caught(|| poll(Pin::new(&mut **transport), cx))
                .unwrap_or_else(|| Poll::Ready(Err(self.breaks("the transport panicked")))),
        };
        match polled {
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            polled => polled,
        }
    }

    /// Of a write that goes wrong like this, all that it was given may have left: it counts as accepted, and what comes next fails.
    fn poll_written(
        &mut self,
        cx: &mut Context<'_>,
        given: usize,
        write: impl FnOnce(Pin<&mut dyn Transport>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let was_sound = self.is_sound();
        let polled = self.poll(cx, write);
        if matches!(polled, Poll::Ready(Ok(written)) if written > given) {
            self.breaks("the transport claims to have written more than it was given");
        }
        if was_sound && !self.is_sound() { Poll::Ready(Ok(given)) } else { polled }
    }

    fn is_sound(&self) -> bool {
        matches!(self, Self::Sound(_))
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
        self.poll(cx, |transport, cx| transport.poll_read(cx, buffer))
    }
}

impl AsyncWrite for GuardedTransport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_written(cx, bytes.len(), |transport, cx| transport.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let given = slices.iter().map(|slice| slice.len()).sum::<usize>();
        self.poll_written(cx, given, |transport, cx| transport.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Sound(transport) => caught(|| transport.is_write_vectored()).unwrap_or(false),
            Self::Broken(_) => false,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, |transport, cx| transport.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, |transport, cx| transport.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::transport::send_all;

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
}
