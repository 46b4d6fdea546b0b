//! What the examples with real servers share: the server's process, and callers who check their answers.

pub(crate) mod daemon;
pub(crate) mod traffic;
