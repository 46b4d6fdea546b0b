//! Pieces of the texts of errors: durations, places and peers' words, as a person reads them.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// A duration for people: three digits are enough.
#[derive(Clone, Copy)]
pub(crate) struct Rounded(pub(crate) Duration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = (self.0.as_secs_f64() * 1000.0).round() as u64;
        match millis {
            60_000.. => write!(f, "{} min {} s", millis / 60_000, millis % 60_000 / 1000),
            1000.. => write!(f, "{}.{} s", millis / 1000, millis % 1000 / 100),
            _ => write!(f, "{millis} ms"),
        }
    }
}

/// An endpoint as it was configured, and the address behind it where that says more.
pub(crate) struct At<'a> {
    pub(crate) endpoint: &'a str,
    pub(crate) address: Option<SocketAddr>,
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.endpoint)?;
        match self.address.map(|address| address.to_string()) {
            Some(address) if address != self.endpoint => write!(f, " [{address}]"),
            _ => Ok(()),
        }
    }
}

/// A peer's text on one line: what would break it, or a terminal, is escaped.
#[derive(Clone, Copy)]
pub(crate) struct OneLine<'a>(pub(crate) &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c.is_control() {
            true => write!(f, "{}", c.escape_default()),
            false => write!(f, "{c}"),
        })
    }
}

/// `1 attempt`, `2 attempts`.
pub(crate) struct Count<N>(pub(crate) N, pub(crate) &'static str);

impl<N: fmt::Display + PartialEq + From<u8>> fmt::Display for Count<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number, noun) = self;
        write!(f, "{number} {noun}{}", if *number == N::from(1) { "" } else { "s" })
    }
}

/// A server's wish for the time until the next attempt, if it has one.
pub(crate) struct RetryAfter(pub(crate) Option<Duration>);

impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(wait) => write!(f, ", and asks to be left alone for {}", Rounded(wait)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_to_what_a_person_needs() {
        for (millis, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1000, "1.0 s"),
            (59_999, "59.9 s"),
            (119_700, "1 min 59 s"),
            (3_600_000, "60 min 0 s"),
        ] {
            assert_eq!(Rounded(Duration::from_millis(millis)).to_string(), text);
        }
        assert_eq!(Rounded(Duration::from_micros(999_600)).to_string(), "1.0 s");
    }

    #[test]
    fn a_peers_text_stays_on_one_line() {
        assert_eq!(OneLine("a\nb\u{1b}c ä").to_string(), "a\\nb\\u{1b}c ä");
    }

    #[test]
    fn one_is_not_many() {
        let counts = [0u32, 1, 2].map(|number| Count(number, "attempt").to_string());
        assert_eq!(counts, ["0 attempts", "1 attempt", "2 attempts"]);
    }
}
