//! Whether a value that a user sets is within its range, and the error that says it is not.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::error::config::ConfigError;

pub(crate) fn time(
    name: &'static str,
    value: Duration,
    range: &RangeInclusive<Duration>,
) -> Result<(), ConfigError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(ConfigError::Time { name, value, min: *range.start(), max: *range.end() })
}

pub(crate) fn number(
    name: &'static str,
    value: u64,
    range: RangeInclusive<u64>,
) -> Result<(), ConfigError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(ConfigError::Number { name, value, min: *range.start(), max: *range.end() })
}

/// Of a whole, from none of it.
pub(crate) fn share(name: &'static str, value: f64, max: f64) -> Result<(), ConfigError> {
    if (0.0..=max).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::Share { name, value, max })
}
