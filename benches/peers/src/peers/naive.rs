//! The client of the stories, see `examples/restart`: one socket; write, read; on an error the same bytes again into the
//! same socket, until its operator loses patience and restarts it.

use std::time::Duration;

use bytes::Bytes;

use crate::peers::raw1::{Raw1, Socket};
use crate::peers::{BoxError, Caller, Peer, Target};

/// Between an error and the next attempt.
const PAUSE: Duration = Duration::from_millis(50);
/// The operator's patience.
const RESENDS: u32 = 20;

pub(crate) struct Naive(Raw1);

pub(crate) struct Loop {
    raw: Raw1,
    socket: Socket,
    failed: u32,
}

impl Peer for Naive {
    type Caller = Loop;

    async fn connect(target: Target<'_>) -> Result<Self, BoxError> {
        Ok(Self(Raw1::connect(target).await?))
    }

    async fn caller(&self) -> Result<Loop, BoxError> {
        Ok(Loop { raw: self.0.clone(), socket: self.0.caller().await?, failed: 0 })
    }
}

impl Caller for Loop {
    async fn call(&mut self, body: &Bytes) -> Result<(), BoxError> {
        let result = self.socket.call(body).await;
        self.failed = if result.is_ok() { 0 } else { self.failed + 1 };
        if self.failed > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        if self.failed > RESENDS {
            self.socket = self.raw.caller().await?;
        }
        result
    }
}
