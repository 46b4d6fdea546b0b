//! The one place that knows errno, Winsock and resolver numbers. `docs/when-connections-die.md` explains each name.
//!
//! Raw numbers are matched before [`ErrorKind`], because some of them (`EMFILE`, `ENOPROTOOPT`) have no kind of their own.
//!
//! No words here are those that a system has for the same error: both stand in one chain of errors.

use std::fmt;
use std::io::ErrorKind;

/// One error under both of its names.
#[derive(Debug)]
pub(super) struct Known {
    /// What it means, as a sentence of its own.
    pub(super) words: &'static str,
    /// What it does to a live connection, and the reason, where that does not say it. Where it is not told apart, the
    /// connection failed, and the words say why.
    pub(super) fate: Option<(&'static str, &'static str)>,
    pub(super) unix: &'static str,
    /// The number on Linux, which for the resolver's names nobody gets to see.
    unix_code: Option<i32>,
    pub(super) winsock: &'static str,
    pub(super) winsock_code: i32,
    /// `None` where the standard library lumps the code together with others.
    pub(super) kind: Option<ErrorKind>,
    /// The ends of the texts by which C libraries call it, where the standard library keeps nothing else.
    texts: &'static [&'static str],
}

impl Known {
    /// The number on this platform; `None` on those whose numbers this table does not list (there the kind decides).
    pub(super) fn native_code(&self) -> Option<i32> {
        if cfg!(any(target_os = "linux", target_os = "android")) {
            self.unix_code
        } else if cfg!(windows) {
            Some(self.winsock_code)
        } else {
            None
        }
    }

    pub(super) fn is_text(&self, text: &str) -> bool {
        self.texts.iter().any(|end| text.ends_with(end))
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.unix)?;
        if let Some(code) = self.unix_code {
            write!(f, " {code}")?;
        }
        write!(f, ", {} {}", self.winsock, self.winsock_code)
    }
}

const fn known(
    words: &'static str,
    (unix, unix_code): (&'static str, i32),
    (winsock, winsock_code): (&'static str, i32),
    kind: Option<ErrorKind>,
) -> Known {
    let unix_code = Some(unix_code);
    Known { words, fate: None, unix, unix_code, winsock, winsock_code, kind, texts: &[] }
}

/// What a resolver says.
const fn unresolved(
    words: &'static str,
    unix: &'static str,
    (winsock, winsock_code): (&'static str, i32),
    texts: &'static [&'static str],
) -> Known {
    Known { words, fate: None, unix, unix_code: None, winsock, winsock_code, kind: None, texts }
}

impl Known {
    const fn kills(self, fate: &'static str, reason: &'static str) -> Self {
        Self { fate: Some((fate, reason)), ..self }
    }
}

/// From `errno(3)` with the numbers of `asm-generic/errno.h`, from the Windows Sockets error codes, and from
/// `getaddrinfo(3)` with the texts of glibc, musl and macOS.
pub(super) static KNOWN: [Known; 22] = [
    known(
        "the peer reset the connection",
        ("ECONNRESET", 104),
        ("WSAECONNRESET", 10054),
        Some(ErrorKind::ConnectionReset),
    )
    .kills("was reset by the peer", ""),
    known(
        "this host aborted the connection",
        ("ECONNABORTED", 103),
        ("WSAECONNABORTED", 10053),
        Some(ErrorKind::ConnectionAborted),
    )
    .kills("was aborted on this host", ""),
    known(
        "the peer had closed before this was written",
        ("EPIPE", 32),
        ("WSAESHUTDOWN", 10058),
        Some(ErrorKind::BrokenPipe),
    )
    .kills("could not be written to", "the peer had closed it"),
    known(
        "the peer's host did not answer",
        ("ETIMEDOUT", 110),
        ("WSAETIMEDOUT", 10060),
        Some(ErrorKind::TimedOut),
    )
    .kills("timed out", "the peer's host stopped acknowledging, or took nothing more"),
    known(
        "nothing listens there",
        ("ECONNREFUSED", 111),
        ("WSAECONNREFUSED", 10061),
        Some(ErrorKind::ConnectionRefused),
    )
    .kills("was refused", "the peer's host, or a firewall, says that nothing is there any more"),
    known(
        "the host cannot be reached",
        ("EHOSTUNREACH", 113),
        ("WSAEHOSTUNREACH", 10065),
        Some(ErrorKind::HostUnreachable),
    )
    .kills("could no longer reach the host", ""),
    known(
        "there is no way to the host's network",
        ("ENETUNREACH", 101),
        ("WSAENETUNREACH", 10051),
        Some(ErrorKind::NetworkUnreachable),
    )
    .kills("could no longer reach the host's network", ""),
    known(
        "this host's network interface is down",
        ("ENETDOWN", 100),
        ("WSAENETDOWN", 10050),
        Some(ErrorKind::NetworkDown),
    )
    .kills("lost its network", "the interface of this host went down"),
    known(
        "the host does not answer in its own network",
        ("EHOSTDOWN", 112),
        ("WSAEHOSTDOWN", 10064),
        None,
    )
    .kills("could no longer reach the host", "it does not answer in its own network"),
    known(
        "no local port or address is free for this destination",
        ("EADDRNOTAVAIL", 99),
        ("WSAEADDRNOTAVAIL", 10049),
        Some(ErrorKind::AddrNotAvailable),
    ),
    known(
        "something uses this address and port already",
        ("EADDRINUSE", 98),
        ("WSAEADDRINUSE", 10048),
        Some(ErrorKind::AddrInUse),
    ),
    known("this process has no file descriptor left", ("EMFILE", 24), ("WSAEMFILE", 10024), None),
    known("this machine has no file descriptor left", ("ENFILE", 23), ("WSAEMFILE", 10024), None),
    known(
        "this machine has no memory left for sockets",
        ("ENOBUFS", 105),
        ("WSAENOBUFS", 10055),
        None,
    ),
    known(
        "TCP, or an option of it, is not to be had there",
        ("ENOPROTOOPT", 92),
        ("WSAENOPROTOOPT", 10042),
        None,
    ),
    known("this process is not allowed to", ("EACCES", 13), ("WSAEACCES", 10013), None),
    known("a firewall rule of this host forbids it", ("EPERM", 1), ("WSAEACCES", 10013), None),
    known(
        "the socket has no connection",
        ("ENOTCONN", 107),
        ("WSAENOTCONN", 10057),
        Some(ErrorKind::NotConnected),
    ),
    unresolved(
        "no name server knows this name",
        "EAI_NONAME",
        ("WSAHOST_NOT_FOUND", 11001),
        &[
            "Name or service not known",
            "Name does not resolve",
            "nodename nor servname provided, or not known",
        ],
    ),
    unresolved(
        "no name server gave an answer, one may the next time",
        "EAI_AGAIN",
        ("WSATRY_AGAIN", 11002),
        &["Temporary failure in name resolution", "Try again"],
    ),
    unresolved(
        "the name server failed, and will again",
        "EAI_FAIL",
        ("WSANO_RECOVERY", 11003),
        &["Non-recoverable failure in name resolution", "Non-recoverable error"],
    ),
    unresolved(
        "the name exists, but has no address",
        "EAI_NODATA",
        ("WSANO_DATA", 11004),
        &[
            "No address associated with hostname",
            "No address associated with nodename",
            "Name has no usable address",
        ],
    ),
];
