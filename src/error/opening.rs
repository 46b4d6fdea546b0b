//! The first bytes that a peer sent, to tell what it is when it is not what was expected.

use std::fmt;

/// So many are kept.
const KEPT: usize = 16;

/// How a peer began: its first bytes, at most 16. Displays them escaped, and what they look like if that is known:
/// `"HTTP/1.1 400 Bad", as HTTP does`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    bytes: [u8; KEPT],
    length: u8,
}

impl Opening {
    /// Keeps what it needs of what came.
    pub(crate) fn of(came: &[u8]) -> Self {
        let mut bytes = [0; KEPT];
        let length = came.len().min(KEPT);
        bytes[..length].copy_from_slice(&came[..length]);
        Self { bytes, length: length as u8 }
    }

    /// The bytes as they came.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// Whether it is known what begins so.
    pub(crate) fn is_known(&self) -> bool {
        self.guess().is_some()
    }

    /// What begins so.
    fn guess(&self) -> Option<&'static str> {
        match self.as_bytes() {
            [b'H', b'T', b'T', b'P', b'/', ..] => Some("HTTP"),
            [b'S', b'S', b'H', b'-', ..] => Some("SSH"),
            // An alert, which is what a server makes of a first record that is none (RFC 8446, section 5.1).
            [0x15, 0x03, ..] => Some("TLS"),
            _ => None,
        }
    }
}

impl fmt::Display for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())?;
        self.guess().map_or(Ok(()), |name| write!(f, ", as {name} does"))
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opening(\"{}\")", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_is_escaped_cut_and_named_where_it_is_known() {
        for (came, text) in [
            (&b"HTTP/1.1 400 Bad Request\r\n"[..], r#""HTTP/1.1 400 Bad", as HTTP does"#),
            (b"SSH-2.0-x\r\n", r#""SSH-2.0-x\r\n", as SSH does"#),
            (&[0x15, 3, 1, 0, 2, 2, 70], r#""\x15\x03\x01\x00\x02\x02F", as TLS does"#),
            (b"\"\x1b", r#""\"\x1b""#),
        ] {
            assert_eq!(Opening::of(came).to_string(), text);
        }
        assert_eq!(Opening::of(&[7; 20]).as_bytes(), [7; 16]);
    }
}
