//! Why a server cannot listen.

use std::fmt;
use std::net::SocketAddr;

use crate::error::config::ConfigError;
use crate::error::os::OsError;

/// A server cannot listen.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum BindError {
    /// A setting is out of its range.
    Config(ConfigError),
    /// The name to listen at cannot be resolved.
    Resolve(OsError),
    /// The name to listen at has no address.
    NoAddress,
    /// The operating system refused, most often because something listens there already.
    Os {
        /// The (last) address that could not be had.
        address: SocketAddr,
        /// What the operating system said.
        error: OsError,
    },
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Resolve(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
                write!(f, "cannot listen: the address is no host:port ({})", error.words())
            }
            Self::Resolve(error) => {
                write!(f, "cannot listen, resolving the name failed: {}", error.meaning())
            }
            Self::NoAddress => f.write_str("cannot listen: the name has no address"),
            // To a listener the code says something else than to one who connects.
            Self::Os { address, error } if error.name() == Some("EADDRNOTAVAIL") => {
                write!(
                    f,
                    "cannot listen on {address}: this host has no such address{}",
                    error.codes()
                )
            }
            Self::Os { address, error } => {
                write!(f, "cannot listen on {address}: {}", error.meaning())
            }
        }
    }
}

impl std::error::Error for BindError {
    /// The operating system's error, whose meaning the text has.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Resolve(error) | Self::Os { error, .. } => error.link(),
            Self::Config(_) | Self::NoAddress => None,
        }
    }
}

impl From<ConfigError> for BindError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

// With a number of Linux.
#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn a_server_that_cannot_listen_says_where_and_why() {
        let address = "127.0.0.1:7000".parse().unwrap();
        let error = BindError::Os { address, error: std::io::Error::from_raw_os_error(98).into() };
        assert_eq!(
            error.to_string(),
            "cannot listen on 127.0.0.1:7000: something uses this address and port already \
             (EADDRINUSE 98, WSAEADDRINUSE 10048)"
        );
        let source = error.source().and_then(|source| source.downcast_ref::<OsError>());
        assert_eq!(source.and_then(OsError::code), Some(98));
    }
}
