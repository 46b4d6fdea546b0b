//! The steadfast client: a pool, callers that know nothing of the server's troubles, and the news of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use steadfast::{BoxError, Bytes, Event, InstanceId, Pool, Subscription};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::ledger::{Ledger, Verdict};
use crate::narrator::{Narrator, ms};
use crate::scene::Phase;

const CALLERS: usize = 16;
const LIMIT: Duration = Duration::from_secs(5);

/// Calls until the story is over.
pub(crate) async fn live(
    address: SocketAddr,
    narrator: Narrator,
    ledger: Arc<Ledger>,
    phases: watch::Receiver<Phase>,
) -> Result<(), BoxError> {
    let mut builder = Pool::builder(address.to_string());
    let news = tokio::spawn(tell(builder.events(), narrator));
    let pool = builder.build()?;
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        callers.spawn(call(caller, pool.clone(), narrator, ledger.clone(), phases.clone()));
    }
    while let Some(ended) = callers.join_next().await {
        ended?;
    }
    pool.close(LIMIT).await?;
    Ok(news.await?)
}

/// One caller: one call after the other, whatever happens.
async fn call(
    caller: usize,
    pool: Pool,
    narrator: Narrator,
    ledger: Arc<Ledger>,
    phases: watch::Receiver<Phase>,
) {
    for number in 0_u64.. {
        if *phases.borrow() == Phase::Over {
            break;
        }
        let body = Bytes::from(format!("call {number} of caller {caller}"));
        let verdict = match pool.request(body.clone()).idempotent().timeout(LIMIT).send().await {
            Ok(reply) if reply == body => Verdict::Ok,
            Ok(reply) => {
                narrator.say("steadfast", format_args!("MIXED UP: {body:?} got {reply:?}"));
                Verdict::MixedUp
            }
            Err(error) => {
                narrator.say("steadfast", format_args!("CALL LOST: {error}"));
                Verdict::Failed(error.outcome())
            }
        };
        ledger.settle(verdict);
    }
}

/// The pool's events in plain words.
async fn tell(mut events: Subscription<Event>, narrator: Narrator) {
    let say = |what: String| narrator.say("steadfast", what);
    let mut lost_at = None;
    let mut failed = 0;
    while let Some(event) = events.next().await {
        match event {
            Event::Lost { loss, .. } if !loss.is_intended() => {
                (lost_at, failed) = (Some(Instant::now()), 0);
                say(format!("lost: {loss}"));
            }
            Event::GoingAway { goodbye, .. } => {
                (lost_at, failed) = (Some(Instant::now()), 0);
                say(format!("the server goes away: {goodbye}"));
            }
            // There are many attempts in an outage; the first tells it all, the others are counted.
            Event::Dialing { attempt: 1, .. } if lost_at.is_some() => say("dials again".into()),
            Event::DialFailed { error, .. } => {
                failed += 1;
                if failed == 1 {
                    say(format!("{error}; goes on trying"));
                }
            }
            Event::InstanceChanged { previous, current } => {
                say(format!("instance changed: {} -> {}", short(previous), short(current)));
            }
            Event::Ready { instance, .. } => say(match (lost_at.take(), instance) {
                (Some(at), _) => {
                    format!("back after {}, {failed} attempts failed", ms(at.elapsed()))
                }
                (None, Some(instance)) => format!("connected to instance {}", short(instance)),
                (None, None) => "connected".into(),
            }),
            _ => {}
        }
    }
}

/// Enough of an id to tell it from another.
fn short(instance: InstanceId) -> String {
    let mut text = instance.to_string();
    text.truncate(8);
    text
}
