//! The serving end: accepting, the handshake, running handlers, graceful shutdown.

pub(crate) mod call;
pub(crate) mod listen;
pub(crate) mod serve;
pub(crate) mod settings;
