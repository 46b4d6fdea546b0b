//! Bytes of a connection that its client has given up, which reach the server when the client has come back already.

use crate::cutting::{Passed, Tally};
use crate::series::{Delay, Fault, Promise, REQUEST, Series, Story, Until};
use crate::support::proxy::Direction;

const LINES: usize = 24;
const SMALL: usize = 40;
/// A body in three frames.
const LONG: usize = 2 * 65_536 + 64;

fn series(promise: Promise, request: usize) -> Series {
    Series { promise, story: Story::Answered, request, reply: SMALL }
}

/// Delays what comes behind each of these bytes of the call, until the client has come back, and until it is through.
async fn delayed(series: Series, is_chosen: impl Fn(u64) -> bool) -> Tally {
    let length = series.lengths().await.of(Direction::Requests);
    let faults = (0..=length).filter(|byte| is_chosen(*byte)).flat_map(|after| {
        [Until::Resumed, Until::Settled].map(|until| Fault::Delay(Delay { after, until }))
    });
    series.run(faults.collect(), LINES).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_bytes_of_a_call_do_not_run_it_a_second_time() {
    let tally = delayed(series(Promise::Once, SMALL), |_| true).await;
    assert_eq!(tally[&(Direction::Requests, Passed::Part, "ok")], 2 * (REQUEST + SMALL));
    // Where a frame ends, and here and there.
    let chosen = |byte: u64| (byte + 32) % 65_536 < 96 || byte % 4099 == 0;
    delayed(series(Promise::Once, LONG), chosen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_bytes_do_not_run_a_call_that_is_over_for_its_caller() {
    let tally = delayed(series(Promise::Honest, SMALL), |_| true).await;
    assert_eq!(tally[&(Direction::Requests, Passed::Part, "indeterminate")], 2 * (REQUEST + SMALL));
}
