//! TCP whose kernel gives up by itself, before steadfast does: `TCP_USER_TIMEOUT`, see `tcp(7)`.

use steadfast::{Connect, Connected, Connecting, Endpoint};
use tokio::net::TcpStream;

pub(crate) struct Impatient;

impl Connect for Impatient {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Connecting<'a> {
        Box::pin(async move {
            let stream = TcpStream::connect((endpoint.host(), endpoint.port())).await?;
            limit(&stream)?;
            Ok(Connected { address: Some(stream.peer_addr()?), transport: Box::new(stream) })
        })
    }
}

#[cfg(target_os = "linux")]
fn limit(stream: &TcpStream) -> std::io::Result<()> {
    // Shorter than steadfast's bound, by more than the kernel is late.
    let limit = std::time::Duration::from_millis(300);
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(limit))
}

#[cfg(not(target_os = "linux"))]
fn limit(_: &TcpStream) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
