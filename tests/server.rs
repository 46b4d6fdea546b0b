//! The serving end: handlers and their bound, who is turned away, what reaches a handler and what a handler can say.
//!
//! How it ends is in `closing.rs`, what it holds for slow clients in `footprint.rs`.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use steadfast::{
    BindError, Busy, Bytes, Call, CallCause, ConnectCause, ErrorReply, Event, Handler, Limits,
    Outcome, Pool, PushError, Pusher, Reconnect, ReplyCache, Server,
};
use support::local::{pool, start};
use support::scripted::{
    BUSY, CHUNK, GOAWAY, PONG, REFUSED, REJECT, REPLY, REQUEST, cancel, connect, expect,
    expect_fin, frame, hello, join, ping, repeatable, request,
};
use support::waits::{soon, until};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

const MS: Duration = Duration::from_millis(1);

/// Calls in the background.
fn call(
    pool: &Pool,
    body: &'static str,
) -> tokio::task::JoinHandle<Result<Bytes, steadfast::CallError>> {
    let pool = pool.clone();
    tokio::spawn(async move { pool.call(body).await })
}

/// A handler that tells which calls it has begun, and answers each when it is let go.
#[derive(Clone)]
struct Gate {
    begun: mpsc::UnboundedSender<Call>,
    open: Arc<Semaphore>,
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

fn gate() -> (Gate, mpsc::UnboundedReceiver<Call>) {
    let (begun, calls) = mpsc::unbounded_channel();
    let (running, most) = (Arc::default(), Arc::default());
    (Gate { begun, open: Arc::new(Semaphore::new(0)), running, most }, calls)
}

impl Handler for Gate {
    async fn call(&self, call: Call) -> Result<Bytes, ErrorReply> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        let body = call.body().clone();
        self.begun.send(call).unwrap();
        self.open.acquire().await.unwrap().forget();
        self.running.fetch_sub(1, Ordering::SeqCst);
        Ok(body)
    }
}

#[tokio::test]
async fn never_more_handlers_run_than_allowed_and_all_calls_are_answered() {
    let (gate, mut begun) = gate();
    let address = start(Server::builder().handlers(3), gate.clone()).await;
    let pools = [pool(address), pool(address)];
    let calls: Vec<_> = (0..20).map(|n| call(&pools[n % 2], "work")).collect();
    for _ in 0..3 {
        soon("a handler", begun.recv()).await.unwrap();
    }
    until("all calls to be under way", || {
        pools.iter().map(|p| p.status().in_flight).sum::<usize>() == 20
    })
    .await;
    for _ in 3..20 {
        assert!(begun.try_recv().is_err(), "a fourth handler");
        gate.open.add_permits(1);
        soon("the next handler", begun.recv()).await.unwrap();
    }
    gate.open.add_permits(3);
    for call in calls {
        assert_eq!(soon("an answer", call).await.unwrap().unwrap(), "work");
    }
    assert_eq!(gate.most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_slow_handler_holds_up_nobody_elses_reply() {
    let release = Arc::new(Semaphore::new(0));
    let held = release.clone();
    let address = start(Server::builder(), move |call: Call| {
        let held = held.clone();
        async move {
            if call.body() == "slow" {
                held.acquire().await.unwrap().forget();
            }
            Ok(call.into_body())
        }
    })
    .await;
    let pool = pool(address);
    let slow = call(&pool, "slow");
    until("the slow one to be under way", || pool.status().in_flight == 1).await;
    for _ in 0..10 {
        assert_eq!(soon("a fast answer", pool.call("fast")).await.unwrap(), "fast");
    }
    assert!(!slow.is_finished());
    release.add_permits(1);
    assert_eq!(soon("the slow answer", slow).await.unwrap().unwrap(), "slow");
}

#[tokio::test]
async fn a_client_too_many_is_told_when_to_come_again_and_gets_in_when_there_is_room() {
    let wait = 300 * MS;
    let builder = Server::builder().connections(1).busy_retry_after(wait);
    let address = start(builder, |call: Call| async move { Ok(call.into_body()) }).await;
    let first = join(address).await;

    let mut second = connect(address).await;
    second.write_all(&hello(0)).await.unwrap();
    let busy = expect(&mut second, &[BUSY]).await;
    assert_eq!((busy.code(), busy.rest[4..8].to_vec()), (1, 300u32.to_be_bytes().to_vec()));
    expect_fin(&mut second).await;

    let began = Instant::now();
    let third = pool(address);
    let mut events = third.events();
    let call = call(&third, "patient");
    let error = soon("the refusal", async {
        loop {
            if let Some(Event::DialFailed { error, next_in, .. }) = events.next().await {
                assert!(next_in >= wait, "{next_in:?}");
                return error;
            }
        }
    })
    .await;
    let ConnectCause::Busy(busy) = &error.cause else { panic!("{error}") };
    assert_eq!((busy.code, busy.retry_after), (Busy::TOO_MANY, Some(wait)));
    assert!(error.to_string().contains("too many connections"), "{error}");
    drop(first);
    assert_eq!(soon("an answer", call).await.unwrap().unwrap(), "patient");
    // Not brought forward, although a call waited. (Counted from before the refusal: nobody knows how old its event is.)
    assert!(began.elapsed() >= wait, "after {:?}", began.elapsed());
}

#[tokio::test]
async fn versions_and_bounds_of_a_connection_are_kept() {
    let (gate, mut begun) = gate();
    let address = start(Server::builder().in_flight(2), gate.clone()).await;
    let mut stream = connect(address).await;
    let mut from_the_future = hello(0);
    (from_the_future[14], from_the_future[16]) = (2, 3);
    stream.write_all(&from_the_future).await.unwrap();
    let reject = expect(&mut stream, &[REJECT]).await;
    assert_eq!(reject.code(), 1, "{}", reject.text());
    expect_fin(&mut stream).await;

    let mut stream = join(address).await;
    let three = [1, 2, 3].map(|id| request(id, 0, b"work"));
    stream.write_all(&three.concat()).await.unwrap();
    let refused = expect(&mut stream, &[REFUSED, REPLY]).await;
    assert_eq!((refused.kind, refused.id(), refused.code()), (REFUSED, 3, 1));
    gate.open.add_permits(9);
    expect(&mut stream, &[REPLY]).await;
    expect(&mut stream, &[REPLY]).await;
    soon("a handler", begun.recv()).await.unwrap();
    soon("another", begun.recv()).await.unwrap();
    assert!(begun.try_recv().is_err());
}

#[tokio::test]
async fn a_handler_hears_that_its_caller_has_gone() {
    let (gate, mut begun) = gate();
    let address = start(Server::builder(), gate.clone()).await;
    let pool = pool(address);

    let dropped = call(&pool, "dropped");
    let running = soon("a handler", begun.recv()).await.unwrap();
    assert!(!running.is_cancelled());
    dropped.abort();
    soon("the drop to arrive", running.cancelled()).await;

    let expired = pool.request("expired").timeout(500 * MS).send();
    let error = soon("the deadline", expired).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Indeterminate);
    let running = soon("a handler", begun.recv()).await.unwrap();
    soon("the deadline to arrive", running.cancelled()).await;
    // By what the server knows, which has counted from when it read the call.
    until("its time to be up", || running.remaining() == Some(Duration::ZERO)).await;

    let mut stream = join(address).await;
    stream.write_all(&repeatable(1, b"lost")).await.unwrap();
    let running = soon("a handler", begun.recv()).await.unwrap();
    assert_eq!(running.remaining(), None);
    assert!(timeout(20 * MS, running.cancelled()).await.is_err(), "too early");
    drop(stream);
    soon("the loss to arrive", running.cancelled()).await;
    assert!(running.is_cancelled());
}

#[tokio::test]
async fn the_handler_of_a_call_that_may_come_again_hears_of_it_when_its_client_is_forgotten() {
    for (cache, patience) in
        [(ReplyCache::default().age(100 * MS), 100 * MS), (ReplyCache::off(), Duration::ZERO)]
    {
        let (gate, mut begun) = gate();
        let address = start(Server::builder().reply_cache(cache), gate.clone()).await;
        let mut stream = join(address).await;
        stream.write_all(&request(1, 0, b"lost")).await.unwrap();
        let running = soon("a handler", begun.recv()).await.unwrap();
        let lost = Instant::now();
        drop(stream);
        soon("the end of the wait", running.cancelled()).await;
        assert!(lost.elapsed() >= patience, "{:?} {cache:?}", lost.elapsed());
    }
}

#[tokio::test]
async fn a_deadline_reaches_the_handler_of_a_client_that_says_nothing_more() {
    let (gate, mut begun) = gate();
    let address = start(Server::builder(), gate).await;
    let mut stream = join(address).await;
    let began = Instant::now();
    stream.write_all(&request(1, 500, b"work")).await.unwrap();
    let running = soon("a handler", begun.recv()).await.unwrap();
    assert!(!running.is_cancelled());
    soon("the deadline", running.cancelled()).await;
    assert!(running.is_cancelled() && began.elapsed() >= 500 * MS);
    // Not because the client was taken for dead, which takes 15 s.
    assert!(began.elapsed() < 5000 * MS, "{:?}", began.elapsed());
}

#[tokio::test]
async fn work_whose_deadline_has_passed_is_refused_and_does_not_run() {
    let (gate, mut begun) = gate();
    let address = start(Server::builder().handlers(1), gate.clone()).await;
    let mut stream = join(address).await;
    let two = [request(1, 0, b"slow"), request(2, 30, b"in a hurry")];
    stream.write_all(&two.concat()).await.unwrap();
    let running = soon("a handler", begun.recv()).await.unwrap();
    assert_eq!(running.body(), "slow");
    let refused = expect(&mut stream, &[REFUSED, REPLY]).await;
    assert_eq!((refused.kind, refused.id(), refused.code()), (REFUSED, 2, 3));
    gate.open.add_permits(2);
    assert_eq!(expect(&mut stream, &[REPLY]).await.id(), 1);
    // A long one counts from its first frame.
    let (id, due, oldest) = (3u64.to_be_bytes(), 30u32.to_be_bytes(), 1u64.to_be_bytes());
    let first = frame(REQUEST, &[&[1], &id, &due, &oldest, &10u32.to_be_bytes(), b"takes"]);
    stream.write_all(&[first, ping(7)].concat()).await.unwrap();
    // What came before the ping has been read, and from now on its time passes.
    expect(&mut stream, &[PONG]).await;
    tokio::time::sleep(60 * MS).await;
    stream.write_all(&frame(CHUNK, &[&[1], &id, b" long"])).await.unwrap();
    let refused = expect(&mut stream, &[REFUSED, REPLY]).await;
    assert_eq!((refused.kind, refused.id(), refused.code()), (REFUSED, 3, 3));
    stream.write_all(&request(4, 0, b"next")).await.unwrap();
    assert_eq!(soon("a handler", begun.recv()).await.unwrap().body(), "next");
}

#[tokio::test]
async fn requests_that_wait_for_their_turn_are_forgotten_when_they_are_cancelled() {
    let (gate, mut begun) = gate();
    let address = start(Server::builder().handlers(1), gate).await;
    let mut stream = join(address).await;
    stream.write_all(&request(1, 0, b"takes the only turn")).await.unwrap();
    let _running = soon("a handler", begun.recv()).await.unwrap();
    let tasks = tokio::runtime::Handle::current().metrics();
    let before = tasks.num_alive_tasks();
    for id in 2..1000 {
        stream.write_all(&[request(id, 0, &[0; 1000]), cancel(id)].concat()).await.unwrap();
    }
    stream.write_all(&ping(7)).await.unwrap();
    expect(&mut stream, &[PONG]).await;
    until("all that wait to be gone", || tasks.num_alive_tasks() <= before).await;
}

#[tokio::test]
async fn a_panic_in_a_handler_is_an_error_of_that_call_and_of_nothing_else() {
    struct Fragile;
    impl Handler for Fragile {
        async fn call(&self, call: Call) -> Result<Bytes, ErrorReply> {
            assert_ne!(call.body(), "bad", "as the test wants it");
            Ok(call.into_body())
        }
        async fn notified(&self, _: Call) {
            panic!("as the test wants it");
        }
    }
    let address = start(Server::builder().handlers(1), Fragile).await;
    let pool = pool(address);
    for _ in 0..3 {
        let error = soon("an answer", pool.call("bad")).await.unwrap_err();
        let CallCause::Remote(reply) = error.cause() else { panic!("{error}") };
        assert_eq!(reply.code(), ErrorReply::HANDLER_PANICKED);
        assert_eq!(error.outcome(), Outcome::Remote);
        soon("the notification", pool.notify("bad, too")).await.unwrap();
        assert_eq!(soon("an answer", pool.call("good")).await.unwrap(), "good");
    }
}

/// Told of a connection that has ended, and panics the first time.
struct Doorman(mpsc::UnboundedSender<u64>, AtomicUsize);

impl Handler for Doorman {
    async fn call(&self, call: Call) -> Result<Bytes, ErrorReply> {
        Ok(call.connection().to_string().into())
    }

    fn disconnected(&self, connection: u64) {
        self.0.send(connection).unwrap();
        assert_ne!(self.1.fetch_add(1, Ordering::SeqCst), 0, "as the test wants it");
    }
}

#[tokio::test]
async fn a_handler_is_told_of_each_connection_that_has_ended_and_of_none_before() {
    let (told, mut ended) = mpsc::unbounded_channel();
    let server = Server::builder().bind("127.0.0.1:0").await.unwrap();
    let (address, handle) = (server.local_addr().unwrap(), server.handle());
    let served = tokio::spawn(server.serve(Doorman(told, AtomicUsize::new(0))));
    let (mut first, second, mut third) =
        (join(address).await, join(address).await, join(address).await);
    for (stream, number) in [(&mut first, "1"), (&mut third, "3")] {
        stream.write_all(&request(1, 0, b"who am I?")).await.unwrap();
        assert_eq!(expect(stream, &[REPLY]).await.body(), number.as_bytes());
    }
    assert!(ended.try_recv().is_err());
    // Nothing came over it.
    drop(second);
    assert_eq!(soon("the second's end", ended.recv()).await, Some(2));
    drop(first);
    assert_eq!(soon("the first's end", ended.recv()).await, Some(1));
    handle.shutdown(10 * MS);
    soon("the server's end", served).await.unwrap().unwrap();
    assert_eq!(soon("the third's end", ended.recv()).await, Some(3));
    assert_eq!(ended.recv().await, None, "each once");
}

#[tokio::test]
async fn a_handlers_error_and_a_reply_too_long_reach_the_caller() {
    let address = start(Server::builder(), |call: Call| async move {
        match &call.body()[..] {
            b"long" => Ok(vec![0; 1001].into()),
            _ => Err(ErrorReply::new(404, "no such thing")),
        }
    })
    .await;
    let limits = Limits::default().message(1000);
    let pool = Pool::builder(address.to_string()).limits(limits).build().unwrap();
    let error = soon("an answer", pool.call("x")).await.unwrap_err();
    assert_eq!(error.cause(), &CallCause::Remote(ErrorReply::new(404, "no such thing")));
    let error = soon("an answer", pool.call("long")).await.unwrap_err();
    assert!(
        matches!(error.cause(), CallCause::Remote(r) if r.code() == ErrorReply::REPLY_TOO_LONG)
    );
}

/// Keeps what it is notified of, and the last caller's pusher.
#[derive(Clone, Default)]
struct Notes {
    heard: Arc<Mutex<Vec<Bytes>>>,
    pusher: Arc<Mutex<Option<Pusher>>>,
}

impl Handler for Notes {
    async fn call(&self, call: Call) -> Result<Bytes, ErrorReply> {
        let pusher = call.pusher();
        pusher.push(call.body().clone()).map_err(|error| ErrorReply::new(1, error.to_string()))?;
        *self.pusher.lock().unwrap() = Some(pusher);
        Ok("pushed".into())
    }

    async fn notified(&self, notification: Call) {
        self.heard.lock().unwrap().push(notification.into_body());
    }
}

#[tokio::test]
async fn pushes_reach_the_client_and_notifications_the_handler() {
    let notes = Notes::default();
    let address = start(Server::builder(), notes.clone()).await;
    let limits = Limits::default().message(300_000);
    let pool = Pool::builder(address.to_string()).limits(limits).build().unwrap();
    let (mut pushes, mut others) = (pool.pushes(), pool.pushes());
    for body in ["news".into(), Bytes::from(vec![7; 200_000])] {
        assert_eq!(soon("an answer", pool.call(body.clone())).await.unwrap(), "pushed");
        assert_eq!(soon("a push", pushes.next()).await.unwrap(), body);
        assert_eq!(soon("a push", others.next()).await.unwrap(), body);
    }
    let pusher = notes.pusher.lock().unwrap().clone().unwrap();
    pusher.push("after the call").unwrap();
    assert_eq!(soon("a push", pushes.next()).await.unwrap(), "after the call");
    let too_long = pusher.push(vec![0; 300_001]);
    assert_eq!(too_long, Err(PushError::TooLong { length: 300_001, limit: 300_000 }));

    let long = Bytes::from(vec![9; 200_000]);
    soon("the notification", pool.notify("note")).await.unwrap();
    soon("the notification", pool.notify(long.clone())).await.unwrap();
    until("both notifications", || notes.heard.lock().unwrap().len() == 2).await;
    let heard = notes.heard.lock().unwrap().clone();
    assert!(heard.contains(&"note".into()) && heard.contains(&long));

    drop(pool);
    until("the client's end to be noticed", || pusher.push("?") == Err(PushError::Gone)).await;
}

#[tokio::test]
async fn an_idle_connection_is_sent_away_and_no_call_is_hurt() {
    let limit = 60 * MS;
    let address =
        start(
            Server::builder().idle_limit(limit),
            |call: Call| async move { Ok(call.into_body()) },
        )
        .await;
    // The server's clock may run for a while before this thread knows that it has joined.
    let began = Instant::now();
    let mut raw = join(address).await;
    let goodbye = expect(&mut raw, &[GOAWAY]).await;
    assert_eq!(goodbye.code(), 1);
    assert!(began.elapsed() >= limit, "{:?}", began.elapsed());
    expect_fin(&mut raw).await;

    // By default, connections that live less than a second are dialed more and more rarely.
    let reconnect = Reconnect::default().stable_after(Duration::ZERO);
    let pool = Pool::builder(address.to_string()).reconnect(reconnect).build().unwrap();
    let mut events = pool.events();
    // Around the limit again and again, so that calls and goodbyes cross.
    for pause in (0..30).map(|n| limit - 8 * MS + n % 10 * 2 * MS) {
        assert_eq!(soon("an answer", pool.call("hello")).await.unwrap(), "hello");
        tokio::time::sleep(pause).await;
    }
    let mut sent_away = 0;
    while let Some(event) = events.try_next() {
        match event {
            Event::GoingAway { goodbye, .. } => {
                assert_eq!(goodbye.code, 1);
                sent_away += 1;
            }
            Event::Lost { loss, .. } => panic!("{loss}"),
            _ => {}
        }
    }
    assert!(sent_away > 3, "{sent_away}");
}

#[tokio::test]
async fn a_server_that_cannot_have_its_address_says_which_and_why() {
    let first = Server::bind("127.0.0.1:0").await.unwrap();
    let taken = first.local_addr().unwrap();
    let error = Server::bind(taken).await.unwrap_err();
    let BindError::Os { address, error: cause } = &error else { panic!("{error}") };
    assert_eq!((*address, cause.name()), (taken, Some("EADDRINUSE")));
    assert!(error.to_string().contains(&taken.to_string()), "{error}");

    // TEST-NET-1 of RFC 5737: nobody's address.
    let error = Server::bind("192.0.2.1:7000").await.unwrap_err();
    assert!(error.to_string().contains("this host has no such address"), "{error}");

    let error = Server::bind("name.invalid:7000").await.unwrap_err();
    assert!(matches!(error, BindError::Resolve(_)), "{error}");
}

#[tokio::test]
async fn an_address_without_a_port_is_called_that() {
    let error = Server::bind("127.0.0.1").await.unwrap_err().to_string();
    assert!(error.starts_with("cannot listen: the address is no host:port"), "{error}");
}
