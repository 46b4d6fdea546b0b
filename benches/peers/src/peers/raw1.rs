//! What people write today: a socket for each caller, a length in front of each message, a write and two reads.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::peers::{BoxError, Caller, Peer, Target, compare};

/// Longer bodies are not copied behind their length.
const COPIED: usize = 16 * 1024;

#[derive(Clone)]
pub(crate) struct Raw1 {
    address: String,
}

pub(crate) struct Socket {
    stream: TcpStream,
    request: Vec<u8>,
}

impl Peer for Raw1 {
    type Caller = Socket;

    async fn connect(target: Target<'_>) -> Result<Self, BoxError> {
        Ok(Self { address: target.address.to_owned() })
    }

    async fn caller(&self) -> Result<Socket, BoxError> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        Ok(Socket { stream, request: Vec::new() })
    }
}

impl Caller for Socket {
    async fn call(&mut self, body: &Bytes) -> Result<(), BoxError> {
        compare(&self.exchange(body).await?, body)
    }
}

impl Socket {
    async fn exchange(&mut self, body: &[u8]) -> Result<BytesMut, BoxError> {
        self.request.clear();
        self.request.extend_from_slice(&u32::try_from(body.len())?.to_be_bytes());
        if body.len() <= COPIED {
            self.request.extend_from_slice(body);
            self.stream.write_all(&self.request).await?;
        } else {
            self.stream.write_all(&self.request).await?;
            self.stream.write_all(body).await?;
        }
        let length = self.stream.read_u32().await? as usize;
        let mut reply = BytesMut::with_capacity(length);
        let mut rest = (&mut self.stream).take(length as u64);
        while reply.len() < length {
            if rest.read_buf(&mut reply).await? == 0 {
                return Err("closed in the middle of a reply".into());
            }
        }
        Ok(reply)
    }
}
