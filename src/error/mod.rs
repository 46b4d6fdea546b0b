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
//!
//! # One line, and what is below it
//!
//! `error.to_string()` is the whole story in one line: what happened, why, where, for how long, which code, and whether
//! the call may have run. That is what ends up in a log, where mostly nobody walks a chain of errors.
//!
//! So [`source`](std::error::Error::source) goes on below what the line has said. The parts between, a [`loss::Loss`] or
//! an [`outage::Outage`], are reached by matching on `cause()`, not along the chain. What is left for the chain is the
//! operating system's own error, [`os::OsError`], to be downcast: the line has its meaning in our words and both names of
//! its code; it displays itself in the system's words, as the [`std::io::Error`] did that it was made of. `{error}:
//! {source}`, as `anyhow` and `eyre` print, says nothing twice.
//!
//! The standard library's rule is that a cause is either in the text or the source, not both. hyper 1 and reqwest follow
//! it by printing only their own level (`error sending request`), and their users' logs lose the cause until somebody
//! adds a chain printer. tokio-postgres prints the cause and returns it as well, so that chains say it twice. quinn does
//! both by variant: `connection lost` with a source, and errors that are transparent. Ours is the rule's other half.
//!
//! Where not everything can hold, the line wins:
//! - An error without a code, made by a wrapping transport or a user's hook, has only its own text, which is in the line.
//!   It is not in the chain, which goes on below it; `cause()` has it.
//! - A code that no table here knows has the system's words in the line, so in the chain it is the bare number.

pub(crate) mod answer;
pub(crate) mod bind;
pub(crate) mod call;
pub(crate) mod close;
pub(crate) mod config;
pub(crate) mod connect;
pub(crate) mod instance;
pub(crate) mod lease;
pub(crate) mod loss;
pub(crate) mod opening;
pub(crate) mod os;
pub(crate) mod outage;
pub(crate) mod tcp_info;
pub(crate) mod text;
pub(crate) mod unsendable;
pub(crate) mod violation;

// With the numbers of Linux.
#[cfg(all(test, target_os = "linux"))]
mod tests;
