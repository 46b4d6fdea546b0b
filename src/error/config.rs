//! What is wrong with a configuration. Found at the door, before anything is dialed.

use std::time::Duration;

use crate::error::unsendable::Unsendable;

/// A pool or server cannot be built as configured.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The endpoint is not `host:port`.
    #[error("bad endpoint {endpoint:?}: {cause}")]
    Endpoint {
        /// As it was given.
        endpoint: Box<str>,
        /// What is wrong with it.
        cause: EndpointError,
    },
    /// A number outside its range.
    #[error("{name} is {value}, must be at least {min} and at most {max}")]
    Number {
        /// The setting.
        name: &'static str,
        /// As it was given.
        value: u64,
        /// The least value allowed.
        min: u64,
        /// The greatest value allowed.
        max: u64,
    },
    /// A share or rate outside its range.
    #[error("{name} is {value}, must be at least 0 and at most {max}")]
    Share {
        /// The setting.
        name: &'static str,
        /// As it was given.
        value: f64,
        /// The greatest value allowed.
        max: f64,
    },
    /// A time outside its range.
    #[error("{name} is {value:?}, must be at least {min:?} and at most {max:?}")]
    Time {
        /// The setting.
        name: &'static str,
        /// As it was given.
        value: Duration,
        /// The least value allowed.
        min: Duration,
        /// The greatest value allowed.
        max: Duration,
    },
    /// A [`Framing`](crate::Framing) that strips bytes before the length field without knowing what to send there.
    #[error(
        "only {known} of the {offset} bytes before the length field are known: give all as magic, or keep_header"
    )]
    UnknownHeader {
        /// Bytes before the length field.
        offset: usize,
        /// How many of them the magic gives.
        known: usize,
    },
    /// A heartbeat frame that cannot be sent.
    #[error("heartbeat frame: {0}")]
    Ping(Unsendable),
    /// Not called from within a tokio runtime, in which the pool's tasks could run.
    #[error("there is no tokio runtime here")]
    NoRuntime,
    /// The operating system has no random numbers, which ids are made of.
    #[error("the operating system gave no random numbers")]
    NoRandomness,
}

/// What is wrong with an endpoint's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The text is empty.
    #[error("it is empty")]
    Empty,
    /// There is nothing before the colon.
    #[error("the host is missing")]
    NoHost,
    /// There is no colon, or nothing behind it.
    #[error("the port is missing, write host:port")]
    NoPort,
    /// The port is not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    BadPort,
    /// The host has a blank or a control character in it, perhaps at its end.
    #[error("there is a blank or an invisible character at byte {at}")]
    Blank {
        /// Its place in the endpoint's text, in bytes from 0.
        at: usize,
    },
    /// An IPv6 address without brackets.
    #[error("an IPv6 address needs brackets, write [::1]:7000")]
    NoBrackets,
    /// The host is neither a name (RFC 1123) nor an address.
    #[error("the host is neither a name nor an address")]
    BadHost,
}
