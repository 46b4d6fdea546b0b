//! One client host: a pool, and callers that follow the seed.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use steadfast::{Heartbeat, Pool, Reconnect, Retry, Timeouts};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::books::{Books, Made};
use crate::network::Dialer;
use crate::plan::{CALM, SERVER};
use crate::support::times::ms;

/// When all is whole, a call is answered within this: the heartbeat's bound, what is left of a backoff, and the way.
const SERVED_WITHIN: Duration = Duration::from_secs(4);

/// What a client will do.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) books: Books,
    connections: usize,
    idle: bool,
    seed: u64,
    /// Of each caller: its calls, each with the pause before it.
    calls: Vec<Vec<(Duration, Made)>>,
    /// The one that is made when all is whole.
    last: Made,
}

impl Client {
    pub(crate) fn new(name: String, first: u64, books: Books, random: &mut Rng) -> Self {
        let mut number = first;
        let callers = random.usize(1..8);
        let calls = (0..callers).map(|_| {
            let length = random.usize(1..30);
            let one = |_| {
                number += 1;
                (ms(random.u64(..800)), any_call(number, random))
            };
            (0..length).map(one).collect()
        });
        let calls = calls.collect();
        let last = Made {
            number: first,
            length: 64,
            timeout: SERVED_WITHIN,
            idempotent: false,
            dropped_after: None,
        };
        let (connections, idle, seed) = (random.usize(1..4), random.bool(), random.u64(..));
        Self { name, books, connections, idle, seed, calls, last }
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.iter().map(Vec::len).sum::<usize>() + 1
    }

    pub(crate) async fn run(self: Arc<Self>) {
        let began = Instant::now();
        let pool = self.pool();
        let mut events = pool.events();
        let told = async {
            while let Some(event) = events.next().await {
                // The server's id, which comes last, is of no seed.
                let line = event.to_string();
                let line = line.split(" instance ").next().unwrap_or_default();
                self.books.note(began.elapsed(), &format!("{}: {line}", self.name));
            }
        };
        let calling = async {
            // Each is a task of its own, so that also the order in which they are woken is of the seed.
            let callers = (0..self.calls.len()).map(|caller| {
                let (client, pool) = (self.clone(), pool.clone());
                tokio::spawn(async move { client.keep_calling(&pool, caller).await })
            });
            for caller in callers.collect::<Vec<_>>() {
                caller.await.expect("a caller ends");
            }
            sleep_until(began + CALM).await;
            self.call(&pool, self.last).await;
            assert!(self.books.is_answered(self.last.number), "{} is not served", self.name);
            pool.close(ms(2000)).await.expect("nothing is under way");
        };
        tokio::join!(told, calling);
    }

    fn pool(&self) -> Pool {
        let kept = if self.idle { 0 } else { 1 };
        Pool::builder(format!("{SERVER}:7000"))
            .connector(Dialer)
            .connections(kept..=self.connections)
            .heartbeat(Heartbeat::every(ms(500)).give_up_after(ms(500)))
            .reconnect(Reconnect::exponential(ms(20), ms(1000)))
            .timeouts(Timeouts::default().resolve(ms(200)).connect(ms(300)).handshake(ms(500)))
            .retry(Retry::attempts(3))
            .seed(self.seed)
            .build()
            .expect("the settings are good")
    }

    async fn keep_calling(&self, pool: &Pool, caller: usize) {
        for (pause, made) in &self.calls[caller] {
            sleep(*pause).await;
            self.call(pool, *made).await;
        }
    }

    async fn call(&self, pool: &Pool, made: Made) {
        let mut request = pool.request(made.body()).timeout(made.timeout);
        if made.idempotent {
            request = request.retry(Retry::attempts(3).idempotent());
        }
        let began = Instant::now();
        let limit = made.dropped_after.unwrap_or(Duration::MAX);
        let result = timeout(limit, request.send()).await.ok();
        let waited = began.elapsed();
        self.books.tell(made, result.as_ref(), waited);
        let shown = match &result {
            None => "gone".into(),
            Some(Ok(_)) => "answered".into(),
            Some(Err(error)) => format!("{:?} ({})", error.outcome(), error.attempts()),
        };
        let line = format!("{}: call {} after {waited:?}: {shown}", self.name, made.number);
        self.books.note(turmoil::elapsed(), &line);
    }
}

fn any_call(number: u64, random: &mut Rng) -> Made {
    Made {
        number,
        length: if random.u8(..10) == 0 { random.usize(10_000..150_000) } else { 64 },
        timeout: ms(if random.bool() { random.u64(1..300) } else { random.u64(300..5000) }),
        idempotent: random.u8(..3) == 0,
        dropped_after: (random.u8(..8) == 0).then(|| ms(random.u64(..200))),
    }
}
