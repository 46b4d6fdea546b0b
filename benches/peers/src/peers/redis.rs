//! redis-rs's `ConnectionManager`, by default settings, with `ECHO` to a redis-server: one connection, pipelined.

use bytes::Bytes;
use redis::aio::ConnectionManager;

use crate::peers::{BoxError, Caller, Peer, Target, compare};

pub(crate) struct Redis(ConnectionManager);

impl Peer for Redis {
    type Caller = Self;

    async fn connect(target: Target<'_>) -> Result<Self, BoxError> {
        use redis::IntoConnectionInfo as _;
        let settings = redis::io::tcp::TcpSettings::default().set_nodelay(true);
        let address = format!("redis://{}", target.address)
            .into_connection_info()?
            .set_tcp_settings(settings);
        Ok(Self(ConnectionManager::new(redis::Client::open(address)?).await?))
    }

    async fn caller(&self) -> Result<Self, BoxError> {
        Ok(Self(self.0.clone()))
    }
}

impl Caller for Redis {
    async fn call(&mut self, body: &Bytes) -> Result<(), BoxError> {
        let mut echo = redis::cmd("ECHO");
        let reply: Vec<u8> = echo.arg(&body[..]).query_async(&mut self.0).await?;
        compare(&reply, body)
    }
}
