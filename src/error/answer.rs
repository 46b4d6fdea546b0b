//! What a server answers instead of a reply: that it will not run the call, or that it ran and failed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::text::{OneLine, RetryAfter};

/// The server's refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Refusal {
    /// One of the constants below; others mean that it was refused for a reason that this version does not know.
    pub code: u32,
    /// A lower bound on the time until the next attempt, if the server named one.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// What a [`Dialect`](crate::Dialect) makes of such an answer: one of the codes below, or one of the server's own.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use steadfast::{Meaning, Refusal, To};
    ///
    /// let mut refusal = Refusal::new(Refusal::OVERLOADED);
    /// refusal.retry_after = Some(Duration::from_secs(1));
    /// let meaning = Meaning::Refused { to: To::Id(7), refusal };
    /// ```
    pub const fn new(code: u32) -> Self {
        Self { code, retry_after: None }
    }

    /// The server holds as many requests as it will.
    pub const OVERLOADED: u32 = 1;
    /// The server is shutting down.
    pub const DRAINING: u32 = 2;
    /// The deadline had passed before the work began.
    pub const EXPIRED: u32 = 3;
    /// Nothing serves this request.
    pub const UNKNOWN: u32 = 4;
    /// The request is longer than the server accepts.
    pub const TOO_LONG: u32 = 5;
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.code {
            Self::OVERLOADED => "the server is overloaded",
            Self::DRAINING => "the server is shutting down",
            Self::EXPIRED => "the deadline passed before the server began",
            Self::UNKNOWN => "the server does not know such a request",
            Self::TOO_LONG => "the request is longer than the server accepts",
            _ => "the server said no",
        };
        write!(f, "{text}{} (REFUSED {})", RetryAfter(self.retry_after), self.code)
    }
}

/// An error that is the server's own answer: the request ran.
///
/// Handlers return it; callers find it in [`CallCause::Remote`](crate::CallCause::Remote).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ErrorReply {
    code: u32,
    text: Arc<str>,
}

impl ErrorReply {
    /// The code of an answer that the server gave for a handler that panicked.
    pub const HANDLER_PANICKED: u32 = 0xffff_0000;
    /// The code of an answer that replaces a reply longer than the client accepts.
    pub const REPLY_TOO_LONG: u32 = 0xffff_0001;
    /// The code of an answer to a call that was sent again: it ran, its reply was lost with the connection, and it was too
    /// long for the server's [reply cache](crate::ReplyCache).
    pub const REPLY_LOST: u32 = 0xffff_0002;
    /// The code of an answer to a call that was sent again: it may have run, and the server has forgotten it. Callers see
    /// [`CallCause::Evicted`](crate::CallCause::Evicted) instead.
    pub(crate) const EVICTED: u32 = 0xffff_0003;

    /// An error answer. Codes belong to the application, except for those from `0xffff_0000` on.
    /// A text of more than 1,024 bytes is cut when it is sent.
    pub fn new(code: u32, text: impl Into<Arc<str>>) -> Self {
        Self { code, text: text.into() }
    }

    /// The application's code.
    pub fn code(&self) -> u32 {
        self.code
    }

    /// The application's text.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for ErrorReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Self::HANDLER_PANICKED | Self::REPLY_TOO_LONG | Self::REPLY_LOST => {
                write!(f, "the server answered for its handler: {}", OneLine(&self.text))
            }
            code => write!(f, "the server answered with error {code}: {}", OneLine(&self.text)),
        }
    }
}

impl std::error::Error for ErrorReply {}
