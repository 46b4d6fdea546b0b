//! Puts something around each transport of a connector or a listener.

use std::io;
use std::net::SocketAddr;

use steadfast::{Accepting, Connect, Connected, Connecting, Endpoint, Incoming, Listen};

use crate::support::tampered::{Tamper, Tampered};

/// Where the transports come from, and what each of them is tampered with.
pub(crate) struct Layered<T, F>(pub(crate) T, pub(crate) F);

impl<C, F, T> Connect for Layered<C, F>
where
    C: Connect,
    F: Fn() -> T + Send + Sync + 'static,
    T: Tamper,
{
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Connecting<'a> {
        Box::pin(async move {
            let Connected { transport, address } = self.0.connect(endpoint).await?;
            Ok(Connected { transport: Tampered::with(self.1(), transport), address })
        })
    }
}

impl<L, F, T> Listen for Layered<L, F>
where
    L: Listen,
    F: Fn() -> T + Send + Sync + 'static,
    T: Tamper,
{
    fn accept(&mut self) -> Accepting<'_> {
        Box::pin(async {
            let Incoming { transport, peer } = self.0.accept().await?;
            Ok(Incoming { transport: Tampered::with(self.1(), transport), peer })
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
