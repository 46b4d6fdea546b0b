//! What all connections of a server share.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::instance::InstanceId;
use crate::server::clients::Clients;
use crate::server::half_open::HalfOpen;
use crate::server::settings::ServerBuilder;

#[derive(Debug)]
pub(crate) struct Shared<H> {
    pub(crate) settings: ServerBuilder,
    pub(crate) instance: InstanceId,
    pub(crate) handler: H,
    pub(crate) clients: Arc<Clients>,
    /// Places for connections that have said `HELLO`.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) half_open: Arc<HalfOpen>,
    /// Bounds those who are told at a time why they are turned away. While the server drains, [`HalfOpen`] does.
    pub(crate) explaining: Semaphore,
    /// Bounds the handlers at work.
    pub(crate) handlers: Arc<Semaphore>,
    /// Bounds the requests that wait for one of those turns.
    pub(crate) waiting: Arc<Semaphore>,
    /// The server shuts down: connections finish what they have.
    pub(crate) draining: CancellationToken,
    /// The time for finishing is over.
    pub(crate) killed: CancellationToken,
    /// Handlers at work.
    pub(crate) tasks: TaskTracker,
    /// Calls that were cut off when the time for draining was over.
    pub(crate) cut_off: AtomicUsize,
}
