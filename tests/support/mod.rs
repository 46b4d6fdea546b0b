//! What several test binaries share.

#![allow(dead_code)]

pub(crate) mod scripted;
