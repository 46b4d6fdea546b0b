//! What connections are taken out of.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use steadfast::{Framing, Ordered, Pool};
use tokio::task::yield_now;

use crate::peers::pooled::{Bb8, CONNECTIONS, Connector, Deadpool};
use crate::server;

/// Whether a connection is held while others run.
#[derive(Debug, Clone, Copy)]
pub(super) enum Hold {
    OverOneYield,
    NoTime,
}

impl Hold {
    async fn wait(self) {
        match self {
            Self::OverOneYield => yield_now().await,
            Self::NoTime => {}
        }
    }
}

/// Something from which connections are taken.
pub(super) trait Source: Clone + Send + 'static {
    /// Takes one, holds it, gives it back.
    fn once(&self, hold: Hold) -> impl Future<Output = ()> + Send;
}

/// Nothing is taken out of it.
#[derive(Clone)]
pub(super) struct NoPool;

impl Source for NoPool {
    async fn once(&self, hold: Hold) {
        hold.wait().await;
    }
}

impl Source for Pool {
    async fn once(&self, hold: Hold) {
        let lease = self.lease().await.expect("a connection");
        hold.wait().await;
        drop(lease);
    }
}

impl Source for Bb8 {
    async fn once(&self, hold: Hold) {
        let connection = self.get().await.expect("a connection");
        hold.wait().await;
        drop(connection);
    }
}

impl Source for Deadpool {
    async fn once(&self, hold: Hold) {
        let connection = self.get().await.expect("a connection");
        hold.wait().await;
        drop(connection);
    }
}

/// All of them, with their connections made.
pub(super) struct Sources {
    pub(super) steadfast: Pool,
    pub(super) bb8: Bb8,
    pub(super) deadpool: Deadpool,
}

impl Sources {
    pub(super) async fn new() -> Self {
        let address = server::start("127.0.0.1:0").await.expect("loopback can be bound");
        let bb8 = Bb8::builder().max_size(CONNECTIONS as u32).min_idle(CONNECTIONS as u32);
        let deadpool = Deadpool::builder(Connector(address)).max_size(CONNECTIONS);
        Self {
            steadfast: steadfast(address).await,
            bb8: bb8.build(Connector(address)).await.expect("connections"),
            deadpool: deadpool.build().expect("good settings"),
        }
    }
}

async fn steadfast(address: SocketAddr) -> Pool {
    let pool = Pool::builder(address.to_string())
        .protocol(Ordered::new(Framing::u32_be()))
        .connections(CONNECTIONS)
        .build()
        .expect("good settings");
    while pool.status().ready < CONNECTIONS {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    pool
}
