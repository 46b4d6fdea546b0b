//! The client at one end of the laboratory: a pool that is told what to do, and tells what the library says.
//!
//! Commands: `call THERE BACK` makes one call with so many bytes each way; `busy` makes a thousand small ones a second, until
//! `rest`; `account FILE` writes down what each caller was told; `release` gives back the descriptors that `FULL` took.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use steadfast::{
    Bytes, CallCause, CallError, ConnectCause, Event, Framing, Limits, LossCause, Ordered, Pool,
    PoolBuilder, Reconnect, Timeouts,
};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, interval};

use crate::account::{self, Account};
use crate::support::process::{say, setting};
use crate::support::roles::{Commands, heartbeat, take_all_files};
use crate::support::times::ms;

/// Who makes calls, and enters what it was told into the account.
#[derive(Debug, Clone)]
struct Caller {
    pool: Pool,
    numbers: Arc<AtomicU64>,
    account: Arc<Mutex<Account>>,
    timeout: Duration,
}

/// A pool to `TO`, with `EVERY` and `GIVE_UP` of the heartbeat, `CONNECT` and `HANDSHAKE` time-outs, `CONNECTIONS`, and
/// `CALL` as the time-out of calls, all in milliseconds but the number. `FULL`: begins without a free descriptor. `PLAIN`: the
/// protocol has no heartbeat.
pub(crate) async fn call(mut commands: Commands) {
    let mut files = if setting("FULL").is_some() { take_all_files() } else { Vec::new() };
    let mut builder = builder();
    let mut events = builder.events();
    let caller = Caller::new(builder.build().expect("good settings"));
    let mut busy: Option<JoinHandle<JoinSet<()>>> = None;
    let (stop, stopped) = tokio::sync::watch::channel(0);
    loop {
        let command = tokio::select! {
            Some(event) = events.next() => {
                tell(&event);
                continue;
            }
            Some(command) = commands.recv() => command,
        };
        match command.split_once(' ').unwrap_or((&command, "")) {
            ("call", bytes) => {
                let (there, back) = bytes.split_once(' ').expect("two numbers");
                let call = caller.clone().call_once(number(there), number(back));
                tokio::spawn(call);
            }
            ("busy", _) => busy = Some(tokio::spawn(caller.clone().keep_calling(stopped.clone()))),
            ("rest", _) => {
                stop.send_modify(|times| *times += 1);
                let calls = busy.take().expect("it is busy").await.expect("no panic");
                tokio::spawn(async {
                    calls.join_all().await;
                    say("rested")
                });
            }
            ("account", file) => {
                caller.account.lock().unwrap().write(file);
                say("account is written");
            }
            ("release", _) => files.clear(),
            _ => panic!("there is no command {command}"),
        }
    }
}

fn builder() -> PoolBuilder {
    let time = |name, default| ms(setting(name).map_or(default, |time| number(&time) as u64));
    let timeouts = Timeouts::default().resolve(ms(1000));
    let builder = Pool::builder(setting("TO").expect("TO"))
        .heartbeat(heartbeat())
        .limits(Limits::default().message(64 << 20).queued_bytes(64 << 20))
        .connections(setting("CONNECTIONS").map_or(1, |count| number(&count)))
        .reconnect(Reconnect::exponential(ms(50), ms(200)))
        .timeouts(timeouts.connect(time("CONNECT", 1000)).handshake(time("HANDSHAKE", 1000)));
    match setting("PLAIN") {
        Some(_) => builder.protocol(Ordered::new(Framing::u32_be())),
        None => builder,
    }
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

impl Caller {
    fn new(pool: Pool) -> Self {
        let timeout = ms(setting("CALL").map_or(10_000, |time| number(&time) as u64));
        let numbers = Arc::new(AtomicU64::new(1));
        Self { pool, numbers, account: Arc::default(), timeout }
    }

    /// Tells what became of it: `call: answered`, or the outcome and the cause.
    async fn call_once(self, there: usize, back: usize) {
        match self.call(there, back).await {
            Ok(answer) => say(&format!("call: answered with {} bytes", answer.len())),
            Err(error) => say(&format!("call: {}, {}", error.outcome().as_str(), why(&error))),
        }
    }

    /// A body begins with the call's number and the length of the answer that it wants.
    async fn call(&self, there: usize, back: usize) -> Result<Bytes, CallError> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let mut body = [number.to_be_bytes(), (back as u64).to_be_bytes()].concat();
        body.resize(there.max(16), number as u8);
        let (body, began) = (Bytes::from(body), Instant::now());
        let result = self.pool.request(body.clone()).timeout(self.timeout).send().await;
        let late = began.elapsed().saturating_sub(self.timeout);
        self.account.lock().unwrap().enter(number, account::told(&body, &result), late);
        result
    }

    /// A thousand calls a second, until it is stopped. Says `busy` when the first is answered. Returns those under way.
    async fn keep_calling(self, mut stopped: tokio::sync::watch::Receiver<u64>) -> JoinSet<()> {
        let (mut calls, mut tick) = (JoinSet::new(), interval(ms(1)));
        let first = Arc::new(AtomicBool::new(true));
        stopped.mark_unchanged();
        loop {
            tokio::select! {
                _ = stopped.changed() => return calls,
                _ = tick.tick() => {}
            }
            while calls.try_join_next().is_some() {}
            let (caller, first) = (self.clone(), first.clone());
            calls.spawn(async move {
                if caller.call(64, 64).await.is_ok() && first.swap(false, Ordering::Relaxed) {
                    say("busy");
                }
            });
        }
    }
}

fn tell(event: &Event) {
    match event {
        Event::Ready { connection, address, .. } => {
            say(&format!(
                "ready {connection} {}",
                address.map_or(String::new(), |at| at.ip().to_string())
            ));
        }
        Event::InstanceChanged { .. } => say("the server process was replaced"),
        Event::GoingAway { .. } => say("the server goes away"),
        Event::Lost { loss, .. } => say(&format!("lost: {}", of_loss(&loss.cause))),
        Event::DialFailed { error, .. } => {
            say(&format!("failed: {:?}: {}", error.phase, of_connect(&error.cause)))
        }
        _ => {}
    }
}

/// As `docs/faults.md` names it.
fn of_loss(cause: &LossCause) -> String {
    match cause {
        LossCause::ClosedByPeer => "closed by the peer".into(),
        LossCause::Silent { .. } => "silent".into(),
        LossCause::Stalled { .. } => "stalled".into(),
        LossCause::Os(error) => error.name().unwrap_or("another error").into(),
        LossCause::SentAway(_) => "sent away".into(),
        cause => cause.to_string(),
    }
}

fn of_connect(cause: &ConnectCause) -> String {
    match cause {
        ConnectCause::Os(error) => error.name().unwrap_or("another error").into(),
        ConnectCause::TimedOut { .. } => "no answer in time".into(),
        ConnectCause::ClosedByPeer => "closed by the peer".into(),
        ConnectCause::Lost(loss) => of_loss(&loss.cause),
        cause => cause.to_string(),
    }
}

fn why(error: &CallError) -> String {
    match error.cause() {
        CallCause::Lost(loss) => of_loss(&loss.cause),
        CallCause::TimedOut { .. } => "timed out".into(),
        CallCause::Replaced { .. } => "the server process was replaced".into(),
        cause => cause.to_string(),
    }
}
