//! The client that an application would see: typed, over a pool.

use std::collections::BTreeMap;

use steadfast::{Bytes, CallCause, CallError, Pool};

use crate::packet;

/// Cheap to clone, as the pool is.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pool: Pool,
}

impl Client {
    pub(crate) fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// The value, if there is one.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<Bytes>, CallError> {
        let get = packet::request(packet::GET, &[], key, &[]);
        found(self.pool.request(get).idempotent().send().await)
    }

    /// Not idempotent: sent twice, it may overwrite what somebody else has set in between.
    pub(crate) async fn set(&self, key: &str, value: &[u8]) -> Result<(), CallError> {
        // Flags, and the time until it expires: none, never.
        let set = packet::request(packet::SET, &[0; 8], key, value);
        self.pool.call(set).await.map(drop)
    }

    /// Whether there was one.
    pub(crate) async fn delete(&self, key: &str) -> Result<bool, CallError> {
        let delete = packet::request(packet::DELETE, &[], key, &[]);
        found(self.pool.call(delete).await).map(|found| found.is_some())
    }

    /// What memcached counts, by name.
    pub(crate) async fn stats(&self) -> Result<BTreeMap<String, String>, CallError> {
        let stat = packet::request(packet::STAT, &[], "", &[]);
        let lines = self.pool.request(stat).idempotent().send().await?;
        let lines = String::from_utf8_lossy(&lines);
        let pairs = lines.lines().filter_map(|line| line.split_once(' '));
        Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// That there is no such key is an answer, no error.
fn found(answer: Result<Bytes, CallError>) -> Result<Option<Bytes>, CallError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) => match error.cause() {
            CallCause::Remote(reply) if reply.code() == u32::from(packet::NOT_FOUND) => Ok(None),
            _ => Err(error),
        },
    }
}
