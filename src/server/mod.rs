//! The serving end: accepting, the handshake, running handlers, graceful shutdown.

pub(crate) mod call;
pub(crate) mod clients;
pub(crate) mod departure;
pub(crate) mod desk;
pub(crate) mod half_open;
pub(crate) mod incoming;
pub(crate) mod listen;
pub(crate) mod serve;
pub(crate) mod settings;
pub(crate) mod shared;
