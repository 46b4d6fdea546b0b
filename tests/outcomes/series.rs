//! Calls whose lines are cut: what is promised of them, what the server makes of them, and how both ends are set up.

use steadfast::{
    Bytes, CallCause, CallError, Heartbeat, Outcome, Pool, PoolBuilder, Reconnect, ReplyCache,
    Retry, Server, ServerBuilder,
};

use crate::journal::{Deed, body};
use crate::support::proxy::{Cut, Proxy};
use crate::support::times::ms;

/// What a small request costs beside its body, in bytes.
pub(crate) const REQUEST: usize = 26;

/// What is promised of the calls of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Nothing is tried again but what never left, and the server remembers nothing: the outcome is true.
    Honest,
    /// The server remembers its replies: every call succeeds, and ran once.
    Once,
    /// Idempotent calls: every one succeeds.
    AtLeastOnce,
}

/// What the server makes of the calls of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Story {
    Answered,
    /// When the call has come a second time.
    AnsweredLate,
    Failed,
    /// By the bound on what a connection may have in work.
    Refused,
}

/// Calls that differ in their cuts only.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Series {
    pub(crate) promise: Promise,
    pub(crate) story: Story,
    /// The lengths of the bodies, in bytes.
    pub(crate) request: usize,
    pub(crate) reply: usize,
}

/// What a call is exposed to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    Cut(Cut),
    Delay(Delay),
}

/// The line ends after so many bytes of the request. The others reach the server all the same, but late.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delay {
    pub(crate) after: u64,
    pub(crate) until: Until,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    /// The client has come back on another connection.
    Resumed,
    /// And knows what became of its call.
    Settled,
}

/// A call, and the cut that was made while it was under way.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) key: u64,
    pub(crate) cut: Option<Cut>,
    pub(crate) result: Result<(), CallError>,
}

impl Series {
    pub(crate) fn body(self, key: u64) -> Bytes {
        let deed = match self.story {
            Story::Answered | Story::Refused => Deed::Answer,
            Story::AnsweredLate => Deed::Stay,
            Story::Failed => Deed::Fail,
        };
        body(key, deed, self.request, self.reply)
    }

    pub(crate) fn server(self) -> ServerBuilder {
        let server = Server::builder().heartbeat(heartbeat());
        let server = match self.promise {
            Promise::Honest => server.reply_cache(ReplyCache::off()),
            Promise::Once | Promise::AtLeastOnce => server,
        };
        if self.story == Story::Refused { server.in_flight(1) } else { server }
    }

    /// Every line is cut, which no budget and no backoff is made for.
    pub(crate) fn pool(self, proxy: &Proxy) -> PoolBuilder {
        let retry = match self.promise {
            Promise::Honest => Retry::never(),
            Promise::Once => Retry::default(),
            Promise::AtLeastOnce => Retry::default().budget(1.0).floor(1000.0),
        };
        Pool::builder(proxy.address())
            .heartbeat(heartbeat())
            .retry(retry)
            .reconnect(Reconnect::exponential(ms(1), ms(1)))
    }
}

impl Trial {
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.result.as_ref().err().map(CallError::outcome)
    }

    /// The number of the connection that died with it.
    pub(crate) fn lost(&self) -> Option<u64> {
        match self.result.as_ref().err()?.cause() {
            CallCause::Lost(loss) => Some(loss.connection),
            _ => None,
        }
    }
}

/// Short, so that silence is found out soon.
fn heartbeat() -> Heartbeat {
    Heartbeat::every(ms(50)).give_up_after(ms(100))
}
