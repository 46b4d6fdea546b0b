//! A server, a proxy before it and a pool before that: one line at a time, which is cut again and again.

use steadfast::{Bytes, CallError, Event, Pool, Subscription};

use crate::journal::{Deed, Journal, Served, body, reply};
use crate::series::{Delay, Promise, REQUEST, Series, Story, Trial, Until};
use crate::support::news;
use crate::support::proxy::{Cut, Direction, Proxy, Way};
use crate::support::waits::{soon, until};

/// How often a trial is repeated whose cut was not made, because a busy machine lost its connection before.
const PATIENCE: usize = 50;

#[derive(Debug)]
pub(crate) struct Bench {
    series: Series,
    server: Served,
    proxy: Proxy,
    pool: Pool,
    events: Subscription<Event>,
    /// The number of the pool's present connection.
    connection: u64,
    keys: u64,
    /// What had passed before the last call.
    pub(crate) before: [u64; 2],
}

impl Bench {
    pub(crate) async fn new(series: Series) -> Self {
        let server = Served::start(series.server()).await;
        let proxy = Proxy::to(server.address).await;
        let mut builder = series.pool(&proxy);
        let mut events = builder.events();
        let pool = builder.build().unwrap();
        let connection = news::ready(&mut events).await;
        Self { series, server, proxy, pool, events, connection, keys: 0, before: [0; 2] }
    }

    /// A call whose line is cut there. What was tried for it, in vain and in the end, is added to the trials.
    pub(crate) async fn cut(&mut self, cut: Cut, trials: &mut Vec<Trial>) {
        for _ in 0..PATIENCE {
            let trial = self.call(Some(cut)).await;
            let (made, lost) = (trial.cut.is_some(), trial.lost());
            trials.push(trial);
            self.connection = self.connection.max(lost.unwrap_or_default());
            if made || lost.is_some() {
                self.reconnected().await;
            }
            if made {
                return;
            }
        }
        panic!("never cut: {cut:?}");
    }

    /// A call whose bytes from there on come to the server later.
    pub(crate) async fn delay(&mut self, delay: Delay, trials: &mut Vec<Trial>) {
        let cut = Cut { direction: Direction::Requests, after: delay.after, way: Way::Hold };
        for _ in 0..PATIENCE {
            let held = self.proxy.cut(cut);
            let key = self.key();
            let call = tokio::spawn(self.send(key));
            until("a cut", || !self.proxy.is_armed() || call.is_finished()).await;
            if self.proxy.is_armed() {
                trials.push(self.trial(key, None, call.await.unwrap()));
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
            return trials.push(self.trial(key, Some(cut), result));
        }
        panic!("never cut: {cut:?}");
    }

    pub(crate) async fn call(&mut self, cut: Option<Cut>) -> Trial {
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
        if self.series.story == Story::Refused {
            self.server.journal.let_one_leave();
        }
        self.trial(key, cut.filter(|_| !self.proxy.is_armed()), result)
    }

    /// Thousands of them are kept: without their replies.
    fn trial(&self, key: u64, cut: Option<Cut>, result: Result<Bytes, CallError>) -> Trial {
        let expected = reply(key, self.series.reply);
        let result = result.map(|answer| assert_eq!(answer, expected, "another's reply"));
        Trial { key, cut, result }
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

    /// Waits for a connection that is newer than the one that died: what comes late there must not meet the next cut.
    async fn reconnected(&mut self) {
        let dead = self.connection;
        while self.connection <= dead {
            self.connection = news::ready(&mut self.events).await;
        }
    }

    /// Ends everything and gives out the journal, which is complete.
    pub(crate) async fn end(self) -> Journal {
        drop(self.pool);
        self.server.end().await
    }

    fn key(&mut self) -> u64 {
        self.keys += 1;
        self.keys
    }

    /// Bytes of calls that have passed, requests first.
    pub(crate) fn passed(&self) -> [u64; 2] {
        [Direction::Requests, Direction::Replies].map(|direction| self.proxy.passed(direction))
    }
}
