//! Without a runtime: one thread writes, and reads the answer.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use bytes::Bytes;

use crate::peers::{BoxError, Caller, Peer, Target, compare};

pub(crate) struct Blocking {
    address: String,
}

/// Its calls block the thread that polls them: one caller only.
pub(crate) struct Socket {
    stream: TcpStream,
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl Peer for Blocking {
    type Caller = Socket;

    async fn connect(target: Target<'_>) -> Result<Self, BoxError> {
        Ok(Self { address: target.address.to_owned() })
    }

    async fn caller(&self) -> Result<Socket, BoxError> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        Ok(Socket { stream, request: Vec::new(), reply: Vec::new() })
    }
}

impl Caller for Socket {
    async fn call(&mut self, body: &Bytes) -> Result<(), BoxError> {
        self.request.clear();
        self.request.extend_from_slice(&u32::try_from(body.len())?.to_be_bytes());
        self.request.extend_from_slice(body);
        self.stream.write_all(&self.request)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        self.reply.resize(u32::from_be_bytes(length) as usize, 0);
        self.stream.read_exact(&mut self.reply)?;
        compare(&self.reply, body)
    }
}
