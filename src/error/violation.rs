//! How a peer can break the protocol. The texts are those of `docs/protocol.md`.

/// The peer sent something that the protocol does not allow. The connection is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A frame without a kind.
    #[error("empty frame")]
    EmptyFrame,
    /// A length prefix above the limit. Nothing was reserved for it.
    #[error("frame of {length} bytes exceeds the limit of {limit}")]
    FrameTooLong {
        /// What the prefix claims, in bytes.
        length: u64,
        /// What is allowed, in bytes.
        limit: u64,
    },
    /// A kind that this version does not know and must not skip.
    #[error("unknown kind {kind:#04x}")]
    UnknownKind {
        /// The first payload byte.
        kind: u8,
    },
    /// A frame that has no place here: wrong direction, or before or after the handshake.
    #[error("unexpected {name}")]
    Unexpected {
        /// The frame's name.
        name: &'static str,
    },
    /// A payload that ends before its fixed fields do.
    #[error("{name} of {length} bytes is too short")]
    TooShort {
        /// The frame's name.
        name: &'static str,
        /// The payload's length in bytes.
        length: usize,
    },
    /// A first frame that is no `HELLO`.
    #[error("not a steadfast HELLO")]
    NotHello,
    /// The server chose a version that was not offered.
    #[error("version {version} was not offered")]
    VersionNotOffered {
        /// What `WELCOME` says.
        version: u16,
    },
    /// A long message that announces more than is accepted.
    #[error("message of {length} bytes exceeds the limit of {limit}")]
    MessageTooLong {
        /// What was announced or came, in bytes.
        length: u64,
        /// What is accepted, in bytes.
        limit: u64,
    },
    /// A long message whose pieces do not add up.
    #[error("message of {announced} bytes announced, {came} came")]
    WrongTotal {
        /// The total of the first frame, in bytes.
        announced: u64,
        /// What came, in bytes.
        came: u64,
    },
    /// Too many long messages in transit at once.
    #[error("more than {limit} unfinished messages")]
    TooManyUnfinished {
        /// How many are allowed.
        limit: usize,
    },
    /// An answer to a call that this connection never carried.
    #[error("{name} to nobody: id {id}")]
    ToNobody {
        /// The frame's name.
        name: &'static str,
        /// The id it carries.
        id: u64,
    },
    /// A second request under an id that is unanswered.
    #[error("id {id} is in use")]
    IdInUse {
        /// The id.
        id: u64,
    },
    /// An id outside its sender's range.
    #[error("id {id} is out of range")]
    IdOutOfRange {
        /// The id.
        id: u64,
    },
}
