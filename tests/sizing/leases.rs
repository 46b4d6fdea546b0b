//! A conversation has its connection for as long as it takes, whatever else becomes of that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use steadfast::{
    Connect, Connected, Connecting, Connections, Endpoint, Event, Framing, Lease, Ordered, Pool,
    PoolBuilder, Retirement, State,
};
use tokio::time::sleep;

use crate::bench::{HOUR, SECOND, state};
use crate::support::news;
use crate::support::waits::{until, within};

/// A server that sends every byte back, and counts its connections.
#[derive(Debug, Clone, Default)]
struct Echo {
    came: Arc<AtomicUsize>,
    went: Arc<AtomicUsize>,
}

impl Connect for Echo {
    fn connect<'a>(&'a self, _: &'a Endpoint) -> Connecting<'a> {
        Box::pin(async move {
            let (near, far) = tokio::io::duplex(4096);
            self.came.fetch_add(1, Ordering::SeqCst);
            let went = self.went.clone();
            tokio::spawn(async move {
                let (mut from, mut to) = tokio::io::split(far);
                let _ = tokio::io::copy(&mut from, &mut to).await;
                went.fetch_add(1, Ordering::SeqCst);
            });
            Ok(Connected { transport: Box::new(near), address: None })
        })
    }
}

impl Echo {
    fn pool(&self) -> PoolBuilder {
        Pool::builder("peer:1").connector(self.clone()).protocol(Ordered::new(Framing::u32_be()))
    }

    fn alive(&self) -> usize {
        self.came.load(Ordering::SeqCst) - self.went.load(Ordering::SeqCst)
    }
}

async fn converse(lease: &mut Lease) {
    lease.send("word").await.unwrap();
    assert_eq!(lease.recv().await.unwrap(), "word");
}

#[tokio::test(start_paused = true)]
async fn a_lease_on_a_connection_that_is_too_many_goes_on() {
    let echo = Echo::default();
    let pool = echo.pool().connections(2).build().unwrap();
    news::connected(&pool, 2).await;
    let [mut one, mut two] = [pool.lease().await.unwrap(), pool.lease().await.unwrap()];
    pool.resize(1).unwrap();
    until("the new size", || pool.status().ready == 1).await;
    for lease in [&mut one, &mut two] {
        converse(lease).await;
    }
    sleep(HOUR).await;
    assert_eq!(echo.alive(), 2);
    drop((one, two));
    until("FIN", || echo.alive() == 1).await;
    converse(&mut pool.lease().await.unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_makes_a_connection_and_while_it_lasts_that_is_not_idle() {
    let echo = Echo::default();
    let connections = Connections::from(0..=4).idle_limit(SECOND);
    let pool = echo.pool().connections(connections).build().unwrap();
    assert_eq!(pool.status().state, State::Idle);
    let mut lease = pool.lease().await.unwrap();
    sleep(HOUR).await;
    converse(&mut lease).await;
    drop(lease);
    within(2 * SECOND, "the end of its time", state(&pool, State::Idle)).await;
    until("FIN", || echo.alive() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_outlives_the_time_of_its_connection_and_the_next_has_another() {
    let echo = Echo::default();
    let pool = echo.pool().connections(Connections::from(1).lifetime(10 * SECOND)).build().unwrap();
    let mut events = pool.events();
    let mut old = pool.lease().await.unwrap();
    let why = news::event(&mut events, "it is let go", |event| match event {
        Event::Retired { connection, why, .. } => Some((connection, why)),
        _ => None,
    });
    assert_eq!(why.await, (old.connection(), Retirement::Lifetime));
    let mut new = pool.lease().await.unwrap();
    assert_ne!(new.connection(), old.connection());
    converse(&mut old).await;
    converse(&mut new).await;
    drop(old);
    until("FIN", || echo.alive() == 1).await;
}
