//! Addresses on loopback: of one's own, of a socket that listens, and where nobody does.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::net::TcpListener;

/// A loopback address of this call's own, where the system has more than one: then no port is taken by chance while
/// its server is down, and no client draws the very port that it dials.
pub(crate) fn own_loopback() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    if !cfg!(any(target_os = "linux", windows)) {
        return Ipv4Addr::LOCALHOST;
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed) % 254 + 1;
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high | 1, low, number)
}

/// A listening socket, with its address as a pool wants it.
pub(crate) async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind((own_loopback(), 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// An address at which nobody listens, as long as the socket is kept: bound, so that nobody else can have the port.
pub(crate) fn dead_port() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((own_loopback(), 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}
