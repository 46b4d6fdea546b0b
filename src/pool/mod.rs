//! The front door: building a pool, calling through it, retrying, closing.

pub(crate) mod attempt;
pub(crate) mod builder;
pub(crate) mod channels;
pub(crate) mod handle;
pub(crate) mod lease;
pub(crate) mod leasing;
#[cfg(test)]
mod model;
pub(crate) mod request;
pub(crate) mod shared;
pub(crate) mod usher;
