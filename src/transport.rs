//! Bytes to and from a peer, of whatever kind.

use std::any::Any;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::error::tcp_info::TcpInfo;
#[cfg(target_os = "linux")]
use crate::error::tcp_info::TcpState;
#[cfg(target_os = "linux")]
use crate::sock_diag;
use crate::transport::guarded::GuardedTransport;

pub(crate) mod guarded;

/// Bytes to and from a peer: whatever is `AsyncRead` and `AsyncWrite`.
///
/// What the pool and the server build upon:
/// - Bytes that a write has accepted have left, as far as outcomes are concerned: the call may have run. What is accepted must not be
///   taken back, and is flushed when nothing else is to be written, so it may be held back until then.
/// - [`poll_shutdown`](AsyncWrite::poll_shutdown) says that nothing more comes (FIN), and reading goes on behind it; a read of 0
///   bytes means that the peer has said so.
/// - An error of the kind [`Interrupted`](io::ErrorKind::Interrupted) ends nothing: nothing was done, and the method is polled again.
/// - Dropping it closes the connection at once.
/// - A panic in a method that polls it ends its connection, like an error of the operating system, and so does a write that claims
///   more than it was given. What was given to such a write counts as accepted. A panic in its drop goes no further.
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

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
