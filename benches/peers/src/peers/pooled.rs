//! `Framed` with a length-delimited codec, in a pool of 8: a caller has a connection for itself while it calls.

use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::peers::{BoxError, Caller, Peer, Target, compare};

pub(crate) const CONNECTIONS: usize = 8;

pub(crate) struct Connection {
    frames: Framed<TcpStream, LengthDelimitedCodec>,
    /// Set while a call is under way, so that one that fails or is given up leaves it set.
    spoiled: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Connector(pub(crate) SocketAddr);

impl Connector {
    async fn connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect(self.0).await?;
        stream.set_nodelay(true)?;
        let frames = LengthDelimitedCodec::builder().max_frame_length(MOST).new_framed(stream);
        Ok(Connection { frames, spoiled: false })
    }
}

/// Above the longest body that is measured, 1 MiB.
const MOST: usize = 16 << 20;

pub(crate) type Bb8 = bb8::Pool<Connector>;

impl bb8::ManageConnection for Connector {
    type Connection = Connection;
    type Error = io::Error;

    async fn connect(&self) -> Result<Connection, Self::Error> {
        self.connect().await
    }

    /// There is no ping in a protocol of plain frames.
    async fn is_valid(&self, _: &mut Connection) -> Result<(), Self::Error> {
        Ok(())
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        connection.spoiled
    }
}

impl Peer for Bb8 {
    type Caller = Self;

    async fn connect(target: Target<'_>) -> Result<Self, BoxError> {
        let size = CONNECTIONS as u32;
        let builder = Self::builder().max_size(size).min_idle(size);
        Ok(builder.build(Connector(target.address.parse()?)).await?)
    }

    async fn caller(&self) -> Result<Self, BoxError> {
        Ok(self.clone())
    }
}

impl Caller for Bb8 {
    async fn call(&mut self, body: &Bytes) -> Result<(), BoxError> {
        let mut connection = self.get().await?;
        compare(&connection.exchange(body).await?, body)
    }
}

pub(crate) type Deadpool = deadpool::managed::Pool<Connector>;

impl deadpool::managed::Manager for Connector {
    type Type = Connection;
    type Error = io::Error;

    async fn create(&self) -> Result<Connection, Self::Error> {
        self.connect().await
    }

    async fn recycle(
        &self,
        connection: &mut Connection,
        _: &deadpool::managed::Metrics,
    ) -> deadpool::managed::RecycleResult<Self::Error> {
        match connection.spoiled {
            true => Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
            false => Ok(()),
        }
    }
}

impl Peer for Deadpool {
    type Caller = Self;

    async fn connect(target: Target<'_>) -> Result<Self, BoxError> {
        Ok(Self::builder(Connector(target.address.parse()?)).max_size(CONNECTIONS).build()?)
    }

    async fn caller(&self) -> Result<Self, BoxError> {
        Ok(self.clone())
    }
}

impl Caller for Deadpool {
    async fn call(&mut self, body: &Bytes) -> Result<(), BoxError> {
        let mut connection = self.get().await?;
        compare(&connection.exchange(body).await?, body)
    }
}

impl Connection {
    async fn exchange(&mut self, body: &Bytes) -> io::Result<BytesMut> {
        self.spoiled = true;
        self.frames.send(body.clone()).await?;
        let closed = || Err(io::ErrorKind::UnexpectedEof.into());
        let reply = self.frames.next().await.unwrap_or_else(closed)?;
        self.spoiled = false;
        Ok(reply)
    }
}
