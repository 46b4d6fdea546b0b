//! What an outage says of the attempts that are under way or to come, where there is more than one slot, where an attempt
//! began before the outage, where the pool changes its size, and where nobody asks.

use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::SinkExt as _;
use steadfast::{
    Connect, Connected, Connecting, Connections, Endpoint, Event, Heartbeat, Outage, Pool,
    PoolBuilder, Reconnect, Timeouts,
};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::bench::SECOND;
use crate::support::news;
use crate::support::peer::Peer;
use crate::support::pipes::refused;
use crate::support::plain;
use crate::support::scripted::busy;
use crate::support::times::ms;
use crate::support::waits::{soon, until};

const THERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Refused,
    Accepted,
}

use Fate::{Accepted as A, Refused as R};

/// What becomes of the attempts, in the order in which they are made; the last goes for all that follow.
struct Fates {
    fates: Vec<Fate>,
    dials: Arc<AtomicUsize>,
    ends: mpsc::UnboundedSender<DuplexStream>,
}

impl Connect for Fates {
    fn connect<'a>(&'a self, _: &'a Endpoint) -> Connecting<'a> {
        Box::pin(async {
            let number = self.dials.fetch_add(1, Ordering::SeqCst);
            if self.fates[number.min(self.fates.len() - 1)] == R {
                return Err(refused());
            }
            let (near, far) = tokio::io::duplex(4096);
            self.ends.send(far).map_err(|_| refused())?;
            Ok(Connected { transport: Box::new(near), address: Some(THERE) })
        })
    }
}

struct Scene {
    pool: Pool,
    dials: Arc<AtomicUsize>,
    ends: mpsc::UnboundedReceiver<DuplexStream>,
}

impl Scene {
    fn new(fates: &[Fate], with: impl FnOnce(PoolBuilder) -> PoolBuilder) -> Self {
        let (sender, ends) = mpsc::unbounded_channel();
        let dials = Arc::<AtomicUsize>::default();
        let builder = Pool::builder("peer:1")
            .connector(Fates { fates: fates.to_vec(), dials: dials.clone(), ends: sender })
            .timeouts(Timeouts::default().handshake(60 * SECOND))
            .heartbeat(Heartbeat::every(600 * SECOND).give_up_after(1200 * SECOND))
            .reconnect(Reconnect::exponential(ms(100), 5 * SECOND));
        Self { pool: with(builder).build().unwrap(), dials, ends }
    }

    /// The far end of the next connection.
    async fn accept(&mut self) -> DuplexStream {
        soon("a connection", self.ends.recv()).await.unwrap()
    }

    /// The same, when it has said `HELLO` and waits.
    async fn hear(&mut self) -> Peer<DuplexStream> {
        let mut peer = Peer::new(self.accept().await);
        peer.hello().await;
        peer
    }

    fn dials(&self) -> usize {
        self.dials.load(Ordering::SeqCst)
    }

    fn outage(&self) -> Outage {
        self.pool.status().outage.unwrap()
    }

    fn assert_under_way(&self, connected: Option<SocketAddr>) {
        let outage = self.outage();
        assert_eq!((outage.connected, outage.next_in), (connected, None), "{outage:?}");
    }
}

/// Of two connections one is lost, and its successor waits for `WELCOME` when the other is lost, too.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_began_before_the_outage_is_under_way_in_it() {
    let mut scene = Scene::new(&[A], |pool| pool.connections(2));
    let (first, second) = (scene.accept().await, scene.accept().await);
    let (first, second) = tokio::join!(Peer::greet(first), Peer::greet(second));
    news::connected(&scene.pool, 2).await;
    sleep(60 * SECOND).await;
    drop(first);
    let _third = scene.hear().await;
    drop(second);
    // Before the other slot dials.
    until("an outage", || scene.pool.status().outage.is_some()).await;
    assert_eq!(scene.dials(), 3);
    scene.assert_under_way(Some(THERE));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_fails_does_not_hide_another_slots_that_is_under_way() {
    let mut scene = Scene::new(&[A, R], |pool| pool.connections(2));
    let mut events = scene.pool.events();
    let _silent = scene.hear().await;
    for _ in 0..3 {
        news::dial_failed(&mut events).await;
        scene.assert_under_way(Some(THERE));
    }
}

/// The only connection is old, and its successor waits for `WELCOME` when it is lost.
#[tokio::test(start_paused = true)]
async fn what_was_to_replace_a_connection_is_under_way_when_that_is_lost() {
    let mut scene =
        Scene::new(&[A], |pool| pool.connections(Connections::from(1).lifetime(100 * SECOND)));
    let first = Peer::greet(scene.accept().await).await;
    news::connected(&scene.pool, 1).await;
    sleep(101 * SECOND).await;
    let _next = scene.hear().await;
    drop(first);
    until("an outage", || scene.pool.status().outage.is_some()).await;
    scene.assert_under_way(Some(THERE));
    sleep(SECOND).await;
    assert_eq!(scene.dials(), 2);
}

/// Slot 0 was asked to stay away for a minute. While slot 1 is refused again and again, that one's attempts are the next.
#[tokio::test(start_paused = true)]
async fn the_attempts_of_a_slot_that_is_gone_are_not_the_next() {
    let mut scene = Scene::new(&[A, R], |pool| pool.connections(2));
    let mut events = scene.pool.events();
    scene.hear().await.say(busy(60_000, "full")).await;
    let next_in = news::event(&mut events, "the answer of slot 0", |event| match event {
        Event::DialFailed { slot: 0, next_in, .. } => Some(next_in),
        _ => None,
    });
    assert!(next_in.await >= 60 * SECOND);
    sleep(10 * SECOND).await;
    assert!(scene.outage().next_in.is_some_and(|next| next <= 5 * SECOND), "{:?}", scene.outage());
    scene.pool.resize(1).unwrap();
    sleep(6 * SECOND).await;
    let (before, outage) = (scene.dials(), scene.outage());
    assert!(outage.next_in.is_some_and(|next| next > 40 * SECOND), "{outage:?}");
    sleep(40 * SECOND).await;
    assert_eq!(scene.dials(), before);
}

#[tokio::test(start_paused = true)]
async fn the_attempt_of_a_slot_that_is_gone_is_not_under_way() {
    let mut scene = Scene::new(&[R, A], |pool| {
        pool.connections(2).reconnect(Reconnect::exponential(50 * SECOND, 60 * SECOND))
    });
    let mut events = scene.pool.events();
    let (_, next_in) = news::dial_failed(&mut events).await;
    let mut given_up = scene.hear().await;
    scene.assert_under_way(Some(THERE));
    scene.pool.resize(1).unwrap();
    assert_eq!(scene.outage().connected, None, "at once");
    assert_eq!(given_up.frame().await, None);
    assert_eq!((scene.outage().connected, scene.outage().next_in), (None, Some(next_in)));
}

/// Its hook has left a question behind, whose answer comes later.
#[tokio::test(start_paused = true)]
async fn behind_a_connection_that_could_not_be_lent_the_next_attempt_is_told() {
    let mut scene = Scene::new(&[A], |pool| {
        pool.protocol(plain::ordered())
            .reconnect(Reconnect::exponential(50 * SECOND, 60 * SECOND))
            .on_connect(|mut conversation| async move {
                let _ = tokio::time::timeout(ms(10), conversation.call("question")).await;
                Ok(())
            })
    });
    let mut peer = plain::frames(scene.accept().await);
    news::connected(&scene.pool, 1).await;
    tokio::time::timeout(ms(1), scene.pool.lease().into_future()).await.unwrap_err();
    peer.send("late".into()).await.unwrap();
    until("an outage", || scene.pool.status().outage.is_some()).await;
    sleep(ms(100)).await;
    let (outage, dials) = (scene.outage(), scene.dials());
    assert_eq!(dials, 1);
    sleep(outage.next_in.expect("none is under way") + ms(1)).await;
    assert_eq!(scene.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_closed_and_one_that_nobody_asks_make_no_next_attempt() {
    let scene = Scene::new(&[R], |pool| pool);
    let mut events = scene.pool.events();
    news::dial_failed(&mut events).await;
    assert!(scene.outage().next_in.is_some());
    scene.pool.close(ms(100)).await.unwrap();
    assert_eq!(scene.outage().next_in, None);

    let scene = Scene::new(&[R], |pool| {
        pool.connections(0..=1).reconnect(Reconnect::exponential(60 * SECOND, 60 * SECOND))
    });
    scene.pool.request("x").fail_fast().send().await.unwrap_err();
    assert_eq!(scene.outage().next_in, None);
    sleep(61 * SECOND).await;
    assert_eq!(scene.dials(), 1);
}

/// As by something that sizes a pool by its load and cannot decide.
#[tokio::test(start_paused = true)]
async fn a_slot_that_comes_and_goes_keeps_to_its_backoff() {
    for fate in [R, A] {
        let Scene { pool, dials, mut ends } = Scene::new(&[fate], |pool| pool);
        tokio::spawn(async move {
            while let Some(end) = ends.recv().await {
                let mut peer = Peer::new(end);
                if peer.frame().await.is_some() {
                    peer.say(busy(60_000, "full")).await;
                }
            }
        });
        sleep(60 * SECOND).await;
        let before = dials.load(Ordering::SeqCst);
        for round in 0..1000 {
            pool.resize(1 + round % 2).unwrap();
            sleep(ms(10)).await;
        }
        let dials = dials.load(Ordering::SeqCst) - before;
        assert!(dials < 30, "{fate:?}: {dials} attempts in 10 s");
    }
}
