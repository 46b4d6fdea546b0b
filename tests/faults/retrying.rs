//! What is tried again and what is not, end to end, against servers that follow a script.

use steadfast::{
    Bytes, CallCause, CallError, Event, Limits, Outcome, Overload, Pool, Refusal, Retry, Stopped,
};
use tokio::io::{AsyncReadExt as _, DuplexStream};
use tokio::task::JoinHandle;

use crate::support::news;
use crate::support::peer::Peer;
use crate::support::pipes::{Switch, pipes, pool_over};
use crate::support::scripted::{Frame, GOAWAY, PING, PONG, go_away, refused, refused_for, reply};
use crate::support::times::ms;
use crate::support::waits::{soon, until};

type Answer = Result<Bytes, CallError>;

fn pool(connections: usize, retry: Retry) -> (Pool, Switch) {
    pool_over(65_536, connections, retry)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Once,
    Idempotent,
}

fn call(pool: &Pool, kind: Kind, body: impl Into<Bytes>) -> JoinHandle<Answer> {
    let (pool, body) = (pool.clone(), body.into());
    tokio::spawn(async move {
        let request = pool.request(body);
        match kind {
            Kind::Once => request.send().await,
            Kind::Idempotent => request.idempotent().send().await,
        }
    })
}

async fn peer(switch: &mut Switch) -> Peer<DuplexStream> {
    Peer::greet(switch.accept().await).await
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_never_sent_is_sent_again_silently() {
    // The pipe is so narrow that the last byte cannot leave.
    let (pool, mut switch) = pool_over(100, 1, Retry::never());
    let body = Bytes::from(vec![b'x'; 1000]);
    let call = call(&pool, Kind::Once, body.clone());
    for _ in 0..5 {
        let mut first = peer(&mut switch).await;
        let mut begun = [0; 300];
        first.stream.read_exact(&mut begun).await.unwrap();
    }
    let mut last = peer(&mut switch).await;
    let request = last.request().await.unwrap();
    // It is nobody's second copy, so it does not claim to be.
    assert_eq!((&request.body, request.resent, request.repeatable), (&body, false, false));
    last.say(reply(request.id, b"done")).await;
    assert_eq!(call.await.unwrap().unwrap(), "done");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_may_have_run_is_sent_again_only_if_it_is_idempotent() {
    let (pool, mut switch) = pool(1, Retry::default());
    let once = call(&pool, Kind::Once, "once");
    let again = call(&pool, Kind::Idempotent, "again");
    let mut first = peer(&mut switch).await;
    let requests = [first.request().await.unwrap(), first.request().await.unwrap()];
    assert_eq!(requests.each_ref().map(|request| request.resent), [false, false]);
    drop(first);

    let error = once.await.unwrap().unwrap_err();
    assert_eq!(
        (error.outcome(), error.stopped()),
        (Outcome::Indeterminate, Stopped::NotIdempotent)
    );
    assert!(matches!(error.cause(), CallCause::Lost(loss) if loss.connection == 1), "{error}");
    assert!(!error.is_safe_to_retry());

    let mut second = peer(&mut switch).await;
    let request = second.request().await.unwrap();
    let before = requests.iter().find(|request| request.body == "again").unwrap();
    assert_eq!((&*request.body, request.id), (b"again".as_slice(), before.id));
    assert!(request.resent && request.repeatable);
    second.say(reply(request.id, b"done")).await;
    assert_eq!(again.await.unwrap().unwrap(), "done");
    // The other one is never seen again.
    tokio::time::sleep(ms(1000)).await;
    drop(pool);
    assert_eq!(second.request().await, None);
}

#[tokio::test(start_paused = true)]
async fn an_idempotent_call_is_tried_so_often_and_no_more() {
    let (pool, mut switch) = pool(1, Retry::attempts(4));
    let call = call(&pool, Kind::Idempotent, "kills the server");
    for _ in 0..4 {
        peer(&mut switch).await.request().await.unwrap();
    }
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(
        (error.outcome(), error.stopped()),
        (Outcome::Indeterminate, Stopped::AttemptsSpent)
    );
    assert_eq!(error.attempts(), 4);
    assert!(error.to_string().contains("given up after 4 attempts in "), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_is_tried_at_once_on_another_connection() {
    let (pool, mut switch) = pool(2, Retry::default());
    let mut events = pool.events();
    let mut peers = [peer(&mut switch).await, peer(&mut switch).await];
    for _ in 0..2 {
        news::ready(&mut events).await;
    }
    for turn in 0..4 {
        let call = call(&pool, Kind::Once, "hello");
        let [one, other] = &mut peers;
        let (request, refuser, taker) = tokio::select! {
            request = one.request() => (request.unwrap(), one, other),
            request = other.request() => (request.unwrap(), other, one),
        };
        let answered = tokio::time::Instant::now();
        refuser.say(refused(request.id, Refusal::OVERLOADED)).await;
        let again = tokio::select! {
            again = taker.request() => again.unwrap(),
            again = refuser.request() => panic!("turn {turn}: the refuser got {again:?}"),
        };
        assert!(answered.elapsed() < ms(2), "turn {turn}: not at once");
        assert!(again.id > request.id && !again.resent, "it has not run under its first id");
        taker.say(reply(again.id, b"done")).await;
        assert_eq!(call.await.unwrap().unwrap(), "done");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_another_attempt_cannot_change_is_final() {
    let (pool, mut switch) = pool(1, Retry::default());
    let mut peer = peer(&mut switch).await;
    for code in [Refusal::EXPIRED, Refusal::UNKNOWN, Refusal::TOO_LONG] {
        let call = call(&pool, Kind::Idempotent, "hello");
        let request = peer.request().await.unwrap();
        peer.say(refused(request.id, code)).await;
        let error = call.await.unwrap().unwrap_err();
        assert_eq!((error.outcome(), error.stopped()), (Outcome::Refused, Stopped::Final));
        assert_eq!(error.attempts(), 1);
        assert!(matches!(error.cause(), CallCause::Refused(refusal) if refusal.code == code));
    }
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_a_goaway_move_and_those_within_it_finish_where_they_are() {
    let (pool, mut switch) = pool(1, Retry::default());
    let mut events = pool.events();
    let mut old = peer(&mut switch).await;
    let first = call(&pool, Kind::Once, "accepted");
    let accepted = old.request().await.unwrap();
    let others = ["b", "c", "d"].map(|body| call(&pool, Kind::Once, body));
    for _ in 0..3 {
        old.request().await.unwrap();
    }
    old.say(go_away(0, 1, 0, "")).await;
    let goodbye = news::event(&mut events, "it goes away", |event| match event {
        Event::GoingAway { connection: 1, goodbye, .. } => Some(goodbye),
        _ => None,
    });
    assert_eq!(goodbye.await.accepted, 1);

    let mut new = peer(&mut switch).await;
    for _ in 0..3 {
        let request = new.request().await.unwrap();
        assert!(!request.resent, "it has not run");
        new.say(reply(request.id, &request.body)).await;
    }
    for (call, body) in others.into_iter().zip(["b", "c", "d"]) {
        assert_eq!(call.await.unwrap().unwrap(), body);
    }
    // The old connection lives until its last call is answered, and ends with FIN.
    assert!(!first.is_finished());
    old.say(reply(accepted.id, b"late")).await;
    assert_eq!(first.await.unwrap().unwrap(), "late");
    assert_eq!(frames_to_the_end(&mut old).await, []);
}

/// What the client says before it closes, heartbeats and goodbyes left out.
async fn frames_to_the_end(peer: &mut Peer<DuplexStream>) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(frame) = peer.frame().await {
        if !matches!(frame.kind, PING | PONG | GOAWAY) {
            frames.push(frame);
        }
    }
    frames
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_stops_retries_and_the_error_says_so() {
    // One retry to begin with, and one more for every second success.
    let retry = Retry::attempts(100).budget(0.5).floor(0.1);
    let (pool, mut switch) = pool(1, retry);
    let doomed = call(&pool, Kind::Idempotent, "doomed");
    for _ in 0..2 {
        peer(&mut switch).await.request().await.unwrap();
    }
    let error = doomed.await.unwrap().unwrap_err();
    assert_eq!((error.outcome(), error.stopped()), (Outcome::Indeterminate, Stopped::BudgetSpent));
    assert_eq!(error.attempts(), 2);
    assert!(error.to_string().contains("the retry budget is spent"), "{error}");

    let mut good = peer(&mut switch).await;
    for _ in 0..2 {
        let call = call(&pool, Kind::Once, "fine");
        let request = good.request().await.unwrap();
        good.say(reply(request.id, b"")).await;
        call.await.unwrap().unwrap();
    }
    let saved = call(&pool, Kind::Idempotent, "saved");
    good.request().await.unwrap();
    drop(good);
    tokio::spawn(peer(&mut switch).await.echo());
    assert_eq!(saved.await.unwrap().unwrap(), "saved");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_calls_in_flight_do_not_become_a_storm_of_retries() {
    let (pool, mut switch) = pool(1, Retry::default());
    let calls: Vec<_> = (0..1000).map(|_| call(&pool, Kind::Idempotent, "all at once")).collect();
    let mut first = peer(&mut switch).await;
    for _ in 0..1000 {
        first.request().await.unwrap();
    }
    drop(first);
    tokio::spawn(peer(&mut switch).await.echo());
    let mut outcomes = Outcomes::default();
    for call in calls {
        outcomes.count(call.await.unwrap());
    }
    // The floor has saved up ten retries, no call has succeeded yet, and time goes on for a moment.
    assert!((10..=12).contains(&outcomes.answered), "{outcomes:?}");
    assert_eq!(outcomes.budget_spent, 1000 - outcomes.answered, "{outcomes:?}");
}

#[derive(Debug, Default)]
struct Outcomes {
    answered: u32,
    budget_spent: u32,
}

impl Outcomes {
    fn count(&mut self, answer: Answer) {
        match answer {
            Ok(_) => self.answered += 1,
            Err(error) if error.stopped() == Stopped::BudgetSpent => self.budget_spent += 1,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn retries_end_at_the_one_deadline_of_the_call() {
    let (pool, mut switch) = pool(1, Retry::attempts(100));
    let began = tokio::time::Instant::now();
    let call =
        tokio::spawn(
            async move { pool.request("doomed").idempotent().timeout(ms(3000)).send().await },
        );
    let dying = async {
        while peer(&mut switch).await.request().await.is_some() {
            tokio::time::sleep(ms(900)).await;
        }
    };
    let error = tokio::select! {
        answer = call => answer.unwrap().unwrap_err(),
        () = dying => panic!("the pool closed"),
    };
    let elapsed = began.elapsed();
    assert!((ms(1000)..=ms(3001)).contains(&elapsed), "{elapsed:?}");
    assert_eq!(error.outcome(), Outcome::Indeterminate, "{error}");
    assert!(error.attempts() > 1, "{error}");
}

/// Whatever the server or the backoff had wished, and whether or not an earlier attempt may have run.
#[tokio::test(start_paused = true)]
async fn closing_the_pool_ends_the_wait_between_two_attempts() {
    for (kind, expected) in
        [(Kind::Once, Outcome::Refused), (Kind::Idempotent, Outcome::Indeterminate)]
    {
        let (pool, mut switch) = pool(1, Retry::default());
        let call = call(&pool, kind, "hello");
        if kind == Kind::Idempotent {
            peer(&mut switch).await.request().await.unwrap();
        }
        let mut peer = peer(&mut switch).await;
        let id = peer.request().await.unwrap().id;
        peer.say(refused_for(id, Refusal::OVERLOADED, 9000)).await;
        until("it waits", || pool.status().in_flight == 0).await;
        let began = tokio::time::Instant::now();
        let (closed, answer) = tokio::join!(pool.close(ms(5000)), async {
            drop(peer);
            (call.await.unwrap(), began.elapsed())
        });
        closed.unwrap();
        let (error, elapsed) = (answer.0.unwrap_err(), answer.1);
        assert_eq!((error.outcome(), error.cause()), (expected, &CallCause::Closed));
        assert!(elapsed < ms(10), "{elapsed:?}");
    }
}

/// The line of one connection is full of bytes that its peer does not take. That is no reason to fail while another has
/// room, and one to fail at once when none has.
#[tokio::test(start_paused = true)]
async fn a_call_for_which_one_connection_is_too_full_goes_to_another() {
    let (connector, mut switch) = pipes(100);
    let limits = Limits::default().message(1 << 20).queued_bytes(1 << 20);
    let pool = Pool::builder("peer:1").connector(connector).connections(2).limits(limits);
    let pool = pool.build().unwrap();
    let mut peers = [peer(&mut switch).await, peer(&mut switch).await];
    until("both", || pool.status().ready == 2).await;
    // Equals take turns, so the next call goes to the other one.
    let probe = call(&pool, Kind::Once, "probe");
    let [one, other] = &mut peers;
    let (request, reads) = tokio::select! {
        request = one.request() => (request.unwrap(), one),
        request = other.request() => (request.unwrap(), other),
    };
    reads.say(reply(request.id, b"")).await;
    probe.await.unwrap().unwrap();
    let big = Bytes::from(vec![b'x'; 900_000]);
    let mut calls = Vec::new();
    for (body, in_flight) in [(&big, 1), (&"a".into(), 2), (&"b".into(), 3), (&"c".into(), 4)] {
        calls.push(call(&pool, Kind::Once, body.clone()));
        until("it is under way", || pool.status().in_flight == in_flight).await;
    }
    // The deaf one has fewer calls now.
    calls.remove(2).abort();
    until("it is given up", || pool.status().in_flight == 3).await;

    let moved = call(&pool, Kind::Once, big.clone());
    for body in ["a", "c"] {
        assert_eq!(soon("it", reads.request()).await.unwrap().body, body);
    }
    let request = soon("the one that moved", reads.request()).await.unwrap();
    assert_eq!(request.body.len(), 65_536);
    let error = pool.call(big).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent);
    let full = CallCause::Overloaded(Overload::Bytes { limit: 1 << 20 });
    assert_eq!(error.cause(), &full);
    reads.say(reply(request.id, b"moved")).await;
    assert_eq!(moved.await.unwrap().unwrap(), "moved");
}
