//! A server that is frozen: its kernel goes on acknowledging, the process answers nothing. Only the heartbeat can tell.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use steadfast::{
    CallCause, Connect, Connected, Connecting, Endpoint, Event, Heartbeat, LossCause, Outcome,
    Pool, Reconnect, Subscription, Timeouts,
};
use tokio::io::{AsyncRead as _, DuplexStream, ReadBuf};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::support::loopback::own_loopback;
use crate::support::news;
use crate::support::peer::Peer;
use crate::support::pipes::{Pipes, Switch, pipes};
use crate::support::process::{Process, can_freeze};
use crate::support::scripted::{PONG, frame};
use crate::support::tampered::{Below, Tamper, Tampered};
use crate::support::times::{best_of_three, ms};
use crate::support::waits::{until, within};

const EVERY: Duration = ms(300);
const GIVE_UP_AFTER: Duration = ms(700);
/// The promise, with a tenth more for the machine.
const BOUND: Duration = ms(1100);

async fn server() -> (Process, String) {
    let listen = format!("{}:0", own_loopback());
    // More than any test here has in flight when the server is frozen.
    let settings = [("LISTEN", &*listen), ("REMEMBERED", "10000")];
    let mut process = Process::start(&[], "server", &settings);
    let (_, address) = process.says("listening on ").await;
    (process, address)
}

fn pool(address: &str, connections: usize) -> Pool {
    Pool::builder(address)
        .connections(connections)
        .heartbeat(Heartbeat::every(EVERY).give_up_after(GIVE_UP_AFTER))
        .reconnect(Reconnect::exponential(ms(20), ms(100)))
        .timeouts(Timeouts::default().handshake(ms(200)))
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_is_noticed_on_all_idle_connections_within_the_bound() {
    if !can_freeze() {
        return;
    }
    let (process, address) = server().await;
    let pool = pool(&address, 4);
    best_of_three(BOUND, async || {
        news::connected(&pool, 4).await;
        let mut events = pool.events();
        process.freeze();
        let frozen = Instant::now();
        let mut longest = Duration::ZERO;
        for _ in 0..4 {
            let loss = news::lost(&mut events).await;
            let LossCause::Silent { silent_for, bound } = loss.cause else { panic!("{loss}") };
            assert_eq!(bound, EVERY + GIVE_UP_AFTER);
            assert!(silent_for >= bound, "{loss}");
            longest = longest.max(frozen.elapsed()).max(silent_for);
        }
        process.thaw();
        assert_eq!(within(ms(5000), "it recovers", pool.call("again")).await.unwrap(), "again");
        longest
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_is_noticed_within_the_bound_also_under_constant_sending() {
    if !can_freeze() {
        return;
    }
    let (process, address) = server().await;
    let pool = pool(&address, 1);
    news::connected(&pool, 1).await;
    let mut events = pool.events();
    let (mut calls, answers) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    let calling = async {
        // A thousand calls a second, each with more time than the test has.
        let mut tick = tokio::time::interval(ms(1));
        loop {
            tick.tick().await;
            let (pool, answers) = (pool.clone(), answers.clone());
            calls.spawn(async move {
                let answer = pool.request("on").timeout(ms(30_000)).send().await;
                answers.fetch_add(1, Ordering::Relaxed);
                answer
            });
        }
    };
    let noticing = async {
        best_of_three(BOUND, async || {
            let enough = answers.load(Ordering::Relaxed) + 150;
            until("answers", || answers.load(Ordering::Relaxed) >= enough).await;
            process.freeze();
            let frozen = Instant::now();
            let loss = news::lost(&mut events).await;
            let took = frozen.elapsed();
            assert!(matches!(loss.cause, LossCause::Silent { .. }), "{loss}");
            process.thaw();
            news::ready(&mut events).await;
            took
        })
        .await;
    };
    tokio::select! {
        () = calling => {}
        () = noticing => {}
    }
    let (mut answered, mut indeterminate) = (0, 0);
    let settled = async {
        while let Some(call) = calls.join_next().await {
            match call.unwrap() {
                Ok(_) => answered += 1,
                Err(error) => {
                    assert_eq!(error.outcome(), Outcome::Indeterminate, "{error}");
                    assert!(matches!(error.cause(), CallCause::Lost(_)), "{error}");
                    indeterminate += 1;
                }
            }
        }
    };
    within(ms(5000), "all calls are settled", settled).await;
    // Also those that had left when it was frozen: the same process tells on the new connection what became of them.
    assert!(answered > 200 && indeterminate == 0, "{answered} {indeterminate}");
}

/// A pool that asks after 10 s and gives up 1 s later, and its peers, who say nothing unless the test does.
async fn silent_pool(
    connector: impl Connect,
    switch: &mut Switch,
    connections: usize,
) -> (Pool, Subscription<Event>, Vec<Peer<DuplexStream>>) {
    let pool = Pool::builder("peer:1")
        .connector(connector)
        .connections(connections)
        .heartbeat(Heartbeat::every(ms(10_000)).give_up_after(ms(1000)))
        .build()
        .unwrap();
    let mut events = pool.events();
    let mut peers = Vec::new();
    for _ in 0..connections {
        peers.push(Peer::greet(switch.accept().await).await);
    }
    for _ in 0..connections {
        news::ready(&mut events).await;
    }
    (pool, events, peers)
}

#[tokio::test(start_paused = true)]
async fn when_one_connection_dies_of_silence_its_siblings_are_probed_at_once() {
    let (connector, mut switch) = pipes(4096);
    let (_pool, mut events, mut peers) = silent_pool(connector, &mut switch, 4).await;
    let began = tokio::time::Instant::now();
    // The others have heard something when the first is about to be asked: without a probe they live 9 s longer.
    tokio::time::sleep(ms(9000)).await;
    for peer in &mut peers[1..] {
        peer.say(frame(PONG, &[&[0; 8]])).await;
    }
    let mut times = Vec::new();
    for _ in 0..4 {
        let loss = news::lost(&mut events).await;
        assert!(matches!(loss.cause, LossCause::Silent { .. }), "{loss}");
        times.push(began.elapsed().as_millis());
    }
    // All are asked when the first dies, in parallel: all die one `give_up_after` later.
    assert!(times[0] <= 11_010 && times[1] >= 12_000 && times[3] <= 12_020, "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn siblings_that_answer_the_probe_live_on() {
    let (connector, mut switch) = pipes(4096);
    let (pool, mut events, mut peers) = silent_pool(connector, &mut switch, 3).await;
    let silent = peers.remove(0);
    for peer in peers {
        tokio::spawn(peer.echo());
    }
    let loss = news::lost(&mut events).await;
    assert_eq!(loss.age, ms(11_000));
    // They answer, so they go on.
    let others = tokio::time::timeout(ms(15_000), async {
        while let Some(event) = events.next().await {
            assert!(!matches!(event, Event::Lost { .. }), "{event:?}");
        }
    });
    assert!(others.await.is_err(), "the pool lives");
    assert_eq!(pool.status().ready, 2);
    drop(silent);
}

/// Pipes of which the first ends with an error of the kernel when it is told to.
struct FirstTimesOut {
    pipes: Pipes,
    end: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Connect for FirstTimesOut {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Connecting<'a> {
        let end = self.end.lock().unwrap().take();
        Box::pin(async move {
            let connected = self.pipes.connect(endpoint).await?;
            let Some(end) = end else { return Ok(connected) };
            let transport = Tampered::with(Doomed(end), connected.transport);
            Ok(Connected { transport, ..connected })
        })
    }
}

/// Fails to read once it is told.
struct Doomed(oneshot::Receiver<()>);

impl Tamper for Doomed {
    fn poll_read(
        &mut self,
        below: &mut Below,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll(cx) {
            Poll::Ready(_) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Pin::new(below).poll_read(cx, buffer),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn siblings_are_probed_also_when_the_kernel_was_the_first_to_give_up() {
    let (pipes, mut switch) = pipes(4096);
    let (end, ended) = oneshot::channel();
    let connector = FirstTimesOut { pipes, end: Mutex::new(Some(ended)) };
    let (_pool, mut events, _peers) = silent_pool(connector, &mut switch, 4).await;
    let began = tokio::time::Instant::now();
    tokio::time::sleep(ms(1000)).await;
    end.send(()).unwrap();
    let loss = news::lost(&mut events).await;
    let LossCause::Os(error) = &loss.cause else { panic!("{loss}") };
    assert_eq!(error.name(), Some("ETIMEDOUT"));
    for _ in 0..3 {
        let loss = news::lost(&mut events).await;
        assert!(matches!(loss.cause, LossCause::Silent { .. }), "{loss}");
    }
    // Not 11 s, as they would have lived.
    assert!(began.elapsed() <= ms(2020), "{:?}", began.elapsed());
}
