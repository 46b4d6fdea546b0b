//! Why a body cannot be sent as the protocol wants it.

/// Why no frame can be made of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Unsendable {
    /// It does not fit the [`Framing`](crate::Framing).
    #[error("{0}")]
    Unframeable(#[from] Unframeable),
    /// The protocol's own word.
    #[error("{why}")]
    Refused {
        /// Why, in lower case and without a full stop.
        why: &'static str,
    },
}

/// A frame that does not fit its [`Framing`](crate::Framing). Nothing of it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Unframeable {
    /// Longer than the limit, or than the length field can say.
    #[error("frame of {length} bytes exceeds the limit of {limit}")]
    TooLong {
        /// The frame as it was handed over, in bytes.
        length: u64,
        /// The framing's limit, or what its length field can say if that is less, in bytes.
        limit: u64,
    },
    /// Shorter than the header that it must begin with.
    #[error("frame of {length} bytes is shorter than its header of {header}")]
    TooShort {
        /// The frame as it was handed over, in bytes.
        length: u64,
        /// The part of the header that the user writes, in bytes.
        header: u64,
    },
}
