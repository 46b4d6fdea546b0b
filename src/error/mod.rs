//! What can go wrong, told truthfully. This is the ground: nothing here imports anything of ours from above.
//!
//! ```text
//! CallError ── outcome: did it run?  NotSent · Refused · Indeterminate · Remote
//!     │ cause
//!     ├── Lost ─────────── Loss          a live connection died, and why
//!     ├── Unavailable ──── Outage        nothing is ready: attempts, since when
//!     │                      └── ConnectError   the last attempt: phase and cause
//!     ├── Refused, ErrorReply            the server's own words
//!     └── TimedOut, Overloaded, ...
//! ```

pub(crate) mod call;
pub(crate) mod config;
pub(crate) mod connect;
pub(crate) mod instance;
pub(crate) mod loss;
pub(crate) mod os;
pub(crate) mod violation;
