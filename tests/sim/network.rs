//! Both seams of the library over the simulated network.

use std::io;
use std::net::SocketAddr;

use steadfast::{Accepting, Connect, Connected, Connecting, Endpoint, Incoming, Listen};
use turmoil::net::{TcpListener, TcpStream};

/// Connects within the simulation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dialer;

impl Connect for Dialer {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Connecting<'a> {
        Box::pin(async move {
            let stream = TcpStream::connect((endpoint.host(), endpoint.port())).await?;
            let address = stream.peer_addr().ok();
            Ok(Connected { transport: Box::new(stream), address })
        })
    }
}

/// Listens within the simulation.
pub(crate) struct Socket<F>(pub(crate) TcpListener, pub(crate) F);

impl<F: FnMut() + Send + 'static> Listen for Socket<F> {
    fn accept(&mut self) -> Accepting<'_> {
        Box::pin(async {
            let (stream, peer) = self.0.accept().await?;
            (self.1)();
            Ok(Incoming { transport: Box::new(stream), peer })
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
