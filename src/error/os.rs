//! An operating system's error, under its Unix and its Winsock name. The one place that knows the numbers.
//!
//! Raw numbers are matched before [`io::ErrorKind`], because some of them (`EMFILE`, `ENOPROTOOPT`)
//! have no kind of their own.

use std::fmt;
use std::io;
use std::sync::Arc;

/// An error of the operating system: comparable, cheap to clone, and readable on every platform.
///
/// Its text has the plain words first and then both names of the code, for example
/// `connection reset by the peer (ECONNRESET 104, WSAECONNRESET 10054)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsError {
    code: Option<i32>,
    kind: io::ErrorKind,
    /// Only where there is no code: a resolver's answer, an error made by a wrapping transport.
    text: Option<Arc<str>>,
}

impl OsError {
    /// The raw number that the operating system gave, if it gave one.
    pub fn code(&self) -> Option<i32> {
        self.code
    }

    /// The standard library's kind. Some codes have none of their own; see [`OsError::name`].
    pub fn kind(&self) -> io::ErrorKind {
        self.kind
    }

    /// The Unix name of the error (`"ECONNRESET"`), on every platform, if it is one that sockets give.
    pub fn name(&self) -> Option<&'static str> {
        self.known().map(|known| known.unix)
    }

    fn known(&self) -> Option<&'static Known> {
        match self.code {
            Some(code) => KNOWN.iter().find(|known| known.native_code() == code),
            None => None,
        }
        .or_else(|| KNOWN.iter().find(|known| known.kind == Some(self.kind)))
    }
}

impl From<&io::Error> for OsError {
    fn from(error: &io::Error) -> Self {
        let code = error.raw_os_error();
        let text = code.is_none().then(|| error.to_string().into());
        Self { code, kind: error.kind(), text }
    }
}

impl From<io::Error> for OsError {
    fn from(error: io::Error) -> Self {
        Self::from(&error)
    }
}

impl From<io::ErrorKind> for OsError {
    fn from(kind: io::ErrorKind) -> Self {
        Self { code: None, kind, text: None }
    }
}

impl fmt::Display for OsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.known(), &self.text, self.code) {
            (_, Some(text), _) => f.write_str(text),
            (Some(known), None, _) => known.fmt(f),
            (None, None, Some(code)) => io::Error::from_raw_os_error(code).fmt(f),
            (None, None, None) => self.kind.fmt(f),
        }
    }
}

impl std::error::Error for OsError {}

/// One error under both of its names.
#[derive(Debug)]
struct Known {
    words: &'static str,
    unix: &'static str,
    /// The number on Linux.
    unix_code: i32,
    winsock: &'static str,
    winsock_code: i32,
    /// `None` where the standard library lumps the code together with others.
    kind: Option<io::ErrorKind>,
}

impl Known {
    /// The number on this platform; -1 on those whose numbers this table does not list (there the kind decides).
    fn native_code(&self) -> i32 {
        if cfg!(any(target_os = "linux", target_os = "android")) {
            self.unix_code
        } else if cfg!(windows) {
            self.winsock_code
        } else {
            -1
        }
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { words, unix, unix_code, winsock, winsock_code, .. } = self;
        write!(f, "{words} ({unix} {unix_code}, {winsock} {winsock_code})")
    }
}

const fn known(
    words: &'static str,
    unix: (&'static str, i32),
    winsock: (&'static str, i32),
    kind: Option<io::ErrorKind>,
) -> Known {
    Known {
        words,
        unix: unix.0,
        unix_code: unix.1,
        winsock: winsock.0,
        winsock_code: winsock.1,
        kind,
    }
}

/// From `errno(3)` with the numbers of `asm-generic/errno.h`, and the Windows Sockets error codes.
static KNOWN: [Known; 18] = {
    use io::ErrorKind as Kind;
    [
        known(
            "connection reset by the peer",
            ("ECONNRESET", 104),
            ("WSAECONNRESET", 10054),
            Some(Kind::ConnectionReset),
        ),
        known(
            "connection aborted on this host",
            ("ECONNABORTED", 103),
            ("WSAECONNABORTED", 10053),
            Some(Kind::ConnectionAborted),
        ),
        known(
            "the peer had closed before this was written",
            ("EPIPE", 32),
            ("WSAESHUTDOWN", 10058),
            Some(Kind::BrokenPipe),
        ),
        known(
            "the peer's host stopped answering",
            ("ETIMEDOUT", 110),
            ("WSAETIMEDOUT", 10060),
            Some(Kind::TimedOut),
        ),
        known(
            "connection refused, nothing listens there",
            ("ECONNREFUSED", 111),
            ("WSAECONNREFUSED", 10061),
            Some(Kind::ConnectionRefused),
        ),
        known(
            "no route to the host",
            ("EHOSTUNREACH", 113),
            ("WSAEHOSTUNREACH", 10065),
            Some(Kind::HostUnreachable),
        ),
        known(
            "the network is unreachable",
            ("ENETUNREACH", 101),
            ("WSAENETUNREACH", 10051),
            Some(Kind::NetworkUnreachable),
        ),
        known(
            "the network is down",
            ("ENETDOWN", 100),
            ("WSAENETDOWN", 10050),
            Some(Kind::NetworkDown),
        ),
        known(
            "no local port or address is free for this destination",
            ("EADDRNOTAVAIL", 99),
            ("WSAEADDRNOTAVAIL", 10049),
            Some(Kind::AddrNotAvailable),
        ),
        known(
            "the address is in use",
            ("EADDRINUSE", 98),
            ("WSAEADDRINUSE", 10048),
            Some(Kind::AddrInUse),
        ),
        known("the host is down", ("EHOSTDOWN", 112), ("WSAEHOSTDOWN", 10064), None),
        known(
            "this process has no file descriptor left",
            ("EMFILE", 24),
            ("WSAEMFILE", 10024),
            None,
        ),
        known(
            "this machine has no file descriptor left",
            ("ENFILE", 23),
            ("WSAEMFILE", 10024),
            None,
        ),
        known("no buffer space left", ("ENOBUFS", 105), ("WSAENOBUFS", 10055), None),
        known("protocol not available", ("ENOPROTOOPT", 92), ("WSAENOPROTOOPT", 10042), None),
        known("permission denied", ("EACCES", 13), ("WSAEACCES", 10013), None),
        known("forbidden by a local firewall rule", ("EPERM", 1), ("WSAEACCES", 10013), None),
        known(
            "the socket is not connected",
            ("ENOTCONN", 107),
            ("WSAENOTCONN", 10057),
            Some(Kind::NotConnected),
        ),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn codes_without_a_kind_are_known_by_number() {
        let emfile = OsError::from(io::Error::from_raw_os_error(24));
        assert_eq!(emfile.name(), Some("EMFILE"));
        assert_eq!(
            emfile.to_string(),
            "this process has no file descriptor left (EMFILE 24, WSAEMFILE 10024)"
        );
    }

    #[test]
    fn a_kind_without_a_number_has_its_names_all_the_same() {
        let reset = OsError::from(io::ErrorKind::ConnectionReset);
        assert_eq!(
            reset.to_string(),
            "connection reset by the peer (ECONNRESET 104, WSAECONNRESET 10054)"
        );
    }

    #[test]
    fn a_text_without_a_number_is_kept() {
        let error = OsError::from(io::Error::other("failed to lookup address information"));
        assert_eq!(error.to_string(), "failed to lookup address information");
        assert_eq!(error.code(), None);
    }
}
