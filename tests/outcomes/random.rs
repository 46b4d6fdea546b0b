//! Many calls at a time over several lines that are cut anywhere, in any way, while the server process lives on.

use std::time::Duration;

use fastrand::Rng;
use steadfast::{Heartbeat, Pool, Reconnect, ReplyCache, Retry, Server};

use crate::journal::{Deed, Served, body};
use crate::load::Load;
use crate::support::proxy::{Cut, Direction, Proxy, Way};
use crate::support::seed;
use crate::support::times::ms;
use crate::support::waits::until;

const CALLERS: usize = 32;
const CONNECTIONS: usize = 4;
const CUTS: usize = 200;

/// While one line is silent, the answers to all calls on the others are kept, and must not push out those that were lost
/// in that line.
fn roomy() -> ReplyCache {
    ReplyCache::default().calls(100_000).bytes(1 << 30).total_bytes(1 << 30)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_long_as_the_process_lives_cut_lines_cost_no_call_and_run_none_twice() {
    let mut rng = Rng::with_seed(seed::any());
    let heartbeat = Heartbeat::every(ms(50)).give_up_after(ms(100));
    let server = Served::start(Server::builder().heartbeat(heartbeat).reply_cache(roomy())).await;
    let proxy = Proxy::to(server.address).await;
    let pool = Pool::builder(proxy.address())
        .connections(CONNECTIONS)
        .heartbeat(heartbeat)
        .reconnect(Reconnect::exponential(ms(1), ms(5)))
        // Some calls are cut often.
        .retry(Retry::attempts(50))
        .build()
        .unwrap();
    let load = Load::on(&pool, CALLERS);
    for _ in 0..CUTS {
        load.make(rng.u64(..40)).await;
        let bytes = [100, 10_000, 300_000][rng.usize(..3)];
        let held = proxy.cut_any(Cut::any(&mut rng, bytes));
        until("a cut", || !proxy.is_armed()).await;
        let late = ms(rng.u64(..30));
        tokio::spawn(async move {
            if let Ok(held) = held.await {
                tokio::time::sleep(late).await;
                held.deliver().await;
            }
        });
    }
    let account = load.end().await;
    pool.close(Duration::from_secs(10)).await.unwrap();
    let journal = server.end().await;
    account.assert_all_answered_and_run_once(&journal);
    assert_eq!(proxy.cuts(), CUTS);
}

/// A call runs and its answer is lost in a line that has fallen silent; meanwhile the other line goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_was_lost_in_a_silent_line_is_not_pushed_out_by_answers_that_arrived() {
    // How long the silence must last is the machine's affair.
    for give_up_after in [1_500, 6_000, 24_000] {
        if enough_were_answered_in_a_silence_of(ms(give_up_after)).await {
            return;
        }
    }
    panic!("each silence was found out before enough calls were answered");
}

/// False if there was not time for enough of them.
async fn enough_were_answered_in_a_silence_of(give_up_after: Duration) -> bool {
    const KEPT: usize = 100;
    let cache = ReplyCache::default().calls(KEPT);
    let server = Served::start(Server::builder().reply_cache(cache)).await;
    let proxy = Proxy::to(server.address).await;
    let pool = Pool::builder(proxy.address())
        .connections(2)
        .heartbeat(Heartbeat::every(ms(500)).give_up_after(give_up_after))
        .build()
        .unwrap();
    crate::support::news::connected(&pool, 2).await;
    // All bytes of the request pass, and nothing of the answer.
    drop(proxy.cut_any(Cut { direction: Direction::Replies, after: 0, way: Way::Silence }));
    let lost = tokio::spawn({
        let pool = pool.clone();
        let limit = give_up_after + ms(20_000);
        async move { pool.request(body(1, Deed::Answer, 40, 40)).timeout(limit).send().await }
    });
    until("a cut", || !proxy.is_armed()).await;
    // On the line that lives, one after the other; those that go to the silent one are given up.
    let (mut key, mut answered) = (1, 0);
    while answered < KEPT + KEPT / 2 && !lost.is_finished() {
        key += 1;
        let call = pool.request(body(key, Deed::Answer, 40, 40)).timeout(ms(20));
        answered += usize::from(call.send().await.is_ok());
    }
    let is_silent = !lost.is_finished();
    lost.await.unwrap().unwrap();
    assert_eq!(server.end().await.runs(1), 1);
    is_silent
}
