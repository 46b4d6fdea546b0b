//! A pipe in memory between a pool and a real socket, which holds little and may be slow.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use steadfast::{Connect, Connected, Connecting, Endpoint};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until};

/// Of the sockets behind a pipe, in bytes.
pub(crate) const SOCKET_BUFFER: u32 = 32 * 1024;

/// Connects through such a pipe, and small socket buffers behind it.
#[derive(Clone, Default)]
pub(crate) struct Piped {
    /// What the pipe holds in each direction, in bytes.
    pub(crate) size: usize,
    /// Bytes per second in each direction; 0: as fast as it goes.
    pub(crate) rate: u64,
    /// Bytes that have passed towards the server and towards the client.
    pub(crate) passed: [Arc<AtomicU64>; 2],
}

impl Connect for Piped {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Connecting<'a> {
        Box::pin(async move {
            let socket = self.socket(endpoint).await?;
            let (near, far) = tokio::io::duplex(self.size);
            let ((from_client, to_client), (from_server, to_server)) =
                (tokio::io::split(far), socket.into_split());
            let [up, down] = self.passed.clone();
            tokio::spawn(pump(from_client, to_server, self.rate, up));
            tokio::spawn(pump(from_server, to_client, self.rate, down));
            Ok(Connected { transport: Box::new(near), address: None })
        })
    }
}

impl Piped {
    async fn socket(&self, endpoint: &Endpoint) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.set_nodelay(true)?;
        // Segments are as long as on Ethernet: those of the loopback do not fit small buffers, and then the kernel waits.
        #[cfg(unix)]
        socket2::SockRef::from(&socket).set_tcp_mss(1460)?;
        socket.set_recv_buffer_size(SOCKET_BUFFER)?;
        socket.set_send_buffer_size(SOCKET_BUFFER)?;
        let ip = endpoint.ip().expect("tests connect to addresses");
        socket.connect(SocketAddr::new(ip, endpoint.port())).await
    }
}

/// Copies until the end of file and passes that on, too. Heartbeats are small: every piece that is read goes on at once.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    rate: u64,
    passed: Arc<AtomicU64>,
) {
    let mut piece = vec![0; 16 * 1024];
    let mut free_at = Instant::now();
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        // The time that these bytes take on the line, if it has a rate. Behind a late wake-up it catches up.
        if let Some(nanos) = (count as u64 * 1_000_000_000).checked_div(rate) {
            let time = Duration::from_nanos(nanos);
            free_at = free_at.max(Instant::now() - Duration::from_millis(5)) + time;
            sleep_until(free_at).await;
        }
        if to.write_all(&piece[..count]).await.is_err() {
            break;
        }
        passed.fetch_add(count as u64, Ordering::Relaxed);
    }
    let _ = to.shutdown().await;
}
