//! The line is cut at every byte of a call and of its answer, in every way.

use std::time::Instant;

use fastrand::Rng;
use futures::StreamExt as _;
use steadfast::{Pool, Server};

use crate::cutting::{Passed, Tally, cuts};
use crate::journal::{Deed, Served, body, reply};
use crate::series::{Fault, Promise, REQUEST, Series, Story};
use crate::support::proxy::{Cut, Direction, Proxy, Side, Way};
use crate::support::seed;

use Direction::{Replies, Requests};

const WAYS: [Way; 5] =
    [Way::Fin(Side::Both), Way::Fin(Side::Client), Way::Fin(Side::Server), Way::Rst, Way::Silence];
/// For calls so long that there are many bytes to cut at.
const FEW_WAYS: [Way; 3] = [Way::Fin(Side::Both), Way::Rst, Way::Silence];
/// Lines at a time. Most of their time they wait: for a silence to be found out, for a backoff.
const LINES: usize = 48;

/// A small body, in bytes, and the longest part of a long one.
const SMALL: usize = 40;
const PART: usize = 65_536;
/// What the frames cost beside the bodies, and what an error and a refusal cost.
const REPLY: usize = 14;
const ERROR: usize = 17 + "no".len();
const REFUSED: usize = 21;

/// Every byte of a small call, and of its answer.
async fn every_byte_of_a_small_call(promise: Promise, story: Story) -> Tally {
    let series = Series { promise, story, request: SMALL, reply: SMALL };
    let lengths = series.lengths().await;
    let all = |direction| cuts(direction, 0..=lengths.of(direction), &WAYS);
    // A call that will be refused is like others, until it is refused.
    let requests = if story == Story::Refused { Vec::new() } else { all(Requests) };
    series.run([requests, all(Replies)].concat(), LINES).await
}

/// A call of three frames, then an answer of as many: the bytes where frames end and begin, in each way, and some of
/// the others, each time others, in turns.
async fn where_frames_end(promise: Promise) -> Tally {
    const STRIDE: usize = 397;
    let first = Rng::with_seed(seed::any()).usize(..STRIDE);
    long_calls(promise, 2 * PART + 64, LINES, |direction, length| {
        let is_near = |byte: &u64| (byte + 48) % (PART as u64) < 128 || length - byte < 64;
        let near = cuts(direction, (0..=length).filter(is_near), &FEW_WAYS);
        let others = (0..=length).filter(|byte| !is_near(byte)).skip(first).step_by(STRIDE);
        let ways = FEW_WAYS.iter().cycle();
        let others = others.zip(ways).flat_map(|(at, way)| cuts(direction, at..=at, &[*way]));
        near.into_iter().chain(others).collect()
    })
    .await
}

/// Makes calls that are long, then such with long answers, and cuts their long sides.
async fn long_calls(
    promise: Promise,
    long: usize,
    lines: usize,
    cuts: impl Fn(Direction, u64) -> Vec<Fault>,
) -> Tally {
    let small = Series { promise, story: Story::Answered, request: SMALL, reply: SMALL };
    let (up, down) = (Series { request: long, ..small }, Series { reply: long, ..small });
    let mut tally = Tally::new();
    for (series, direction) in [(up, Requests), (down, Replies)] {
        let length = series.lengths().await.of(direction);
        tally.extend(series.run(cuts(direction, length), lines).await);
    }
    tally
}

/// How often each outcome came when that direction was cut there.
fn outcomes(tally: &Tally, direction: Direction, passed: Passed) -> Vec<(&'static str, usize)> {
    let here = |(at, how_much, _): &(_, _, _)| (*at, *how_much) == (direction, passed);
    tally.iter().filter(|(what, _)| here(what)).map(|(what, count)| (what.2, *count)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_retries_the_outcome_of_a_small_call_is_true() {
    let tally = every_byte_of_a_small_call(Promise::Honest, Story::Answered).await;
    let ways = WAYS.len();
    let parts = [(Requests, REQUEST + SMALL), (Replies, REPLY + SMALL)];
    for (direction, bytes) in parts {
        let part = outcomes(&tally, direction, Passed::Part);
        assert_eq!(part, [("indeterminate", bytes * ways)], "{direction:?}");
    }
    assert_eq!(outcomes(&tally, Requests, Passed::Whole), [("indeterminate", ways)]);
    assert_eq!(outcomes(&tally, Replies, Passed::Whole), [("ok", ways)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_retries_an_error_or_a_refusal_counts_if_it_has_come_to_its_last_byte() {
    let answers = [(Story::Failed, "remote", ERROR), (Story::Refused, "refused", REFUSED)];
    for (story, outcome, bytes) in answers {
        let tally = every_byte_of_a_small_call(Promise::Honest, story).await;
        let part = outcomes(&tally, Replies, Passed::Part);
        assert_eq!(part, [("indeterminate", bytes * WAYS.len())]);
        assert_eq!(outcomes(&tally, Replies, Passed::Whole), [(outcome, WAYS.len())]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_retries_the_outcome_of_a_long_call_is_true() {
    let tally = where_frames_end(Promise::Honest).await;
    let ways = FEW_WAYS.len();
    assert_eq!(outcomes(&tally, Requests, Passed::Whole), [("indeterminate", ways)]);
    assert_eq!(outcomes(&tally, Replies, Passed::Part).len(), 1);
    assert_eq!(outcomes(&tally, Replies, Passed::Whole), [("ok", ways)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_reply_cache_every_small_call_is_answered_and_runs_once() {
    for story in [Story::Answered, Story::Failed, Story::Refused] {
        every_byte_of_a_small_call(Promise::Once, story).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_still_runs_when_it_comes_again_is_not_run_again() {
    let (promise, story) = (Promise::Once, Story::AnsweredLate);
    let series = Series { promise, story, request: SMALL, reply: SMALL };
    let whole = series.lengths().await.of(Requests);
    series.run(cuts(Requests, whole..=whole, &WAYS), WAYS.len()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_reply_cache_every_long_call_is_answered_and_runs_once() {
    where_frames_end(Promise::Once).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_idempotent_call_is_answered() {
    for story in [Story::Answered, Story::Failed, Story::Refused] {
        every_byte_of_a_small_call(Promise::AtLeastOnce, story).await;
    }
    where_frames_end(Promise::AtLeastOnce).await;
}

/// A server, a proxy and a pool of its own, with nothing set at all, and one call whose line is cut.
async fn call_with_defaults(cut: Cut) {
    let server = Served::start(Server::builder()).await;
    let proxy = Proxy::to(server.address).await;
    let pool = Pool::builder(proxy.address()).build().unwrap();
    drop(proxy.cut(cut));
    let answer = pool.call(body(1, Deed::Answer, SMALL, SMALL)).await;
    assert_eq!(answer.as_deref(), Ok(&*reply(1, SMALL)), "{cut:?}");
    assert_eq!(proxy.cuts(), 1, "{cut:?}");
    drop(pool);
    assert_eq!(server.end().await.runs(1), 1, "{cut:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_default_settings_a_small_call_is_answered_and_runs_once() {
    let lengths = [(Requests, REQUEST + SMALL), (Replies, REPLY + SMALL)];
    // A silence takes 15 s to be found out by default: that one has its own settings everywhere.
    let ways = &WAYS[..4];
    let cuts = lengths.into_iter().flat_map(|(direction, length)| {
        let bytes = 0..=length as u64;
        bytes.flat_map(move |after| ways.iter().map(move |way| Cut { direction, after, way: *way }))
    });
    let calls = cuts.map(call_with_defaults);
    futures::stream::iter(calls).for_each_concurrent(LINES, |call| call).await;
}

/// 131,000 bytes, twice: minutes of work, so only on demand. Wants a release build. With `STEADFAST_EVERY_BYTE=all` each byte in
/// each way, otherwise each in one of them, in turns that begin anywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_holds_at_every_byte_of_a_long_call() {
    let Some(wanted) = std::env::var_os("STEADFAST_EVERY_BYTE") else {
        return;
    };
    let (turns, first) = match wanted == "all" {
        true => (1, 0),
        false => (FEW_WAYS.len(), Rng::with_seed(seed::any()).usize(..FEW_WAYS.len())),
    };
    for promise in [Promise::Honest, Promise::Once] {
        for (turn, way) in FEW_WAYS.into_iter().enumerate() {
            let began = Instant::now();
            let mine = (first + turn) % turns;
            let all =
                |direction, length| cuts(direction, (0..=length).skip(mine).step_by(turns), &[way]);
            let lines = if way == Way::Silence { 8 * LINES } else { LINES };
            long_calls(promise, PART + 64, lines, all).await;
            println!("{promise:?}, {way:?}: {:?}", began.elapsed());
        }
    }
}
