//! The serving end: accepting, the handshake, running handlers, graceful shutdown.

pub(crate) mod call;
pub(crate) mod cancellation;
pub(crate) mod clients;
pub(crate) mod connection;
pub(crate) mod desk;
pub(crate) mod half_open;
pub(crate) mod handle;
pub(crate) mod life;
pub(crate) mod listen;
pub(crate) mod settings;
pub(crate) mod shared;
