//! A real server is killed with SIGKILL in mid-traffic, again and again, and started again on the same port.

use std::sync::atomic::{AtomicUsize, Ordering};

use steadfast::{BoxError, Event, Pool, PoolBuilder, Reconnect, Retry};

use crate::support::daemon::Daemon;
use crate::support::times::ms;
use crate::support::waits::until;
use crate::traffic::{self, Answer};

const KILLS: usize = 10;
/// The answers that each life of the server gives before it is killed.
const ANSWERS: usize = 500;

/// For a server whose lives are short; the backoff is not what this is about.
pub(crate) fn pool(builder: PoolBuilder) -> Pool {
    builder
        .call_timeout(ms(5000))
        .reconnect(Reconnect::exponential(ms(20), ms(200)).stable_after(ms(50)))
        .retry(Retry::attempts(10))
        .build()
        .unwrap()
}

/// Kills it 10 times under 16 callers. `answers` is what counts as a sign of its life.
pub(crate) async fn no_call_fails_and_none_gets_anothers_answer<F, E>(
    pool: Pool,
    server: &mut Daemon,
    answers: &AtomicUsize,
    call: impl Fn(usize) -> F + Clone + Send + 'static,
) where
    F: Future<Output = Result<Answer, E>> + Send,
    E: Into<BoxError>,
{
    let mut events = pool.events();
    let more = async || {
        let before = answers.load(Ordering::Relaxed);
        until("answers", || answers.load(Ordering::Relaxed) >= before + ANSWERS).await;
    };
    let kills = async {
        for _ in 0..KILLS {
            more().await;
            server.kill().unwrap();
            server.restart().await.unwrap();
        }
        more().await;
    };
    let ((), account) = traffic::during(kills, 16, call).await;

    assert!(account.is_clean(), "{account}: {:?}", account.failed);
    assert!(account.longest < ms(5000), "{account}");
    pool.close(ms(5000)).await.unwrap();
    let (mut losses, mut lives) = (Vec::new(), 0);
    while let Some(event) = events.next().await {
        if let Event::Lost { loss, .. } = &event {
            // A process that dies closes its sockets one after the other. Over a connection that its listener took
            // meanwhile nothing ever comes.
            lives += usize::from(loss.bytes_in > 0);
            losses.push(event.to_string());
        }
    }
    assert_eq!(lives, KILLS, "{losses:#?}");
}
