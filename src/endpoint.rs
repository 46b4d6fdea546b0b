//! `host:port`, checked before anything is dialed. A stray blank in a host name is an error that names its place,
//! not a lookup that fails for ever.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use crate::error::config::{ConfigError, EndpointError};

/// Where a server is: a host name or address, and a port.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    text: Arc<str>,
    /// Without brackets.
    host: Arc<str>,
    port: u16,
}

impl Endpoint {
    /// Reads `host:port`, `1.2.3.4:port` or `[v6]:port`.
    ///
    /// # Errors
    /// [`ConfigError::Endpoint`] with what is wrong. The text is not trimmed: a blank is an error.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        split(text)
            .map(|(host, port)| Self { text: text.into(), host: host.into(), port })
            .map_err(|cause| ConfigError::Endpoint { endpoint: text.into(), cause })
    }

    /// The host name or address, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, never 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address, if the host is one: then there is nothing to resolve.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// As it was given.
    pub(crate) fn text(&self) -> &Arc<str> {
        &self.text
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.text)
    }
}

fn split(text: &str) -> Result<(&str, u16), EndpointError> {
    if text.is_empty() {
        return Err(EndpointError::Empty);
    }
    if let Some(at) = text.find(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(EndpointError::Blank { at });
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(EndpointError::BadHost)?;
            host.parse::<Ipv6Addr>().map_err(|_| EndpointError::BadHost)?;
            let port = rest.strip_prefix(':').ok_or(EndpointError::NoPort)?;
            (host, port)
        }
        None if text.parse::<Ipv6Addr>().is_ok() => return Err(EndpointError::NoBrackets),
        None => text.rsplit_once(':').ok_or(EndpointError::NoPort)?,
    };
    if host.is_empty() {
        return Err(EndpointError::NoHost);
    }
    if port.is_empty() {
        return Err(EndpointError::NoPort);
    }
    if host.parse::<IpAddr>().is_err() && !is_name(host) {
        return Err(EndpointError::BadHost);
    }
    match port.parse::<u16>() {
        Ok(number) if number > 0 && port.bytes().all(|b| b.is_ascii_digit()) => Ok((host, number)),
        _ => Err(EndpointError::BadPort),
    }
}

/// A host name by RFC 1123, section 2.1, with the underscore that container names bring.
fn is_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(text: &str) -> EndpointError {
        match Endpoint::parse(text) {
            Err(ConfigError::Endpoint { cause, .. }) => cause,
            other => panic!("{text:?} gave {other:?}"),
        }
    }

    #[test]
    fn good_endpoints_are_taken_apart() {
        for (text, host, port) in [
            ("orders.intranet:7000", "orders.intranet", 7000),
            ("db_1:1", "db_1", 1),
            ("10.0.0.1:65535", "10.0.0.1", 65535),
            ("[::1]:7000", "::1", 7000),
            ("host.:80", "host.", 80),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!((endpoint.host(), endpoint.port()), (host, port));
        }
    }

    #[test]
    fn each_mistake_has_its_own_error() {
        for (text, expected) in [
            ("", EndpointError::Empty),
            (":7000", EndpointError::NoHost),
            ("orders", EndpointError::NoPort),
            ("orders:", EndpointError::NoPort),
            ("orders:0", EndpointError::BadPort),
            ("orders:70000", EndpointError::BadPort),
            ("orders:+80", EndpointError::BadPort),
            ("orders:http", EndpointError::BadPort),
            ("orders :7000", EndpointError::Blank { at: 6 }),
            (" orders:7000", EndpointError::Blank { at: 0 }),
            ("orders:7000\n", EndpointError::Blank { at: 11 }),
            ("or\u{a0}ders:7000", EndpointError::Blank { at: 2 }),
            ("::1", EndpointError::NoBrackets),
            ("fe80::1:7000", EndpointError::NoBrackets),
            ("[::1]", EndpointError::NoPort),
            ("[host]:1", EndpointError::BadHost),
            ("http://orders:7000", EndpointError::BadHost),
            ("-x:1", EndpointError::BadHost),
            ("a..b:1", EndpointError::BadHost),
        ] {
            assert_eq!(cause(text), expected, "{text:?}");
        }
    }
}
