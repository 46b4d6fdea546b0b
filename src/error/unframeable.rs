//! Why a frame cannot be sent as the framing wants it.

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
