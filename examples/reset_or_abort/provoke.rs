//! The ways for a connection to end, and how each is provoked.

use std::net::SocketAddr;
use std::time::Duration;

use steadfast::{
    BoxError, CallError, Event, Framing, Heartbeat, Loss, Ordered, Outcome, Pool, Reconnect, Retry,
    SocketOptions, Subscription,
};
use tokio::time::timeout;

use crate::child::ServerProcess;
use crate::impatient::Impatient;
use crate::proc_net;
use crate::row::Row;

/// Much more than any of this takes.
const BOUND: Duration = Duration::from_secs(20);
/// More than the kernels on both sides hold.
const BALLAST: usize = 12_000_000;

pub(crate) struct Way {
    pub(crate) name: &'static str,
    what: &'static str,
    deed: Deed,
    expected: &'static str,
}

enum Deed {
    /// The server is told by a call, whose request is the way's name.
    Ask,
    /// The same, with so much behind it that it does not fit into the kernels' buffers.
    AskLong,
    /// The same, over a socket whose kernel gives up early.
    AskLongImpatiently,
    /// As the first, and nobody waits for the answer for long.
    AskAndGoAway,
    /// SIGKILL.
    Kill,
    /// SIGKILL, while a part of a request lies unread in the server's receive queue.
    KillUnread,
    /// SIGSTOP.
    Freeze,
}

pub(crate) const WAYS: [Way; 12] = [
    Way {
        name: "close",
        what: "the server has read everything, and closes its socket",
        deed: Deed::Ask,
        expected: "closed by the peer",
    },
    Way {
        name: "kill",
        what: "the idle server is killed (SIGKILL): its kernel closes, and nobody can tell the difference",
        deed: Deed::Kill,
        expected: "closed by the peer",
    },
    Way {
        name: "half",
        what: "the server sends a part of an answer, and closes",
        deed: Deed::Ask,
        expected: "closed by the peer",
    },
    Way {
        name: "kill_unread",
        what: "the server is killed with a part of a request unread in its receive queue",
        deed: Deed::KillUnread,
        expected: "ECONNRESET",
    },
    Way {
        name: "unread",
        what: "the server closes with the rest of an upload unread",
        deed: Deed::AskLong,
        expected: "ECONNRESET",
    },
    Way {
        name: "linger",
        what: "the server closes with SO_LINGER 0: always a reset",
        deed: Deed::Ask,
        expected: "ECONNRESET",
    },
    Way {
        name: "half_close",
        what: "in an upload the server says FIN, then closes: FIN and then RST, and the next write is EPIPE",
        deed: Deed::AskLong,
        expected: "closed by the peer",
    },
    Way {
        name: "freeze",
        what: "the idle server is frozen (SIGSTOP); its kernel goes on acknowledging",
        deed: Deed::Freeze,
        expected: "silent",
    },
    Way {
        name: "deaf",
        what: "the server stops reading in the middle of an upload",
        deed: Deed::AskLong,
        expected: "stalled",
    },
    Way {
        name: "deaf_to_the_kernel",
        what: "the server stops reading, and the kernel has the shorter patience (TCP_USER_TIMEOUT)",
        deed: Deed::AskLongImpatiently,
        expected: "ETIMEDOUT",
    },
    Way {
        name: "mute",
        what: "the server forgets to answer a call, whose caller has gone",
        deed: Deed::AskAndGoAway,
        expected: "unanswered",
    },
    Way {
        name: "garbage",
        what: "the server answers with something else: HTTP",
        deed: Deed::Ask,
        expected: "violation",
    },
];

impl Way {
    pub(crate) fn can_be_made(&self) -> bool {
        match self.deed {
            Deed::Freeze => cfg!(unix),
            Deed::AskLongImpatiently => cfg!(target_os = "linux"),
            _ => true,
        }
    }

    /// A server and a client for this way alone.
    pub(crate) async fn provoke(&self) -> Result<Row, BoxError> {
        let mut server = ServerProcess::start(&["serve"]).await?;
        let [SocketAddr::V4(address)] = server.addresses[..] else {
            return Err("the server has other ports".into());
        };
        let (pool, mut events) = self.connect(address.into())?;
        pool.call("hello").await?;
        let tcp_before = proc_net::state(address);
        let call = self.deed.be_done(self.name, &mut server, &pool);
        let (call, loss) = timeout(BOUND, async { tokio::join!(call, lost(&mut events)) }).await?;
        let mut row = Row::new(self.name, self.what, self.expected, &*loss?);
        (row.tcp_before, row.call) = (tcp_before, call?);
        Ok(row)
    }

    /// A pool of one connection.
    fn connect(&self, server: SocketAddr) -> Result<(Pool, Subscription<Event>), BoxError> {
        let ms = Duration::from_millis;
        let mut builder = Pool::builder(server.to_string())
            .protocol(Ordered::new(Framing::u32_be()).heartbeat("ping"))
            .heartbeat(Heartbeat::every(ms(300)).give_up_after(ms(900)))
            // Or else the kernel might be the first to say that the deaf server is stalled, and call it ETIMEDOUT.
            .socket(SocketOptions::default().without_user_timeout())
            // What comes after the loss is no matter here.
            .reconnect(Reconnect::exponential(ms(60_000), ms(60_000)))
            .retry(Retry::never());
        if let Deed::AskLongImpatiently = self.deed {
            builder = builder.connector(Impatient);
        }
        let events = builder.events();
        Ok((builder.build()?, events))
    }
}

impl Deed {
    /// Returns what became of the call, if one was made.
    async fn be_done(
        &self,
        name: &str,
        server: &mut ServerProcess,
        pool: &Pool,
    ) -> Result<Option<&'static str>, BoxError> {
        let second = Duration::from_secs(1);
        let called = match self {
            Self::Ask => pool.request(name.to_owned()).send().await,
            Self::AskLong | Self::AskLongImpatiently => {
                let upload = format!("{name} {}", ".".repeat(BALLAST));
                // What was not sent would wait for the next connection.
                pool.request(upload).fail_fast().send().await
            }
            Self::AskAndGoAway => pool.request(name.to_owned()).timeout(second / 5).send().await,
            Self::Kill => return Ok(server.kill().await.map(|()| None)?),
            Self::KillUnread => {
                // Returns when the operating system has it. On loopback that is the server's.
                pool.notify("deaf for what is behind the first word").await?;
                return Ok(server.kill().await.map(|()| None)?);
            }
            Self::Freeze => {
                freeze(server)?;
                return Ok(None);
            }
        };
        Ok(Some(fate(called.err())))
    }
}

fn freeze(server: &ServerProcess) -> Result<(), BoxError> {
    let id = server.child.id().ok_or("the server has ended")?;
    let stopped =
        std::process::Command::new("kill").args(["-s", "STOP", &id.to_string()]).status()?;
    if stopped.success() { Ok(()) } else { Err("it cannot be frozen".into()) }
}

async fn lost(events: &mut Subscription<Event>) -> Result<std::sync::Arc<Loss>, BoxError> {
    loop {
        match events.next().await {
            Some(Event::Lost { loss, .. }) => return Ok(loss),
            Some(_) => {}
            None => return Err("the pool has ended".into()),
        }
    }
}

fn fate(error: Option<CallError>) -> &'static str {
    match error.map(|error| error.outcome()) {
        None => "was answered",
        Some(Outcome::NotSent) => "not sent, so it did not run",
        Some(Outcome::Refused) => "refused, so it did not run",
        Some(Outcome::Indeterminate) => "had left, so it may have run",
        Some(Outcome::Remote) => "ran, and the answer is an error",
    }
}
