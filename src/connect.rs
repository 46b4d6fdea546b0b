//! From a name to a connected socket: resolving, racing addresses, socket options.
//!
//! [`Connect`] is the seam: tests put pipes in here, and others may put Unix sockets, or TLS around [`Tcp`].

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::endpoint::Endpoint;
use crate::error::connect::{BoxError, ConnectCause, Permanent, Phase};
use crate::error::os::OsError;
use crate::limits::{SocketOptions, Timeouts};
use crate::panics::Contained;
use crate::policy::Heartbeat;
use crate::transport::Transport;
use crate::transport::guarded::{Guarded, GuardedTransport};

/// The "Connection Attempt Delay" of RFC 8305, section 5: the next address is tried so long after the one before.
const STAGGER: Duration = Duration::from_millis(250);

/// A connected transport.
pub struct Connected {
    /// The bytes.
    pub transport: Box<dyn Transport>,
    /// Where it leads, for errors and logs.
    pub address: Option<SocketAddr>,
}

impl std::fmt::Debug for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connected").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Why there is no transport. A [`Connect`] makes it, mostly of an error of the operating system's by `?`, and the pool makes a
/// [`ConnectError`](crate::ConnectError) of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotConnected {
    /// How far it came. From a [`Connect`]: [`Phase::Resolve`] or [`Phase::Connect`].
    pub phase: Phase,
    /// What stopped it.
    pub cause: ConnectCause,
    /// The address that was tried (last).
    pub address: Option<SocketAddr>,
}

impl NotConnected {
    /// The same, at an address.
    #[must_use]
    pub fn at(self, address: SocketAddr) -> Self {
        Self { address: Some(address), ..self }
    }

    /// Something stopped it that is not of the network, before there was an address.
    pub(crate) fn in_connecting(cause: ConnectCause) -> Self {
        Self { phase: Phase::Connect, cause, address: None }
    }
}

impl From<Permanent> for NotConnected {
    /// Waiting cannot mend it: a certificate that is not trusted, a proxy that does not know this user. In [`Phase::Connect`], without
    /// an address.
    fn from(error: Permanent) -> Self {
        Self::in_connecting(ConnectCause::Hook(BoxError::from(error).into()))
    }
}

impl From<std::io::Error> for NotConnected {
    /// In [`Phase::Connect`], without an address.
    fn from(error: std::io::Error) -> Self {
        Self::in_connecting(ConnectCause::Os(error.into()))
    }
}

/// The future of a connection attempt.
pub type Connecting<'a> =
    Pin<Box<dyn Future<Output = Result<Connected, NotConnected>> + Send + 'a>>;

/// Makes transports. The pool calls it for every attempt and never twice at a time for the same slot.
///
/// It has as long as [`Timeouts::resolve`] and [`Timeouts::connect`] allow together; a panic in it counts as a failed
/// attempt. What puts a layer over TCP need not resolve and race addresses itself: it wraps [`Tcp`].
pub trait Connect: Send + Sync + 'static {
    /// Connects to the endpoint.
    ///
    /// # Errors
    /// [`NotConnected`] says how far it came and what stopped it; the pool tries again under its backoff. What waiting cannot mend is
    /// a [`Permanent`] error: then calls fail at once and name it.
    ///
    /// # Cancel safety
    /// Dropping the future gives the attempt up: it must leave nothing behind that goes on.
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Connecting<'a>;
}

/// How a pool connects unless it is told otherwise: TCP, with the name resolved on every attempt, the addresses of both
/// families raced (RFC 8305), and the socket's options set.
///
/// Whoever needs a layer above TCP gets it from [`PoolBuilder::wrap_tcp`](crate::PoolBuilder::wrap_tcp), with the pool's own
/// [`Timeouts`], [`Heartbeat`] and [`SocketOptions`].
///
/// # Examples
/// TLS over it. A proxy looks the same: it connects to the proxy's [`Endpoint`] and tells it the other.
/// ```
/// use steadfast::{Connect, Connected, Connecting, Endpoint, NotConnected, Pool, Tcp};
/// # use steadfast::Transport;
/// # struct TlsConnector;
/// # impl TlsConnector {
/// #     async fn connect<T: Transport>(&self, _host: &str, stream: T) -> std::io::Result<T> { Ok(stream) }
/// # }
///
/// struct Tls {
///     tcp: Tcp,
///     tls: TlsConnector,
/// }
///
/// impl Connect for Tls {
///     fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Connecting<'a> {
///         Box::pin(async move {
///             let Connected { transport, address } = self.tcp.connect(endpoint).await?;
///             match self.tls.connect(endpoint.host(), transport).await {
///                 Ok(stream) => Ok(Connected { transport: Box::new(stream), address }),
///                 Err(error) => Err(NotConnected { address, ..error.into() }),
///             }
///         })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let tls = TlsConnector;
/// let pool = Pool::builder("orders.intranet:7000").wrap_tcp(|tcp| Tls { tcp, tls }).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp {
    pub(crate) timeouts: Timeouts,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) options: SocketOptions,
}

impl Connect for Tcp {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Connecting<'a> {
        Box::pin(async move {
            let addresses = self.resolve(endpoint).await?;
            let limit = self.timeouts.connect;
            let mut tried = None;
            let race = race(&addresses, &self.options, &mut tried);
            let (stream, address) = match timeout(limit, race).await {
                Ok(Ok(connected)) => connected,
                Ok(Err((cause, address))) => {
                    return Err(NotConnected { phase: Phase::Connect, cause, address });
                }
                Err(_) => {
                    let cause = ConnectCause::TimedOut { limit };
                    return Err(NotConnected { phase: Phase::Connect, cause, address: tried });
                }
            };
            set_options(&stream, &self.options, &self.heartbeat)
                .map_err(|error| NotConnected::from(error).at(address))?;
            Ok(Connected { transport: Box::new(stream), address: Some(address) })
        })
    }
}

impl<C: Connect> Connect for Guarded<C> {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Connecting<'a> {
        Box::pin(async {
            let connected = Contained::new(async { self.0.connect(endpoint).await }).await;
            let panicked = || Err(NotConnected::in_connecting(ConnectCause::ConnectorPanicked));
            let Connected { transport, address } = connected.unwrap_or_else(panicked)?;
            Ok(Connected { transport: Box::new(GuardedTransport::new(transport)), address })
        })
    }
}

impl Tcp {
    async fn resolve(&self, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, NotConnected> {
        if let Some(ip) = endpoint.ip() {
            return Ok(vec![SocketAddr::new(ip, endpoint.port())]);
        }
        let limit = self.timeouts.resolve;
        let lookup = tokio::net::lookup_host((endpoint.host(), endpoint.port()));
        let cause = match timeout(limit, lookup).await {
            Ok(Ok(addresses)) => {
                let addresses = interleave(addresses.collect());
                if !addresses.is_empty() {
                    return Ok(addresses);
                }
                ConnectCause::NoAddress
            }
            Ok(Err(error)) => ConnectCause::Os(error.into()),
            Err(_) => ConnectCause::TimedOut { limit },
        };
        Err(NotConnected { phase: Phase::Resolve, cause, address: None })
    }
}

/// Both address families in turns, each in the resolver's order (RFC 8305, section 4).
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut one, mut other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    one.reverse();
    other.reverse();
    let mut mixed = Vec::new();
    loop {
        match (one.pop(), other.pop()) {
            (None, None) => return mixed,
            (a, b) => mixed.extend(a.into_iter().chain(b)),
        }
    }
}

/// The first address that connects. The next one is tried when the one before fails, or after the stagger.
async fn race(
    addresses: &[SocketAddr],
    options: &SocketOptions,
    tried: &mut Option<SocketAddr>,
) -> Result<(TcpStream, SocketAddr), (ConnectCause, Option<SocketAddr>)> {
    let mut attempts = FuturesUnordered::new();
    let mut rest = addresses.iter().copied();
    let mut failure = (ConnectCause::NoAddress, None);
    let mut next = rest.next();
    loop {
        if let Some(address) = next.take() {
            *tried = Some(address);
            attempts.push(async move { (open(address, options).await, address) });
        }
        tokio::select! {
            biased;
            Some((result, address)) = attempts.next() => match result {
                Ok(stream) if is_self_connect(&stream) => {
                    // Without a `TIME_WAIT`, which would keep the port from the server that wants it back.
                    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                    let refused = std::io::ErrorKind::ConnectionRefused;
                    failure = (ConnectCause::Os(refused.into()), Some(address));
                    next = rest.next();
                }
                Ok(stream) => return Ok((stream, address)),
                Err(error) => {
                    failure = (ConnectCause::Os(OsError::from(error)), Some(address));
                    next = rest.next();
                }
            },
            () = sleep(STAGGER), if rest.len() > 0 => next = rest.next(),
            else => return Err(failure),
        }
    }
}

/// Whether the kernel connected the socket to itself, which it does when it draws the very port that is dialed and
/// nobody listens there (RFC 9293, section 3.5, simultaneous open). A dead server in the ephemeral port range that is
/// dialed again and again would come to life so, and talk to itself.
fn is_self_connect(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(local), Ok(peer)) if local == peer)
}

/// Sets what `tcp(7)` offers, derived from the heartbeat.
pub(crate) fn set_options(
    stream: &TcpStream,
    options: &SocketOptions,
    heartbeat: &Heartbeat,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    if options.keepalive {
        socket.set_tcp_keepalive(&keepalive(heartbeat))?;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        socket.set_tcp_notsent_lowat(options.unsent)?;
        if options.user_timeout {
            socket.set_tcp_user_timeout(Some(heartbeat.bound()))?;
        }
    }
    Ok(())
}

/// Sets the sizes of the buffers, which must be known before a socket connects or listens (`tcp(7)`).
pub(crate) fn set_buffers(socket: &TcpSocket, options: &SocketOptions) -> std::io::Result<()> {
    if let Some(bytes) = options.send_buffer {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    Ok(())
}

async fn open(address: SocketAddr, options: &SocketOptions) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    set_buffers(&socket, options)?;
    socket.connect(address).await
}

/// Probes after `every` of silence, several within `give_up_after`, so that a lost one does not kill the connection.
fn keepalive(heartbeat: &Heartbeat) -> TcpKeepalive {
    let second = Duration::from_secs(1);
    let keepalive = TcpKeepalive::new()
        .with_time(heartbeat.every.max(second))
        .with_interval((heartbeat.give_up_after / PROBES).max(second));
    #[cfg(not(any(windows, target_os = "openbsd", target_os = "redox", target_os = "solaris")))]
    let keepalive = keepalive.with_retries(PROBES);
    keepalive
}

#[cfg(not(windows))]
const PROBES: u32 = 4;
/// As many as Windows sends. Only since Windows 10, version 1703, can it be told another number (`TCP_KEEPCNT`).
#[cfg(windows)]
const PROBES: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_families_take_turns() {
        let addresses = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "1.1.1.2:1"];
        let addresses = addresses.map(|address| address.parse().unwrap()).to_vec();
        let mixed: Vec<_> = interleave(addresses).iter().map(ToString::to_string).collect();
        assert_eq!(mixed, ["[::1]:1", "1.1.1.1:1", "[::2]:1", "1.1.1.2:1", "[::3]:1"]);
    }

    #[tokio::test]
    async fn a_socket_that_is_connected_to_itself_is_known() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let to_itself = socket.connect(address).await.unwrap();
        assert!(is_self_connect(&to_itself));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(!is_self_connect(&other));
    }
}
