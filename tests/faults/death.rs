//! A server that dies in a way that its kernel tells: FIN or RST. It is noticed at once, with no call made.

use std::io::Write as _;
use std::time::{Duration, Instant};

use steadfast::{
    CallCause, Event, Heartbeat, LossCause, OsError, Outcome, Pool, Reconnect, Retry, Subscription,
};
use tokio::net::TcpStream;

use crate::support::loopback::{listen, own_loopback};
use crate::support::news;
use crate::support::peer::{Peer, accept, echo_all};
use crate::support::process::{Process, can_freeze, resets_look_like_ends};
use crate::support::times::{median, ms};
use crate::support::waits::within;

/// The promise: from the arrival of FIN or RST to the loss.
const AT_ONCE: Duration = ms(10);

/// The connections of these tests never live long enough to be called stable: the backoff must not slow them down.
fn pool(address: &str) -> Pool {
    let reconnect = Reconnect::exponential(ms(10), ms(50));
    Pool::builder(address).reconnect(reconnect).build().unwrap()
}

/// Starts a server process; returns where it listens, too.
async fn server(address: &str) -> (Process, String) {
    let mut process = Process::start(&[], "server", &[("LISTEN", address)]);
    let (_, address) = process.says("listening on ").await;
    (process, address)
}

/// The next loss: when it was heard of, the cause, whether a FIN was seen.
async fn lost(events: &mut Subscription<Event>) -> (Instant, LossCause, bool) {
    let loss = news::lost(events).await;
    (Instant::now(), loss.cause.clone(), loss.fin_seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_client_notices_a_killed_server_at_once_and_the_next_call_succeeds() {
    let (mut process, address) = server(&format!("{}:0", own_loopback())).await;
    let pool = pool(&address);
    let mut events = pool.events();
    let mut times = Vec::new();
    for round in 0..5 {
        news::connected(&pool, 1).await;
        let killed = Instant::now();
        process.kill();
        let (noticed, cause, fin_seen) = lost(&mut events).await;
        times.push(noticed - killed);
        assert_eq!((cause, fin_seen), (LossCause::ClosedByPeer, true), "round {round}");
        process.wait();

        // Made while the server is down, and not idempotent: it waits for the connection.
        let next = tokio::spawn({
            let pool = pool.clone();
            async move { pool.call("next").await }
        });
        (process, _) = server(&address).await;
        assert_eq!(next.await.unwrap().unwrap(), "next", "round {round}");
        let changed = news::event(&mut events, "the process is another one", |event| match event {
            Event::InstanceChanged { previous, current } => Some((previous, current)),
            _ => None,
        });
        let (previous, current) = changed.await;
        assert_ne!(previous, current);
    }
    // The best, because it takes the kernel a while to take a process apart on a busy machine.
    assert!(times.iter().min() <= Some(&AT_ONCE), "{times:?}");
}

/// As above, and where the killed process's socket may stay open (Wine's server has it, too): then the heartbeat finds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_process_is_noticed_and_its_successor_is_found() {
    let (mut process, address) = server(&format!("{}:0", own_loopback())).await;
    // Elsewhere it must not be the first to tell, however long a busy machine takes over a death.
    let give_up_after = if resets_look_like_ends() { ms(400) } else { ms(20_000) };
    let heartbeat = Heartbeat::every(ms(200)).give_up_after(give_up_after);
    let reconnect = Reconnect::exponential(ms(10), ms(50));
    let pool = Pool::builder(&*address).heartbeat(heartbeat).reconnect(reconnect).build().unwrap();
    let mut events = pool.events();
    for round in 0..3 {
        news::connected(&pool, 1).await;
        assert_eq!(pool.call("before").await.unwrap(), "before", "round {round}");
        process.kill();
        process.wait();
        let (_, cause, _) = lost(&mut events).await;
        match cause {
            LossCause::ClosedByPeer => {}
            LossCause::Silent { .. } if resets_look_like_ends() => {}
            cause => panic!("{cause}"),
        }
        (process, _) = server(&address).await;
        assert_eq!(pool.call("after").await.unwrap(), "after", "round {round}");
    }
}

/// The story of 10054: a process that was killed, and somebody who writes to it nevertheless.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_to_a_killed_process_gives_a_code_that_has_its_names() {
    let (mut process, address) = server(&format!("{}:0", own_loopback())).await;
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    process.kill();
    process.wait();
    let began = Instant::now();
    let error = loop {
        match stream.write_all(b"is anybody there?") {
            Ok(()) => assert!(began.elapsed() < ms(20_000), "no error"),
            Err(error) => break OsError::from(error),
        }
    };
    let (code, meaning) = match cfg!(windows) {
        true => (10054, "the peer reset the connection (ECONNRESET 104, WSAECONNRESET 10054)"),
        false => (32, "the peer had closed before this was written (EPIPE 32, WSAESHUTDOWN 10058)"),
    };
    // The first of two writes may meet the reset itself.
    if error.name() != Some("ECONNRESET") || cfg!(windows) {
        assert_eq!((error.code(), &*error.meaning().to_string()), (Some(code), meaning));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_with_unread_requests_resets_and_they_are_settled_at_once() {
    if !can_freeze() {
        return;
    }
    let mut times = Vec::new();
    for _ in 0..3 {
        let (mut process, address) = server(&format!("{}:0", own_loopback())).await;
        let pool = pool(&address);
        news::connected(&pool, 1).await;
        let mut events = pool.events();
        process.freeze();
        let call = tokio::spawn({
            let pool = pool.clone();
            let unread = async move { pool.request("unread").retry(Retry::never()).send().await };
            async move { (unread.await, Instant::now()) }
        });
        let sent = async {
            while pool.status().in_flight == 0 {
                tokio::task::yield_now().await;
            }
            // What came after it has left, so it has.
            pool.notify("behind it").await.unwrap();
        };
        within(ms(5000), "the request leaves", sent).await;

        let killed = Instant::now();
        process.kill();
        let (noticed, cause, fin_seen) = lost(&mut events).await;
        let LossCause::Os(error) = &cause else { panic!("{cause}") };
        assert_eq!((error.name(), fin_seen), (Some("ECONNRESET"), false));
        let (answer, settled) = within(ms(5000), "the call is settled", call).await.unwrap();
        let error = answer.unwrap_err();
        assert_eq!(error.outcome(), Outcome::Indeterminate);
        assert!(matches!(error.cause(), CallCause::Lost(loss) if loss.cause == cause), "{error}");
        times.push(noticed.max(settled) - killed);
    }
    assert!(times.iter().min() <= Some(&AT_ONCE), "{times:?}");
}

#[tokio::test]
async fn a_polite_close_is_noticed_at_once() {
    let took = time_to_notice(Close::Politely).await;
    assert!(took <= AT_ONCE, "{took:?}");
}

#[tokio::test]
async fn a_close_with_unread_bytes_is_noticed_at_once() {
    let took = time_to_notice(Close::WithUnreadBytes).await;
    assert!(took <= AT_ONCE, "{took:?}");
}

#[tokio::test]
async fn an_abortive_close_is_noticed_at_once() {
    let took = time_to_notice(Close::WithoutLinger).await;
    assert!(took <= AT_ONCE, "{took:?}");
}

/// Ways to close a socket: the first sends FIN, the others RST.
#[derive(Debug, Clone, Copy)]
enum Close {
    Politely,
    WithUnreadBytes,
    WithoutLinger,
}

impl Close {
    async fn prepare(self, stream: &TcpStream, pool: &Pool) {
        match self {
            Self::Politely => {}
            Self::WithUnreadBytes => {
                pool.notify("nobody reads this").await.unwrap();
                // By a look at it: that a socket is said to be readable can be old news.
                within(ms(5000), "it arrives", stream.peek(&mut [0])).await.unwrap();
            }
            Self::WithoutLinger => {
                socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
        }
    }

    fn check(self, cause: &LossCause, fin_seen: bool) {
        match (self, cause) {
            (Self::Politely, LossCause::ClosedByPeer) => assert!(fin_seen),
            (Self::WithUnreadBytes | Self::WithoutLinger, LossCause::Os(error)) => {
                assert_eq!((error.name(), fin_seen), (Some("ECONNRESET"), false));
            }
            (_, LossCause::ClosedByPeer) if resets_look_like_ends() => {}
            _ => panic!("{self:?} gave {cause}"),
        }
    }
}

/// The median over some rounds, with a call behind them.
async fn time_to_notice(way: Close) -> Duration {
    let (listener, address) = listen().await;
    let pool = pool(&address);
    let mut events = pool.events();
    let mut times = Vec::new();
    for _ in 0..15 {
        let peer = Peer::greet(accept(&listener).await).await;
        news::ready(&mut events).await;
        way.prepare(&peer.stream, &pool).await;
        let closed = Instant::now();
        drop(peer);
        let (noticed, cause, fin_seen) = lost(&mut events).await;
        way.check(&cause, fin_seen);
        times.push(noticed - closed);
    }
    let next = tokio::spawn(async move { pool.call("next").await });
    let echo = tokio::spawn(echo_all(listener));
    assert_eq!(within(ms(10_000), "the next call", next).await.unwrap().unwrap(), "next");
    echo.abort();
    median(times)
}
