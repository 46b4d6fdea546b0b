//! This library, as it is by default: deadlines, heartbeats, cancellation, limits, outcomes, the reply cache.

use std::time::Duration;

use bytes::Bytes;
use steadfast::{Call, Pool, Server};

use crate::peers::{BoxError, Caller, Peer, Target, compare};

impl Peer for Pool {
    type Caller = Self;

    async fn connect(target: Target<'_>) -> Result<Self, BoxError> {
        let pool = Self::builder(target.address);
        let pool = match target.connections {
            // As it is by default.
            1 => pool,
            connections => pool.connections(connections),
        };
        let pool = pool.build()?;
        while pool.status().ready < target.connections {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(pool)
    }

    async fn caller(&self) -> Result<Self, BoxError> {
        Ok(self.clone())
    }
}

impl Caller for Pool {
    async fn call(&mut self, body: &Bytes) -> Result<(), BoxError> {
        compare(&Self::call(self, body.clone()).await?, body)
    }
}

/// The same, for calls that are harmless to repeat, and say so: those that were out when their connection died are sent
/// again.
pub(crate) struct Repeatable(Pool);

impl Peer for Repeatable {
    type Caller = Self;

    async fn connect(target: Target<'_>) -> Result<Self, BoxError> {
        Ok(Self(<Pool as Peer>::connect(target).await?))
    }

    async fn caller(&self) -> Result<Self, BoxError> {
        Ok(Self(self.0.clone()))
    }
}

impl Caller for Repeatable {
    async fn call(&mut self, body: &Bytes) -> Result<(), BoxError> {
        compare(&self.0.request(body.clone()).idempotent().send().await?, body)
    }
}

/// Echoes.
pub(crate) async fn serve(
    address: &str,
) -> Result<(String, impl Future<Output = ()> + use<>), BoxError> {
    let server = Server::bind(address).await?;
    let address = server.local_addr()?.to_string();
    let served = server.serve(|call: Call| async move { Ok(call.into_body()) });
    Ok((address, async {
        served.await.expect("it is not shut down");
    }))
}
