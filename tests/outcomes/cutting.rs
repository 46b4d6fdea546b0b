//! Series of calls whose line is cut, each at another byte, and the verdict on each of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use steadfast::{
    Bytes, CallError, Event, Heartbeat, Outcome, Pool, Reconnect, ReplyCache, Retry, Server,
    ServerBuilder, Subscription,
};
use tokio::task::JoinSet;

use crate::journal::{Deed, Journal, Served, body, reply};
use crate::support::news::{self, ms};
use crate::support::proxy::{Cut, Direction, Proxy, Way};
use crate::support::scripted::{soon, until};

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

/// The bytes that one call costs, in frames.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lengths([u64; 2]);

impl Lengths {
    pub(crate) fn of(self, direction: Direction) -> u64 {
        self.0[direction as usize]
    }
}

/// How often each outcome came, by the direction that was cut and whether all of the call's bytes had passed there.
pub(crate) type Tally = BTreeMap<(Direction, Passed, &'static str), usize>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Passed {
    Part,
    Whole,
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
struct Trial {
    key: u64,
    cut: Option<Cut>,
    result: Result<Bytes, CallError>,
}

/// What a small request costs beside its body, in bytes.
pub(crate) const REQUEST: usize = 26;
/// How often a trial is repeated whose cut was not made, because a busy machine lost its connection before.
const PATIENCE: usize = 50;

/// A server, a proxy before it and a pool before that.
struct Bench {
    series: Series,
    server: Served,
    proxy: Proxy,
    pool: Pool,
    events: Subscription<Event>,
    /// The number of the pool's present connection.
    connection: u64,
    keys: u64,
    /// What had passed before the last call.
    before: [u64; 2],
}

impl Series {
    /// Makes a call for each fault, on so many lines at a time, and judges all of them when every server has ended: nothing
    /// is run any more then.
    pub(crate) async fn run(self, faults: Vec<Fault>, lines: usize) -> Tally {
        let lengths = self.lengths().await;
        let faults = Arc::new(Mutex::new(faults.into_iter()));
        let mut workers = JoinSet::new();
        for _ in 0..lines {
            workers.spawn(self.work(faults.clone(), lengths));
        }
        let mut tally = Tally::new();
        while let Some(done) = workers.join_next().await {
            for (what, count) in done.unwrap() {
                *tally.entry(what).or_default() += count;
            }
        }
        println!("{self:?}: {tally:?}");
        tally
    }

    /// What a call costs whose line is not cut, and that is made once.
    pub(crate) async fn lengths(self) -> Lengths {
        let mut bench = Bench::new(Self { promise: Promise::Honest, ..self }).await;
        bench.call(None).await;
        let (before, after) = (bench.before, bench.passed());
        bench.end().await;
        Lengths([after[0] - before[0], after[1] - before[1]])
    }

    async fn work(self, faults: Arc<Mutex<std::vec::IntoIter<Fault>>>, lengths: Lengths) -> Tally {
        let mut bench = Bench::new(self).await;
        let mut trials = Vec::new();
        loop {
            let fault = faults.lock().unwrap().next();
            match fault {
                Some(Fault::Cut(cut)) => bench.cut(cut, &mut trials).await,
                Some(Fault::Delay(delay)) => bench.delay(delay, &mut trials).await,
                None => break,
            }
        }
        let journal = bench.end().await;
        let mut tally = Tally::new();
        for trial in trials {
            let runs = journal.runs(trial.key);
            assert!(self.is_kept(&trial, runs, lengths), "{self:?} ran {runs} times: {trial:?}");
            let outcome = trial.outcome().map_or("ok", Outcome::as_str);
            if let Some(Cut { direction, after, .. }) = trial.cut {
                let whole = after == lengths.of(direction);
                let passed = if whole { Passed::Whole } else { Passed::Part };
                *tally.entry((direction, passed, outcome)).or_default() += 1;
            }
        }
        tally
    }

    /// Whether the promise is kept by a call that ran so often.
    fn is_kept(self, trial: &Trial, runs: u32, lengths: Lengths) -> bool {
        let cut_short = trial.cut.is_some_and(|cut| {
            cut.direction == Direction::Requests && cut.after < lengths.of(Direction::Requests)
        });
        let outcome = trial.outcome();
        let true_in_any_case = match outcome {
            None | Some(Outcome::Remote) => runs >= 1,
            Some(Outcome::NotSent | Outcome::Refused) => runs == 0,
            Some(Outcome::Indeterminate) if cut_short => runs == 0,
            Some(Outcome::Indeterminate) => true,
        };
        let answered = match self.story {
            Story::Answered | Story::AnsweredLate | Story::Refused => outcome.is_none(),
            Story::Failed => outcome == Some(Outcome::Remote),
        };
        true_in_any_case
            && match self.promise {
                Promise::Honest => runs <= 1,
                Promise::Once => answered && runs == 1,
                Promise::AtLeastOnce => answered,
            }
    }

    fn body(self, key: u64) -> Bytes {
        let deed = match self.story {
            Story::Answered | Story::Refused => Deed::Answer,
            Story::AnsweredLate => Deed::Stay,
            Story::Failed => Deed::Fail,
        };
        body(key, deed, self.request, self.reply)
    }

    fn server(self) -> ServerBuilder {
        let server = Server::builder().heartbeat(heartbeat());
        let server = match self.promise {
            Promise::Honest => server.reply_cache(ReplyCache::off()),
            Promise::Once | Promise::AtLeastOnce => server,
        };
        if self.story == Story::Refused { server.in_flight(1) } else { server }
    }

    /// Every line is cut, which no budget and no backoff is made for.
    fn pool(self, proxy: &Proxy) -> steadfast::PoolBuilder {
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

/// Short, so that silence is found out soon.
fn heartbeat() -> Heartbeat {
    Heartbeat::every(ms(50)).give_up_after(ms(100))
}

impl Trial {
    fn outcome(&self) -> Option<Outcome> {
        self.result.as_ref().err().map(CallError::outcome)
    }
}

impl Bench {
    async fn new(series: Series) -> Self {
        let server = Served::start(series.server()).await;
        let proxy = Proxy::to(server.address).await;
        let mut builder = series.pool(&proxy);
        let mut events = builder.events();
        let pool = builder.build().unwrap();
        let connection = news::ready(&mut events).await;
        Self { series, server, proxy, pool, events, connection, keys: 0, before: [0; 2] }
    }

    /// A call whose line is cut there. What was tried for it, in vain and in the end, is added to the trials.
    async fn cut(&mut self, cut: Cut, trials: &mut Vec<Trial>) {
        for _ in 0..PATIENCE {
            let trial = self.call(Some(cut)).await;
            let made = trial.cut.is_some();
            trials.push(trial);
            if made {
                return self.reconnected().await;
            }
        }
        panic!("never cut: {cut:?}");
    }

    /// A call whose bytes from there on come to the server later.
    async fn delay(&mut self, delay: Delay, trials: &mut Vec<Trial>) {
        let cut = Cut { direction: Direction::Requests, after: delay.after, way: Way::Hold };
        for _ in 0..PATIENCE {
            let held = self.proxy.cut(cut);
            let key = self.key();
            let call = tokio::spawn(self.send(key));
            until("a cut", || !self.proxy.is_armed() || call.is_finished()).await;
            if self.proxy.is_armed() {
                trials.push(Trial { key, cut: None, result: call.await.unwrap() });
                continue;
            }
            let held = soon("what is held", held).await.unwrap();
            self.reconnected().await;
            let result = match delay.until {
                Until::Resumed => {
                    soon("the end of the old line", held.deliver()).await;
                    soon("an outcome", call).await.unwrap()
                }
                Until::Settled => {
                    let result = soon("an outcome", call).await.unwrap();
                    soon("the end of the old line", held.deliver()).await;
                    result
                }
            };
            return trials.push(Trial { key, cut: Some(cut), result });
        }
        panic!("never cut: {cut:?}");
    }

    async fn call(&mut self, cut: Option<Cut>) -> Trial {
        if self.series.story == Story::Refused {
            self.fill().await;
        }
        if let Some(cut) = cut {
            drop(self.proxy.cut(cut));
        }
        let key = self.key();
        self.before = self.passed();
        let call = soon("an outcome", self.send(key));
        let result = match (self.series.story, cut) {
            (Story::AnsweredLate, Some(_)) => tokio::join!(call, self.answer_the_twin()).0,
            (Story::AnsweredLate, None) => {
                self.server.journal.let_one_leave();
                call.await
            }
            _ => call.await,
        };
        if let Ok(answer) = &result {
            assert_eq!(*answer, reply(key, self.series.reply), "another's reply");
        }
        if self.series.story == Story::Refused {
            self.server.journal.let_one_leave();
        }
        Trial { key, cut: cut.filter(|_| !self.proxy.is_armed()), result }
    }

    /// A call with this key.
    fn send(&self, key: u64) -> impl Future<Output = Result<Bytes, CallError>> + Send + 'static {
        let (pool, promise, body) = (self.pool.clone(), self.series.promise, self.series.body(key));
        async move {
            match promise {
                Promise::Honest | Promise::Once => pool.request(body).send().await,
                Promise::AtLeastOnce => pool.request(body).idempotent().send().await,
            }
        }
    }

    /// Lets the handler end when the call has come to the server a second time.
    async fn answer_the_twin(&self) {
        let twice = self.before[0] + 2 * (REQUEST + self.series.request) as u64;
        until("the call to come again", || self.proxy.passed(Direction::Requests) >= twice).await;
        self.server.journal.let_one_leave();
    }

    /// Gives the connection all the work that it may have: a call whose caller goes away, and whose handler does not.
    async fn fill(&mut self) {
        for _ in 0..PATIENCE {
            let key = self.key();
            let (pool, body) = (self.pool.clone(), body(key, Deed::Stay, 40, 40));
            let call = tokio::spawn(async move { pool.call(body).await });
            until("a handler at work", || self.server.journal.runs(key) == 1 || call.is_finished())
                .await;
            call.abort();
            if self.server.journal.runs(key) == 1 {
                let _ = call.await;
                return;
            }
        }
        panic!("no handler gets to work");
    }

    /// Waits for a connection that is newer than the one that was cut.
    async fn reconnected(&mut self) {
        let cut = self.connection;
        while self.connection <= cut {
            self.connection = news::ready(&mut self.events).await;
        }
    }

    /// Ends everything and gives out the journal, which is complete.
    async fn end(self) -> Journal {
        drop(self.pool);
        self.server.end().await
    }

    fn key(&mut self) -> u64 {
        self.keys += 1;
        self.keys
    }

    fn passed(&self) -> [u64; 2] {
        [Direction::Requests, Direction::Replies].map(|direction| self.proxy.passed(direction))
    }
}

/// A cut in each of these ways at each of these bytes.
pub(crate) fn cuts(
    direction: Direction,
    bytes: impl Iterator<Item = u64> + Clone,
    ways: &[Way],
) -> Vec<Fault> {
    let cut = |after, way| Fault::Cut(Cut { direction, after, way });
    bytes.flat_map(|after| ways.iter().map(move |way| cut(after, *way))).collect()
}
