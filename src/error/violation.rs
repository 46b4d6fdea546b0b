//! How a peer can break the protocol. The texts are those of `docs/protocol.md`, but for those of foreign framings.

use crate::error::opening::Opening;

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
        /// What the frame begins with, its length among it. A [`LossCause`](crate::LossCause) tells it.
        came: Opening,
    },
    /// A length field that claims less than the header that it stands in.
    #[error("frame of {length} bytes is shorter than its header of {header}")]
    FrameTooShort {
        /// What the length field makes of the whole frame, in bytes.
        length: u64,
        /// The shortest frame there is, in bytes.
        header: u64,
    },
    /// A frame that does not begin as it must. Mostly the peer speaks another protocol, or the
    /// [`Framing`](crate::Framing) is not the peer's, so that an earlier frame was cut in the wrong place.
    #[error("frame begins with {came}, not with \"{}\"", .magic.escape_ascii())]
    WrongMagic {
        /// What it must begin with.
        magic: &'static [u8],
        /// What has come in its place.
        came: Opening,
    },
    /// A frame that a [`Dialect`](crate::Dialect) cannot make sense of.
    #[error("malformed frame: {what}")]
    Malformed {
        /// What is wrong with it, in lower case and without a full stop.
        what: &'static str,
    },
    /// Bytes that came while nothing was asked.
    #[error("it sent something that was not asked for")]
    Unasked,
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
    /// An answer, or a part of a message, with an id that this connection never carried.
    #[error("{name} to nobody: id {id}")]
    ToNobody {
        /// The frame's name.
        name: &'static str,
        /// The id it carries.
        id: u64,
    },
    /// A second message under an id whose first one has not come whole or, of a request, is unanswered.
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
