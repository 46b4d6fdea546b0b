//! Where a server's connections come from.
//!
//! [`Listen`] is the seam, as [`Connect`](crate::Connect) is the client's: others may put TLS, Unix sockets or a simulated
//! network in here.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::net::{TcpListener, TcpSocket, ToSocketAddrs, lookup_host};
use tracing::warn;

use crate::connect::{set_buffers, set_options};
use crate::error::bind::BindError;
use crate::limits::SocketOptions;
use crate::panics::Contained;
use crate::policy::Heartbeat;
use crate::transport::Transport;
use crate::transport::guarded::{Guarded, GuardedTransport};

/// Connections that the kernel keeps until they are accepted, if its own limit allows (`listen(2)`).
const BACKLOG: u32 = 4096;

/// An accepted transport.
pub struct Incoming {
    /// The bytes.
    pub transport: Box<dyn Transport>,
    /// Whose they are, for handlers and logs. What has no such address, as a Unix socket, says any.
    pub peer: SocketAddr,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// The future of the next connection.
pub type Accepting<'a> = Pin<Box<dyn Future<Output = io::Result<Incoming>> + Send + 'a>>;

/// Accepts transports. A [`Server`](crate::Server) calls it again and again, until it is shut down; then it drops it, which
/// must close what listens.
///
/// # Examples
/// TLS over TCP. The handshake takes as long as the client likes, so it must not keep `accept`, and with it everybody else,
/// waiting: here the stream does it when it is first read.
/// ```
/// use std::io;
/// use std::net::SocketAddr;
///
/// use steadfast::{Accepting, Call, Incoming, Listen, Server};
/// use tokio::net::TcpListener;
/// # use tokio::net::TcpStream;
/// # struct TlsAcceptor;
/// # impl TlsAcceptor { fn lazily(&self, stream: TcpStream) -> TcpStream { stream } }
///
/// struct Tls {
///     tcp: TcpListener,
///     tls: TlsAcceptor,
/// }
///
/// impl Listen for Tls {
///     fn accept(&mut self) -> Accepting<'_> {
///         Box::pin(async {
///             let (stream, peer) = self.tcp.accept().await?;
///             stream.set_nodelay(true)?;
///             Ok(Incoming { transport: Box::new(self.tls.lazily(stream)), peer })
///         })
///     }
///
///     fn local_addr(&self) -> io::Result<SocketAddr> {
///         self.tcp.local_addr()
///     }
/// }
///
/// # async fn example(tls: TlsAcceptor) -> Result<(), Box<dyn std::error::Error>> {
/// let tcp = TcpListener::bind("0.0.0.0:7000").await?;
/// let server = Server::builder().listen_on(Tls { tcp, tls })?;
/// server.serve(|call: Call| async move { Ok(call.into_body()) }).await?;
/// # Ok(())
/// # }
/// ```
pub trait Listen: Send + 'static {
    /// The next connection.
    ///
    /// # Errors
    /// Whatever the operating system says. The server tries again: at once after
    /// [`ConnectionAborted`](io::ErrorKind::ConnectionAborted), which concerns one client, unless it comes more than 64 times
    /// in a row, and 100 ms later after others, which otherwise (`EMFILE`) would be met again and again without a pause. A
    /// panic counts as one of those.
    ///
    /// # Cancel safety
    /// Dropping the future must lose no connection that the client believes to be accepted.
    fn accept(&mut self) -> Accepting<'_>;

    /// Where it listens.
    ///
    /// # Errors
    /// As `getsockname(2)`, or that there is no such address.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// TCP, with the socket's options set.
pub(crate) struct TcpListening {
    listener: TcpListener,
    options: SocketOptions,
    heartbeat: Heartbeat,
}

impl TcpListening {
    /// Listens on the first of the addresses that can be had.
    pub(crate) async fn listen(
        address: impl ToSocketAddrs,
        options: SocketOptions,
        heartbeat: Heartbeat,
    ) -> Result<Self, BindError> {
        let mut failure = BindError::NoAddress;
        let addresses = lookup_host(address).await;
        for address in addresses.map_err(|error| BindError::Resolve(error.into()))? {
            match listen_on(address, &options) {
                Ok(listener) => return Ok(Self { listener, options, heartbeat }),
                Err(error) => failure = BindError::Os { address, error: error.into() },
            }
        }
        Err(failure)
    }
}

impl Listen for TcpListening {
    fn accept(&mut self) -> Accepting<'_> {
        Box::pin(async {
            loop {
                let (stream, peer) = self.listener.accept().await?;
                match set_options(&stream, &self.options, &self.heartbeat) {
                    Ok(()) => return Ok(Incoming { transport: Box::new(stream), peer }),
                    // It concerns this client alone, as where it has gone again.
                    Err(error) => warn!(%peer, %error, "socket options refused"),
                }
            }
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl<L: Listen> Listen for Guarded<L> {
    fn accept(&mut self) -> Accepting<'_> {
        Box::pin(async {
            let accepted = Contained::new(async { self.0.accept().await }).await;
            let panicked = || Err(io::Error::other("the listener panicked"));
            let Incoming { transport, peer } = accepted.unwrap_or_else(panicked)?;
            Ok(Incoming { transport: Box::new(GuardedTransport::new(transport)), peer })
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

fn listen_on(address: SocketAddr, options: &SocketOptions) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Elsewhere than on Windows this means only that a server can be started again at once.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    set_buffers(&socket, options)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
