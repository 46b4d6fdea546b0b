//! A listener without a network: whoever has the other end dials.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use steadfast::{Accepting, Incoming, Listen};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

pub(crate) const NOWHERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

pub(crate) struct InMemory(mpsc::UnboundedReceiver<DuplexStream>);

/// Dials.
pub(crate) struct Line(mpsc::UnboundedSender<DuplexStream>);

pub(crate) fn in_memory() -> (Line, InMemory) {
    let (line, incoming) = mpsc::unbounded_channel();
    (Line(line), InMemory(incoming))
}

impl Line {
    /// A connection that holds so many bytes each way.
    pub(crate) fn dial(&self, room: usize) -> DuplexStream {
        let (near, far) = tokio::io::duplex(room);
        self.0.send(far).unwrap();
        near
    }
}

impl Listen for InMemory {
    fn accept(&mut self) -> Accepting<'_> {
        Box::pin(async {
            match self.0.recv().await {
                Some(stream) => Ok(Incoming { transport: Box::new(stream), peer: NOWHERE }),
                None => std::future::pending().await,
            }
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(NOWHERE)
    }
}
