//! How many connections a pool keeps, and each of them for how long: plain values, checked once at the door.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::error::config::ConfigError;
use crate::range::{number, time};

/// How many connections a pool keeps, and each of them for how long. Where only the number is to be said, `4` and `1..=4`
/// will do.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use steadfast::Connections;
///
/// // One is kept warm; up to four while there is work for them, and for 30 s after it. None grows older than an hour.
/// let connections = Connections::between(1..=4)
///     .idle_limit(Duration::from_secs(30))
///     .lifetime(Duration::from_secs(3600));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    pub(crate) min: usize,
    pub(crate) max: usize,
    idle_limit: Limit,
    lifetime: Limit,
}

/// A limit in time, if anything is said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Unsaid,
    Never,
    After(Duration),
}

impl Connections {
    /// At least, and at most. 0 to 10,000 at least, default 1; 1 to 10,000 at most, default 1.
    ///
    /// The first are made at once and kept alive. More are made, one after the other, while calls wait because those
    /// that are ready have no room ([`Limits::in_flight`](crate::Limits::in_flight)). With 0 at least nothing is dialed
    /// before a call needs it.
    ///
    /// Too few at least: calls after a quiet time wait for a connection to be made, with 0 the first of all. Too many:
    /// connections that nobody uses, with their heartbeats, and memory and descriptors on the server.
    /// Too few at most: one lost packet holds up all calls behind it. Too many: so many more for the server in a rush.
    #[must_use]
    pub fn between(range: RangeInclusive<usize>) -> Self {
        let (min, max) = (*range.start(), *range.end());
        Self { min, max, idle_limit: Limit::Unsaid, lifetime: Limit::Unsaid }
    }

    /// A connection beyond the least number is closed, with FIN, when it has carried no call for so long: for 80 to 125 % of
    /// it, drawn for each connection, so that they do not all go at once. 100 ms to 24 h, default 5 min.
    ///
    /// What the server pushes is no call: who lives on pushes alone keeps one connection at least.
    ///
    /// Too little: connections are closed between two rushes and made again. Too much: the server holds connections
    /// that nobody needs any more.
    #[must_use]
    pub fn idle_limit(self, limit: Duration) -> Self {
        Self { idle_limit: Limit::After(limit), ..self }
    }

    /// Connections that were made on demand are kept for good.
    #[must_use]
    pub fn without_idle_limit(self) -> Self {
        Self { idle_limit: Limit::Never, ..self }
    }

    /// A connection is replaced when it is so old: at 80 to 100 % of it, drawn for each connection, so that those that were
    /// made together do not go together. The next one is ready before the old one takes no more calls; the old one
    /// finishes what it has, and is closed with FIN. 1 s to 30 days. By default there is no such limit: heartbeats and
    /// reconnecting need none.
    ///
    /// It is for what stands between: behind a name or a load balancer that stands for several servers, connections
    /// stay where they were made, and a server that was added gets no calls from pools that are up; and some firewalls cut
    /// flows by their age.
    ///
    /// Too little: handshakes and log-ins all the time, and where several servers answer, pools that change between them.
    /// Too much: a server that was added waits so long for its share.
    #[must_use]
    pub fn lifetime(self, limit: Duration) -> Self {
        Self { lifetime: Limit::After(limit), ..self }
    }

    /// Connections may grow as old as they like. The default.
    #[must_use]
    pub fn without_lifetime(self) -> Self {
        Self { lifetime: Limit::Never, ..self }
    }

    /// These, and of what they do not say, those before.
    pub(crate) fn over(self, before: Self) -> Self {
        Self {
            idle_limit: self.idle_limit.or(before.idle_limit),
            lifetime: self.lifetime.or(before.lifetime),
            ..self
        }
    }

    pub(crate) fn idle_after(&self) -> Option<Duration> {
        self.idle_limit.time_or(Some(DEFAULT_IDLE_LIMIT))
    }

    pub(crate) fn old_after(&self) -> Option<Duration> {
        self.lifetime.time_or(None)
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        number("connections min", self.min as u64, 0..=10_000)?;
        number("connections max", self.max as u64, self.min.max(1) as u64..=10_000)?;
        if let Some(limit) = self.idle_after() {
            time("connections idle_limit", limit, &(Duration::from_millis(100)..=DAY))?;
        }
        if let Some(limit) = self.old_after() {
            time("connections lifetime", limit, &(Duration::from_secs(1)..=30 * DAY))?;
        }
        Ok(())
    }
}

impl Limit {
    fn or(self, before: Self) -> Self {
        if self == Self::Unsaid { before } else { self }
    }

    fn time_or(self, default: Option<Duration>) -> Option<Duration> {
        match self {
            Self::Unsaid => default,
            Self::Never => None,
            Self::After(limit) => Some(limit),
        }
    }
}

impl From<usize> for Connections {
    fn from(count: usize) -> Self {
        Self::between(count..=count)
    }
}

impl From<RangeInclusive<usize>> for Connections {
    fn from(range: RangeInclusive<usize>) -> Self {
        Self::between(range)
    }
}

impl Default for Connections {
    fn default() -> Self {
        Self::from(1)
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);
const DEFAULT_IDLE_LIMIT: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_stays_as_it_was() {
        let secs = Duration::from_secs;
        let before = Connections::between(1..=4).idle_limit(secs(7)).lifetime(secs(60));
        let limits = |connections: Connections| (connections.idle_after(), connections.old_after());
        for (said, expected) in [
            (Connections::from(2), (Some(secs(7)), Some(secs(60)))),
            (Connections::from(0..=9).without_lifetime(), (Some(secs(7)), None)),
            (Connections::from(2).without_idle_limit(), (None, Some(secs(60)))),
            (Connections::from(2).idle_limit(secs(1)), (Some(secs(1)), Some(secs(60)))),
        ] {
            let now = said.over(before);
            assert_eq!(limits(now), expected, "{said:?}");
            assert_eq!((now.min, now.max), (said.min, said.max));
        }
        assert_eq!(limits(Connections::default()), (Some(DEFAULT_IDLE_LIMIT), None));
    }

    #[test]
    fn sizes_and_times_out_of_their_range_are_named() {
        for (connections, text) in [
            (0.into(), "connections max is 0, must be at least 1 and at most 10000"),
            (
                Connections { min: 4, ..2.into() },
                "connections max is 2, must be at least 4 and at most 10000",
            ),
            (20_000.into(), "connections min is 20000, must be at least 0 and at most 10000"),
            (
                Connections::from(1).idle_limit(Duration::ZERO),
                "connections idle_limit is 0ns, must be at least 100ms and at most 86400s",
            ),
            (
                Connections::from(1).lifetime(Duration::MAX),
                "connections lifetime is 18446744073709551615.999999999s, must be at least 1s and at most 2592000s",
            ),
        ] {
            assert_eq!(connections.check().map_err(|error| error.to_string()), Err(text.into()));
        }
        for fine in [0..=1, 0..=10_000, 3..=3] {
            assert_eq!(Connections::from(fine).check(), Ok(()));
        }
    }
}
