//! What calls cost in counts that do not depend on how busy the machine is: instructions, system calls and allocations of both
//! ends together, in one thread, over loopback. Fails where one is beyond its bound. `cargo bench --bench counts`, on Linux, with
//! valgrind and strace.
//!
//! Counted are 10,000 calls: what a process with 1,000 of them counts is taken off what one with 11,000 does.

use std::alloc::System;
use std::error::Error;
use std::ffi::OsString;
use std::process::{Command, ExitCode, Output};
use std::time::Duration;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use steadfast::{Bytes, Call, CallError, Pool, Server};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

type BoxError = Box<dyn Error>;

const WARM_UP: usize = 1_000;
const CALLS: usize = 10_000;
const BODY: Bytes = Bytes::from_static(&[7; 64]);
/// Tells a process of this program to make calls: so many callers, so many calls.
const ROLE: &str = "STEADFAST_COUNTED";

/// What a call may cost at most, with so many callers: about a tenth more than it did when this was written. Who makes it
/// cheaper lowers the bound.
struct Bounds {
    callers: usize,
    instructions: f64,
    system_calls: f64,
    allocations: f64,
}

const BOUNDS: [Bounds; 2] = [
    Bounds { callers: 1, instructions: 27_500.0, system_calls: 6.05, allocations: 6.5 },
    Bounds { callers: 64, instructions: 8_000.0, system_calls: 0.15, allocations: 3.4 },
];

fn main() -> Result<ExitCode, BoxError> {
    if let Ok(role) = std::env::var(ROLE) {
        let numbers = role.split(' ').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
        let [callers, calls] = numbers[..] else { return Err("two numbers".into()) };
        println!("{}", run(callers, calls)?);
        return Ok(ExitCode::SUCCESS);
    }
    for tool in ["valgrind", "strace"] {
        if let Err(error) = Command::new(tool).arg("--version").output() {
            println!("SKIPPED, needs {tool}: {error}");
            let demanded = std::env::var_os("STEADFAST_DEMAND_LAB").is_some();
            return Ok(if demanded { ExitCode::FAILURE } else { ExitCode::SUCCESS });
        }
    }
    println!("a call of 64 bytes, both ends        counted    at most");
    let mut within = true;
    for Bounds { callers, instructions, system_calls, allocations } in BOUNDS {
        let counts = [
            ("instructions", counted(callers, count_instructions)?, instructions),
            ("system calls", counted(callers, count_system_calls)?, system_calls),
            ("allocations", counted(callers, count_allocations)?, allocations),
        ];
        for (what, count, bound) in counts {
            let verdict = if count <= bound { "" } else { "   TOO MANY" };
            println!("{callers:>4} callers  {what:<14}  {count:>10.2} {bound:>10.2}{verdict}");
            within &= count <= bound;
        }
    }
    Ok(if within { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes the calls, and returns how often memory was allocated meanwhile.
fn run(callers: usize, calls: usize) -> Result<usize, BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = Server::bind("127.0.0.1:0").await?;
        let pool = Pool::builder(server.local_addr()?.to_string()).build()?;
        tokio::spawn(server.serve(|call: Call| async move { Ok(call.into_body()) }));
        pool.ready(Duration::from_secs(10)).await?;
        let region = Region::new(ALLOCATOR);
        let callers = (0..callers).map(|_| tokio::spawn(call(pool.clone(), calls / callers)));
        for caller in callers.collect::<Vec<_>>() {
            caller.await??;
        }
        let change = region.change();
        Ok(change.allocations + change.reallocations)
    })
}

async fn call(pool: Pool, times: usize) -> Result<(), CallError> {
    for _ in 0..times {
        pool.call(BODY).await?;
    }
    Ok(())
}

/// Of one call. The least of three, because a little depends on time: how many callers have come before a write, and how long
/// handlers took together. On a machine that is slow at the moment, or under valgrind, that is never less work, only more.
fn counted(callers: usize, count: fn(&str) -> Result<u64, BoxError>) -> Result<f64, BoxError> {
    let least = |calls| -> Result<u64, BoxError> {
        let role = format!("{callers} {calls}");
        Ok(count(&role)?.min(count(&role)?).min(count(&role)?))
    };
    Ok((least(WARM_UP + CALLS)? - least(WARM_UP)?) as f64 / CALLS as f64)
}

fn count_allocations(role: &str) -> Result<u64, BoxError> {
    let output = child(&[], role)?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

fn count_instructions(role: &str) -> Result<u64, BoxError> {
    let front = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"];
    let output = String::from_utf8(child(&front, role)?.stderr)?;
    let line = output.lines().find_map(|line| line.split_once("Collected : "));
    Ok(line.ok_or("callgrind counted nothing")?.1.trim().parse()?)
}

fn count_system_calls(role: &str) -> Result<u64, BoxError> {
    let output = String::from_utf8(child(&["strace", "-f", "-c"], role)?.stderr)?;
    // `100.00 <seconds> <microseconds a call> <calls> [<errors>] total`
    let line =
        output.lines().find(|line| line.ends_with(" total")).ok_or("strace counted nothing")?;
    Ok(line.split_whitespace().nth(3).ok_or("another summary")?.parse()?)
}

/// This program in its other role, by way of the command in front.
fn child(front: &[&str], role: &str) -> Result<Output, BoxError> {
    let mut words = front.iter().map(OsString::from).chain([std::env::current_exe()?.into()]);
    let mut command = Command::new(words.next().expect("this program at least"));
    let output = command.args(words).env(ROLE, role).output()?;
    match output.status.success() {
        true => Ok(output),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
    }
}
