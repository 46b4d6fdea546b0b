//! What an `on_connect` hook talks to: one new connection, before anybody else may use it.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::clock::now;
use crate::connection::Connection;
use crate::error::call::{CallError, Outcome, Stopped};
use crate::error::instance::InstanceId;
use crate::exchange::{Exchange, refused_here, reply_of, result_of};
use crate::issued::Issued;
use crate::proto::calling::{Calling, Kind, Start};
use crate::proto::calls::Answer;
use crate::proto::speech::Speech;
use crate::switchboard::Switchboard;

/// A new connection, lent to the [`on_connect`](crate::PoolBuilder::on_connect) hook. Calls on it are made once and never
/// retried: if one fails, the hook should return the error, and the pool connects anew.
#[derive(Debug)]
pub struct Conversation {
    pub(crate) connection: Connection<dyn Calling>,
    /// How frames are made, where the protocol is a foreign one.
    pub(crate) speech: Option<Arc<Speech>>,
    pub(crate) board: Arc<Switchboard>,
    pub(crate) instance: Option<InstanceId>,
    pub(crate) number: u64,
    /// The end of the hook's time.
    pub(crate) deadline: Instant,
}

impl Conversation {
    /// Calls the server on this very connection. The deadline is the hook's time-out.
    ///
    /// # Errors
    /// As [`Pool::call`](crate::Pool::call), without retries.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call.
    pub async fn call(&mut self, body: impl Into<Bytes>) -> Result<Bytes, CallError> {
        let kind = Kind::Request { repeatable: false, resent: false };
        self.exchange(kind, body.into()).await.map(reply_of)
    }

    /// Sends a notification on this very connection; returns when the operating system has accepted all of it.
    ///
    /// # Errors
    /// As [`Pool::notify`](crate::Pool::notify), without retries.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not prevent the notification.
    pub async fn notify(&mut self, body: impl Into<Bytes>) -> Result<(), CallError> {
        self.exchange(Kind::Notification, body.into()).await.map(drop)
    }

    /// Which of the pool's connections this is, counted from 1.
    pub fn connection(&self) -> u64 {
        self.number
    }

    /// The server process at the other end, where the protocol tells.
    pub fn instance(&self) -> Option<InstanceId> {
        self.instance
    }

    async fn exchange(&mut self, kind: Kind, body: Bytes) -> Result<Answer, CallError> {
        let started = now();
        let issued = Issued::new(&self.board);
        let Issued { id, oldest, .. } = issued;
        let start = Start {
            id,
            kind,
            head: &[],
            body: &body,
            deadline: self.deadline,
            oldest,
            place: None,
        };
        let exchange =
            Exchange::new(&self.connection, self.speech.as_deref(), started, start, None);
        let result = exchange.await;
        let (failed, attempts) = match result {
            Ok(answer) => match result_of(answer, self.deadline.saturating_duration_since(started))
            {
                Ok(answer) => return Ok(answer),
                Err(failed) => (failed, 1),
            },
            Err(not_taken) => ((Outcome::NotSent, refused_here(not_taken, body.len())), 0),
        };
        let elapsed = now().saturating_duration_since(started);
        Err(CallError::new(
            failed,
            Stopped::Final,
            attempts,
            elapsed,
            self.board.endpoint().clone(),
        ))
    }
}
