//! Tests that need what not every machine has: they say so and pass, unless `STEADFAST_DEMAND_LAB` is set.

use std::io::Write as _;

/// Whether nothing may be missing.
pub(crate) fn all_is_demanded() -> bool {
    std::env::var_os("STEADFAST_DEMAND_LAB").is_some()
}

/// What is missing may be installed.
pub(crate) fn skip_unless_demanded(why: &str) {
    assert!(!all_is_demanded(), "{why}");
    skip(why);
}

/// There is no such thing on this system.
pub(crate) fn skip(why: &str) {
    // Not with `eprintln`, which the test harness would swallow.
    let _ = writeln!(std::io::stderr(), "SKIPPED, {why}");
}
