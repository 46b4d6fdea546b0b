//! What a person reads, of every kind of error, and what a chain of errors has below it.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::error::answer::*;
use crate::error::call::*;
use crate::error::close::*;
use crate::error::config::*;
use crate::error::connect::*;
use crate::error::instance::InstanceId;
use crate::error::lease::LeaseCause;
use crate::error::loss::*;
use crate::error::opening::Opening;
use crate::error::os::OsError;
use crate::error::outage::*;
use crate::error::tcp_info::*;
use crate::error::unsendable::{Unframeable, Unsendable};
use crate::error::violation::Violation;

mod chains;
mod lines;
mod page;

const EPIPE: i32 = 32;
const ECONNRESET: i32 = 104;
const ETIMEDOUT: i32 = 110;
const ECONNREFUSED: i32 = 111;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn os(code: i32) -> OsError {
    io::Error::from_raw_os_error(code).into()
}

fn too_long(came: Opening) -> Violation {
    Violation::FrameTooLong { length: 0x4854_5450, limit: 65_600, came }
}

fn violation() -> Violation {
    Violation::UnknownKind { kind: 0x55 }
}

fn loss(cause: LossCause) -> Arc<Loss> {
    Arc::new(Loss {
        endpoint: "orders:7000".into(),
        connection: 3,
        age: ms(60_000),
        silent_for: ms(3200),
        bytes_in: 120,
        frames_in: 7,
        cut_off: true,
        bytes_out: 26,
        frames_out: 1,
        reading: Met::EndOfFile,
        writing: Met::Error(os(EPIPE)),
        ..Loss::example(cause)
    })
}

fn connect(phase: Phase, cause: ConnectCause) -> Arc<ConnectError> {
    Arc::new(ConnectError {
        phase,
        cause,
        endpoint: "orders:7000".into(),
        address: (phase != Phase::Resolve).then(|| ([10, 0, 0, 1], 7000).into()),
        took: ms(4),
    })
}

fn outage(began: Began, last: Option<Arc<ConnectError>>) -> Arc<Outage> {
    let attempts = if last.is_some() { 5 } else { 0 };
    Arc::new(Outage {
        endpoint: "orders:7000".into(),
        lasted: ms(12_345),
        attempts,
        last,
        began,
        connected: None,
        next_in: None,
    })
}

fn goodbye(code: u32, text: &str, retry_after: Option<Duration>) -> GoAway {
    GoAway { code, accepted: 1, retry_after, text: text.into() }
}

fn call(outcome: Outcome, cause: CallCause, stopped: Stopped, attempts: u32) -> CallError {
    CallError::new((outcome, cause), stopped, attempts, ms(1234), "orders:7000".into())
}

/// Fails once.
fn failed(outcome: Outcome, cause: CallCause) -> CallError {
    call(outcome, cause, Stopped::Final, 1)
}

/// A hook's error with one below it.
#[derive(Debug, thiserror::Error)]
#[error("logging in failed")]
struct LogIn(#[source] io::Error);

fn hook(error: impl Error + Send + Sync + 'static) -> ConnectCause {
    ConnectCause::Hook(HookError::from(Box::<dyn Error + Send + Sync>::from(error)))
}

fn http() -> ConnectCause {
    let opening = Opening::of(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    ConnectCause::Violation { violation: too_long(opening), opening }
}
