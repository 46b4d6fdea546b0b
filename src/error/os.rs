//! An operating system's error, and what it means. The numbers are in [`known`]'s table.
//!
//! An [`OsError`] displays like the [`io::Error`] that it was made of, in the system's own words. What steadfast makes
//! of it, with both names of the code, is its [`meaning`](OsError::meaning); that is what goes into our own lines.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::error::os::known::{KNOWN, Known};

mod known;

/// An error of the operating system: comparable, cheap to clone, and explained on every platform.
///
/// It displays in the system's own words (`Connection reset by peer (os error 104)`); [`meaning`](Self::meaning) has
/// ours. In a chain of errors it is the last link: [`CallError`](crate::CallError) and the others lead to it by
/// [`source`](Error::source), where it can be downcast.
///
/// # Names that cannot be resolved
/// Elsewhere than on Windows the standard library hides the resolver's code (`EAI_NONAME`, `EAI_AGAIN`, ...) and keeps
/// its text, so [`code`](Self::code) is `None`; the [`name`](Self::name) is told from the texts of the usual C
/// libraries, and is `None` for others.
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

    /// The Unix name of the error (`"ECONNRESET"`), on every platform, if it is one that sockets or resolvers give.
    pub fn name(&self) -> Option<&'static str> {
        self.known().map(|known| known.unix)
    }

    /// What it means, and both names of the code:
    /// `the peer reset the connection (ECONNRESET 104, WSAECONNRESET 10054)`.
    pub fn meaning(&self) -> impl fmt::Display + '_ {
        Meaning(self)
    }

    /// The meaning without the codes.
    pub(crate) fn words(&self) -> Cow<'_, str> {
        match (self.explained(), &self.text, self.code) {
            (Some(known), ..) => known.words.into(),
            (None, Some(text), _) => (&**text).into(),
            (None, None, Some(code)) => {
                let text = io::Error::from_raw_os_error(code).to_string();
                text.strip_suffix(&format!(" (os error {code})")).unwrap_or(&text).to_owned().into()
            }
            (None, None, None) => self.kind.to_string().into(),
        }
    }

    /// The codes alone, with a blank before them; nothing if there are none.
    pub(crate) fn codes(&self) -> Codes<'_> {
        Codes(self)
    }

    /// What it does to a live connection (`was reset by the peer`), and the reason, where that does not say it.
    pub(crate) fn fate(&self) -> (&'static str, Option<Cow<'_, str>>) {
        match self.explained().and_then(|known| known.fate) {
            Some((fate, "")) => (fate, None),
            Some((fate, reason)) => (fate, Some(reason.into())),
            None => ("failed", Some(self.words())),
        }
    }

    /// Itself as the next link of a chain, below a text that has its meaning; nothing if that text has its own words.
    pub(crate) fn link(&self) -> Option<&(dyn Error + 'static)> {
        match (self.code, &self.text) {
            (Some(_), _) => Some(self),
            (None, Some(_)) => self.explained().map(|_| self as _),
            (None, None) => None,
        }
    }

    fn known(&self) -> Option<&'static Known> {
        let with = |wanted: &dyn Fn(&Known) -> bool| KNOWN.iter().find(|known| wanted(known));
        match (self.code, &self.text) {
            (Some(code), _) => with(&|known| known.native_code() == Some(code)),
            (None, Some(text)) => with(&|known| known.is_text(text)),
            (None, None) => None,
        }
        .or_else(|| with(&|known| known.kind == Some(self.kind)))
    }

    /// The entry that says it better than its own text.
    fn explained(&self) -> Option<&'static Known> {
        self.known().filter(|known| self.text.as_ref().is_none_or(|text| known.is_text(text)))
    }
}

impl From<&io::Error> for OsError {
    fn from(error: &io::Error) -> Self {
        let code = error.raw_os_error();
        let (kind, text) = (error.kind(), error.to_string());
        let says_more = code.is_none() && text != kind.to_string();
        Self { code, kind, text: says_more.then(|| text.into()) }
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

impl From<&OsError> for io::Error {
    /// With the same code, or else the same kind and text.
    fn from(error: &OsError) -> Self {
        match (error.code, &error.text) {
            (Some(code), _) => Self::from_raw_os_error(code),
            (None, Some(text)) => Self::new(error.kind, &**text),
            (None, None) => error.kind.into(),
        }
    }
}

impl fmt::Display for OsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.known()) {
            // Its words are in our own line already, because there is nothing better.
            (Some(code), None) => write!(f, "os error {code}"),
            _ => io::Error::from(self).fmt(f),
        }
    }
}

impl Error for OsError {}

/// See [`OsError::meaning`].
struct Meaning<'a>(&'a OsError);

impl fmt::Display for Meaning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0.words(), self.0.codes())
    }
}

/// See [`OsError::codes`].
pub(crate) struct Codes<'a>(&'a OsError);

impl fmt::Display for Codes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.known(), self.0.code) {
            (Some(known), _) => write!(f, " ({known})"),
            (None, Some(code)) => write!(f, " (code {code})"),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
