//! The same echo without steadfast: frames of a `u32` big-endian length and a body, each answered with itself, in
//! order. There is no handshake, no heartbeat and no goodbye; this is what hand-written clients talk to.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// A longer frame ends the connection.
const LONGEST: usize = 16 << 20;

/// Serves until the future is dropped; without a listener it does nothing.
pub(crate) async fn serve(listener: Option<TcpListener>, delay: Duration) -> Infallible {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(echo(stream, delay))),
            // Out of descriptors, perhaps: no reason to spin.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn echo(mut stream: TcpStream, delay: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    while let Some(body) = read_frame(&mut stream).await? {
        if !delay.is_zero() {
            sleep(delay).await;
        }
        write_frame(&mut stream, &body).await?;
    }
    Ok(())
}

/// `None` when the peer closed between two frames.
async fn read_frame(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u32().await {
        Ok(length) => length as usize,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some(body))
}

async fn write_frame(stream: &mut TcpStream, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let frame = [&length.to_be_bytes(), body].concat();
    stream.write_all(&frame).await
}
