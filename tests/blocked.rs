//! A runtime that does nothing for a while, because somebody blocks its thread, behind a ping that has just left.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use steadfast::{Call, Event, Heartbeat, Pool, Server};
use support::layer::Layered;
use support::local::start;
use support::scripted::PING;
use support::tampered::{Below, Tamper};
use support::waits::until;
use tokio::io::AsyncWrite as _;
use tokio::runtime::Builder;

const EVERY: Duration = Duration::from_millis(60);
/// So long may a busy machine keep the peer's thread from running.
const GIVE_UP: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(60);

/// Blocks the thread when a ping has been written.
#[derive(Debug, Clone, Default)]
struct Block {
    milliseconds: Arc<AtomicU64>,
    pings: Arc<AtomicU64>,
}

impl Tamper for Block {
    fn poll_write(
        &mut self,
        below: &mut Below,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(below).poll_write(cx, bytes);
        // Behind the length of its frame, of which there is one.
        if written.is_ready() && bytes.get(4) == Some(&PING) {
            let block = Duration::from_millis(self.milliseconds.load(Ordering::SeqCst));
            std::thread::sleep(block);
            self.pings.fetch_add(1, Ordering::SeqCst);
        }
        written
    }
}

/// The pong lies in the kernel when the runtime goes on: it must be heard before anybody is judged. The peer is well all the
/// while, on a thread of its own.
#[test]
fn a_runtime_that_was_blocked_does_not_take_a_living_peer_for_dead() {
    let other = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let echo = |call: Call| async move { Ok(call.into_body()) };
    let address = other.block_on(start(Server::builder(), echo));
    std::thread::scope(|scope| {
        for mut flavor in [Builder::new_current_thread(), Builder::new_multi_thread()] {
            let own = flavor.enable_all().worker_threads(1).build().unwrap();
            let standstill = Arc::<AtomicU64>::default();
            other.spawn(watch_this_thread(standstill.clone()));
            scope.spawn(move || own.block_on(survived(address, &standstill)));
        }
    });
}

/// The longest time, in milliseconds, for which the machine kept the thread from running.
async fn watch_this_thread(standstill: Arc<AtomicU64>) {
    loop {
        let began = Instant::now();
        tokio::time::sleep(Duration::from_millis(5)).await;
        standstill.fetch_max(began.elapsed().as_millis() as u64, Ordering::SeqCst);
    }
}

/// Tried again where the peer was not well: its thread stood still.
async fn survived(address: SocketAddr, standstill: &AtomicU64) {
    for _ in 0..3 {
        standstill.store(0, Ordering::SeqCst);
        let Err(lost) = blocked_behind_pings(address).await else { return };
        let standstill = standstill.load(Ordering::SeqCst);
        assert!(u128::from(standstill) >= GIVE_UP.as_millis() / 2, "{lost:?}, {standstill} ms");
    }
    panic!("the machine lets the peer's thread stand still again and again");
}

async fn blocked_behind_pings(address: SocketAddr) -> Result<(), Event> {
    let (block, heartbeat) = (Block::default(), Heartbeat::every(EVERY).give_up_after(GIVE_UP));
    let builder = Pool::builder(address.to_string()).heartbeat(heartbeat);
    let connector = block.clone();
    let pool = builder.wrap_tcp(|tcp| Layered(tcp, move || connector.clone())).build().unwrap();
    pool.ready(LONG).await.unwrap();
    let mut events = pool.events();
    // Less than the bound, a little more, and so much more that it was a standstill of this side, not of the peer.
    for milliseconds in [100, 190, 205, 215, 230, 245, 300, 600] {
        block.milliseconds.store(milliseconds, Ordering::SeqCst);
        let so_far = block.pings.load(Ordering::SeqCst);
        until("two pings", || block.pings.load(Ordering::SeqCst) >= so_far + 2).await;
        pool.call("still there?").await.unwrap();
    }
    while let Some(event) = events.try_next() {
        if let Event::Lost { .. } = event {
            return Err(event);
        }
    }
    Ok(())
}
