//! From a name to a connection: each phase that fails, or hangs, has its own error, with its cause, in its own time.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use steadfast::{
    Began, BoxError, CallCause, ConfigError, Connect, ConnectCause, ConnectError, Connecting,
    Conversation, Endpoint, EndpointError, OsError, Outcome, Permanent, Phase, Pool, ReadyError,
    Reconnect, Rejection, Timeouts,
};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::support::loopback::{dead_port, listen, own_loopback};
use crate::support::news;
use crate::support::peer::{Peer, accept};
use crate::support::pipes::pipes;
use crate::support::process::Process;
use crate::support::scripted::{ERROR, frame, go_away, reject, reply};
use crate::support::times::ms;
use crate::support::waits::within;

/// So late a busy machine may wake who has waited for a time-out. Without one of its own each phase would take 5 s or more.
const LATE: Duration = ms(2000);

/// A pool over pipes. Its first attempts come quickly one after the other.
fn pool(connector: impl Connect) -> Pool {
    let reconnect = Reconnect::exponential(ms(10), ms(100));
    Pool::builder("peer:1").connector(connector).reconnect(reconnect).build().unwrap()
}

/// The failure of a pool's first attempt, which [`Pool::ready`] must name as well.
async fn first_failure(pool: &Pool) -> Arc<ConnectError> {
    let (error, _) = news::dial_failed(&mut pool.events()).await;
    let Err(ReadyError::Unavailable(outage)) = pool.ready(Duration::ZERO).await else {
        panic!("it cannot be ready");
    };
    assert_eq!((outage.attempts, outage.last.as_ref()), (1, Some(&error)));
    assert!(matches!(outage.began, Began::NeverConnected));
    error
}

#[tokio::test]
async fn a_bad_endpoint_is_refused_before_anything_is_dialed() {
    for (endpoint, expected) in [
        ("", EndpointError::Empty),
        ("orders .intranet:7000", EndpointError::Blank { at: 6 }),
        ("orders.intranet:7000 ", EndpointError::Blank { at: 20 }),
        ("orders.intranet", EndpointError::NoPort),
        ("orders.intranet:", EndpointError::NoPort),
        (":7000", EndpointError::NoHost),
    ] {
        let error = Pool::builder(endpoint).build().unwrap_err();
        let ConfigError::Endpoint { endpoint: named, cause } = error else { panic!("{error}") };
        assert_eq!((&*named, cause), (endpoint, expected));
    }
}

#[tokio::test]
async fn an_unresolvable_name_fails_in_its_phase_with_the_resolvers_words() {
    // RFC 6761, section 6.4: no resolver knows a name in `invalid`.
    let timeouts = Timeouts::default().resolve(ms(4000));
    let pool = Pool::builder("name.invalid:7000").timeouts(timeouts).build().unwrap();
    let error = first_failure(&pool).await;
    assert_eq!((error.phase, error.address), (Phase::Resolve, None));
    assert!(error.took < ms(4000) + LATE, "{error}");
    match &error.cause {
        ConnectCause::Os(cause) => {
            // Elsewhere than on Windows it is the standard library that speaks.
            assert!(cfg!(windows) || cause.to_string().contains("lookup"), "{error}");
            let name = cause.name().expect("one of the usual C libraries");
            assert!(name.starts_with("EAI_") && error.to_string().contains(name), "{error}");
            let below = error.source().and_then(|source| source.downcast_ref::<OsError>());
            assert_eq!(below, Some(cause));
        }
        // Where the resolver itself does not answer.
        cause => assert_eq!(*cause, ConnectCause::TimedOut { limit: ms(4000) }),
    }
}

#[tokio::test]
async fn a_refused_port_is_told_with_its_code() {
    let (_port, address) = dead_port();
    let pool = Pool::builder(address.to_string()).build().unwrap();
    let error = first_failure(&pool).await;
    assert_eq!((error.phase, error.address), (Phase::Connect, Some(address)));
    let ConnectCause::Os(cause) = &error.cause else { panic!("{error}") };
    let code = if cfg!(windows) { 10061 } else { 111 };
    assert_eq!((cause.name(), cause.code()), (Some("ECONNREFUSED"), Some(code)));
    assert!(!error.is_permanent());
}

#[tokio::test]
async fn a_dial_that_hangs_is_given_up_after_its_own_time_out() {
    // A listener whose backlog is full drops every further SYN.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from((own_loopback(), 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut full = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, ms(100)) {
        full.push(stream);
    }
    let limit = ms(300);
    let timeouts = Timeouts::default().connect(limit);
    let pool = Pool::builder(address.to_string()).timeouts(timeouts).build().unwrap();
    let error = first_failure(&pool).await;
    assert_eq!((error.phase, &error.cause), (Phase::Connect, &ConnectCause::TimedOut { limit }));
    assert_eq!(error.address, Some(address));
    assert!((limit..limit + LATE).contains(&error.took), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_hangs_or_panics_hurts_nobody_else() {
    struct Hangs;
    impl Connect for Hangs {
        fn connect<'a>(&'a self, _: &'a Endpoint) -> Connecting<'a> {
            Box::pin(std::future::pending())
        }
    }
    struct Panics;
    impl Connect for Panics {
        fn connect<'a>(&'a self, _: &'a Endpoint) -> Connecting<'a> {
            panic!("a connector's own bug")
        }
    }
    let hung = pool(Hangs);
    let Err(ReadyError::Unavailable(outage)) = hung.ready(ms(5000)).await else { panic!() };
    assert_eq!((outage.attempts, outage.last.as_ref(), outage.lasted), (0, None, ms(5000)));
    assert!(outage.to_string().ends_with("the first attempt is under way"), "{outage}");
    within(ms(100), "it can be closed", hung.close(ms(50))).await.unwrap();

    let error = first_failure(&pool(Panics)).await;
    assert_eq!((error.phase, &error.cause), (Phase::Connect, &ConnectCause::ConnectorPanicked));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_after_the_handshakes_time_out() {
    let (listener, address) = listen().await;
    let limit = ms(300);
    let timeouts = Timeouts::default().handshake(limit);
    let pool = Pool::builder(address.clone()).timeouts(timeouts).build().unwrap();
    let _stream = accept(&listener).await;
    let Err(ReadyError::Unavailable(outage)) = pool.ready(limit / 2).await else { panic!() };
    assert!(outage.to_string().ends_with("has not answered the handshake yet"), "{outage}");
    assert_eq!(outage.connected.unwrap().to_string(), address);
    let error = first_failure(&pool).await;
    assert_eq!((error.phase, &error.cause), (Phase::Handshake, &ConnectCause::TimedOut { limit }));
    assert_eq!(error.address.unwrap().to_string(), address);
    assert!((limit..limit + LATE).contains(&error.took), "{error}");
}

#[tokio::test]
async fn a_server_that_closes_instead_of_answering_is_told_from_one_that_is_not_there() {
    let (listener, address) = listen().await;
    let pool = Pool::builder(address).build().unwrap();
    let closing = async {
        let mut peer = Peer::new(accept(&listener).await);
        peer.hello().await;
    };
    let (error, ()) = tokio::join!(first_failure(&pool), closing);
    assert_eq!((error.phase, &error.cause), (Phase::Handshake, &ConnectCause::ClosedByPeer));
    assert!(!error.is_permanent());
}

/// What becomes of a call that waits, and has all the time in the world, when the server answers `HELLO` so.
async fn answered_with(answer: Vec<u8>) -> ConnectCause {
    let (connector, mut switch) = pipes(4096);
    let pool = pool(connector);
    let mut events = pool.events();
    let call = tokio::spawn({
        let pool = pool.clone();
        async move { pool.request("waits").timeout(ms(3_600_000)).send().await }
    });
    let mut peer = Peer::new(switch.accept().await);
    peer.hello().await;
    peer.say(answer).await;
    let error = within(ms(10), "the call fails at once", call).await.unwrap().unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent);
    let CallCause::Unavailable(outage) = error.cause() else { panic!("{error}") };
    let last = outage.last.as_ref().unwrap();
    assert_eq!(last.phase, Phase::Handshake);
    assert!(last.is_permanent() && outage.is_permanent(), "{error}");
    // So does everybody who comes later, whether they would wait or not, and who waits for the pool.
    let later = within(ms(10), "a later call fails at once", pool.call("later")).await;
    assert!(matches!(later.unwrap_err().cause(), CallCause::Unavailable(_)));
    let ready = within(ms(10), "ready fails at once", pool.ready(ms(60_000))).await;
    assert!(matches!(ready, Err(ReadyError::Unavailable(_))));

    // It is dialed all the same: somebody may mend the server.
    tokio::spawn(Peer::greet(switch.accept().await).await.echo());
    news::ready(&mut events).await;
    assert_eq!(pool.call("again").await.unwrap(), "again");
    last.cause.clone()
}

#[tokio::test(start_paused = true)]
async fn what_does_not_speak_the_protocol_fails_waiting_calls_at_once() {
    for (answer, expected, told) in [
        (
            b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec(),
            "frame of 1213486160 bytes exceeds the limit of 65600",
            r#"it began with "HTTP/1.1 400 Bad", as HTTP does"#,
        ),
        (vec![0; 64], "empty frame", r#"it began with "\x00\x00\x00"#),
        (
            reply(1, b"nobody asked"),
            "unexpected REPLY",
            r#"it began with "\x00\x00\x00\x16\x11\x00"#,
        ),
    ] {
        let cause = answered_with(answer.clone()).await;
        assert!(cause.to_string().contains(told), "{cause}");
        let ConnectCause::Violation { violation, opening } = cause else { panic!("{cause}") };
        assert_eq!((&*violation.to_string(), opening.as_bytes()), (expected, &answer[..16]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_rejects_the_client_fails_waiting_calls_at_once() {
    let cause = answered_with(reject(3, "not on the list")).await;
    let ConnectCause::Rejected(rejection) = cause else { panic!("{cause}") };
    assert_eq!((rejection.code, &*rejection.text), (Rejection::NOT_ALLOWED, "not on the list"));
}

/// What a hook does at its first, second ... attempt.
async fn hook(mut conversation: Conversation, attempt: u32) -> Result<(), BoxError> {
    match attempt {
        0 => return Err("the password is wrong".into()),
        1 => panic!("a hook's own bug"),
        2 => std::future::pending().await,
        3 => drop(conversation.call("log in, and lose the connection").await),
        _ => drop(conversation.call("log in").await?),
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_fails_panics_hangs_or_loses_its_connection_is_told_and_tried_again() {
    let (connector, mut switch) = pipes(4096);
    let attempts = Arc::new(AtomicU32::new(0));
    let pool = Pool::builder("peer:1")
        .connector(connector)
        .reconnect(Reconnect::exponential(ms(10), ms(100)))
        .on_connect(move |conversation| {
            hook(conversation, attempts.fetch_add(1, Ordering::Relaxed))
        })
        .build()
        .unwrap();
    let mut events = pool.events();
    // Nothing of this may go out before the hook has succeeded.
    let call = tokio::spawn({
        let pool = pool.clone();
        async move { pool.request("waits").timeout(ms(60_000)).send().await }
    });
    let mut causes = Vec::new();
    for attempt in 0..4 {
        let mut peer = Peer::greet(switch.accept().await).await;
        match attempt {
            3 => assert_eq!(peer.request().await.unwrap().body, "log in, and lose the connection"),
            _ => assert_eq!(peer.request().await, None, "attempt {attempt}"),
        }
        drop(peer);
        let (error, _) = news::dial_failed(&mut events).await;
        assert_eq!(error.phase, Phase::Hook);
        causes.push(error);
    }
    let ConnectCause::Hook(failed) = &causes[0].cause else { panic!("{}", causes[0]) };
    assert_eq!(failed.as_error().to_string(), "the password is wrong");
    assert!(causes[0].to_string().ends_with(": the password is wrong"), "{}", causes[0]);
    assert_eq!(causes[1].cause, ConnectCause::HookPanicked);
    let limit = Duration::from_secs(10);
    assert_eq!(causes[2].cause, ConnectCause::TimedOut { limit });
    assert!((limit..limit + ms(100)).contains(&causes[2].took), "{}", causes[2]);
    assert!(matches!(causes[3].cause, ConnectCause::Lost(_)), "{}", causes[3]);

    let mut peer = Peer::greet(switch.accept().await).await;
    let login = peer.request().await.unwrap();
    assert_eq!(login.body, "log in");
    peer.say(reply(login.id, b"welcome")).await;
    tokio::spawn(peer.echo());
    assert_eq!(call.await.unwrap().unwrap(), "waits");
}

/// Calls need not wait until their deadlines for a password that stays wrong.
#[tokio::test(start_paused = true)]
async fn a_hook_that_calls_its_error_permanent_fails_waiting_calls_at_once_until_it_succeeds() {
    let (connector, mut switch) = pipes(4096);
    let attempts = AtomicU32::new(0);
    let pool = Pool::builder("peer:1")
        .connector(connector)
        .on_connect(move |_| {
            let result = match attempts.fetch_add(1, Ordering::Relaxed) {
                0 => Err("the password store is locked".into()),
                1 => Err(Permanent::new(std::io::Error::other("the password is wrong")).into()),
                _ => Ok(()),
            };
            std::future::ready(result)
        })
        .build()
        .unwrap();
    let mut events = pool.events();
    let call = tokio::spawn({
        let pool = pool.clone();
        async move { pool.request("waits").timeout(ms(600_000)).send().await }
    });
    // One that may mend by itself is waited for.
    let _first = Peer::greet(switch.accept().await).await;
    let (error, _) = news::dial_failed(&mut events).await;
    assert!(!error.is_permanent(), "{error}");
    assert_eq!(pool.status().waiting, 1);

    let _second = Peer::greet(switch.accept().await).await;
    let began = tokio::time::Instant::now();
    let error = call.await.unwrap().unwrap_err();
    let CallCause::Unavailable(outage) = error.cause() else { panic!("{error}") };
    let last = outage.last.as_ref().expect("an attempt");
    let ConnectCause::Hook(cause) = &last.cause else { panic!("{last}") };
    assert!(last.is_permanent() && cause.is_permanent() && outage.is_permanent());
    // As the hook made it.
    assert!(cause.as_error().is::<std::io::Error>());
    assert!(error.to_string().contains("failed after 0 ms: the password is wrong"), "{error}");
    assert_eq!(pool.call("another").await.unwrap_err().outcome(), Outcome::NotSent);
    assert!(pool.ready(ms(600_000)).await.is_err());
    assert!(began.elapsed() < ms(1000), "{:?}", began.elapsed());

    // Somebody has put it right.
    let peer = Peer::greet(switch.accept().await).await;
    news::ready(&mut events).await;
    tokio::spawn(peer.echo());
    assert_eq!(pool.call("at last").await.unwrap(), "at last");
}

/// Many servers close after a failed log-in. What the hook has heard by then says more than the closing.
#[tokio::test(start_paused = true)]
async fn a_server_that_says_no_and_closes_in_one_breath_is_understood_by_the_hook() {
    for turn in 0..20 {
        let (connector, mut switch) = pipes(4096);
        let pool = Pool::builder("peer:1")
            .connector(connector)
            .on_connect(|mut conversation| async move {
                conversation.call("log in").await.map(drop).map_err(|error| match error.outcome() {
                    Outcome::Remote => Permanent::new(error).into(),
                    _ => BoxError::from(error),
                })
            })
            .build()
            .unwrap();
        let mut events = pool.events();
        let mut peer = Peer::greet(switch.accept().await).await;
        let login = peer.request().await.unwrap();
        let (id, code) = (login.id.to_be_bytes(), 401u32.to_be_bytes());
        peer.say(frame(ERROR, &[&id, &code, b"wrong password"])).await;
        drop(peer);
        let (error, _) = news::dial_failed(&mut events).await;
        assert!(error.is_permanent(), "turn {turn}: {error}");

        // An error that only repeats the loss is one.
        let mut peer = Peer::greet(switch.accept().await).await;
        peer.request().await.unwrap();
        drop(peer);
        let (error, _) = news::dial_failed(&mut events).await;
        assert!(matches!(error.cause, ConnectCause::Lost(_)), "turn {turn}: {error}");
    }
}

/// As one that does not trust the server's certificate.
struct Distrusts;

impl Connect for Distrusts {
    fn connect<'a>(&'a self, _: &'a Endpoint) -> Connecting<'a> {
        Box::pin(async { Err(Permanent::new("the certificate is of another name").into()) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_calls_its_error_permanent_fails_calls_at_once() {
    let began = tokio::time::Instant::now();
    let pool = pool(Distrusts);
    let error = pool.request("x").timeout(ms(600_000)).send().await.unwrap_err();
    assert!(began.elapsed() < ms(1000), "{:?}", began.elapsed());
    let CallCause::Unavailable(outage) = error.cause() else { panic!("{error}") };
    assert!(outage.is_permanent());
    assert!(
        error
            .to_string()
            .contains("connecting to peer:1 failed after 0 ms: the certificate is of another name"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_while_the_hook_runs_is_what_the_attempt_failed_by_and_its_wish_is_kept() {
    // What the hook has to do yet when it comes: to wait for an answer, to call, something else.
    for hook_does in ["log in", "call", "else"] {
        let (connector, mut switch) = pipes(4096);
        let (told, hears) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let gate = (told.clone(), hears.clone());
        let pool = Pool::builder("peer:1")
            .connector(connector)
            .on_connect(move |mut conversation| {
                let (told, hears) = gate.clone();
                async move {
                    conversation.call("log in").await?;
                    hears.notify_one();
                    told.notified().await;
                    match hook_does {
                        "call" => drop(conversation.call("more").await?),
                        _ => std::future::pending().await,
                    }
                    Ok(())
                }
            })
            .build()
            .unwrap();
        let mut events = pool.events();
        let mut peer = Peer::greet(switch.accept().await).await;
        let login = peer.request().await.unwrap();
        let accepted = u64::from(hook_does != "log in");
        if hook_does != "log in" {
            peer.say(reply(login.id, b"welcome")).await;
            hears.notified().await;
        }
        peer.say(go_away(0, accepted, 7000, "rolling restart")).await;
        if hook_does == "call" {
            // The goodbye comes first.
            tokio::time::sleep(ms(1)).await;
            told.notify_one();
        }
        let (error, next_in) = news::dial_failed(&mut events).await;
        let ConnectCause::SentAway(goodbye) = &error.cause else { panic!("{hook_does}: {error}") };
        assert_eq!((&*goodbye.text, error.phase), ("rolling restart", Phase::Hook));
        assert!(next_in >= ms(7000), "{hook_does}: {next_in:?}");
    }
}

#[tokio::test]
async fn a_name_with_several_addresses_reaches_the_one_that_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let pool = Pool::builder(format!("localhost:{port}")).build().unwrap();
    let (_peer, ready) =
        tokio::join!(async { Peer::greet(accept(&listener).await).await }, pool.ready(ms(5000)));
    ready.unwrap();
}

#[tokio::test]
async fn a_client_without_a_free_descriptor_says_so_does_not_spin_and_recovers() {
    // `ulimit` is a thing of Unix.
    if cfg!(windows) {
        return;
    }
    let (listener, address) = listen().await;
    let limited = ["sh", "-c", "ulimit -n 64; exec \"$0\" \"$@\""];
    let mut client = Process::start(&limited, "client", &[("TO", &*address), ("FULL", "yes")]);
    // A random time of at most 200 ms between two attempts.
    let (first, _) = client.says("failed Connect EMFILE").await;
    let mut last = first;
    let mut attempts = 1;
    while last - first < ms(1000) {
        (last, _) = client.says("failed Connect EMFILE").await;
        attempts += 1;
    }
    assert!(attempts <= 40, "{attempts} attempts in {:?}", last - first);
    client.tell("release");
    let mut peer = Peer::greet(accept(&listener).await).await;
    client.says("ready").await;
    client.tell("call");
    let request = peer.request().await.unwrap();
    peer.say(reply(request.id, b"")).await;
    client.says("answered").await;
}

/// While calls wait, attempts are made often. That many of them failed in an outage must not keep the next, unrelated loss from
/// being mended.
#[tokio::test(start_paused = true)]
async fn a_server_that_is_restarted_twice_in_a_row_is_found_again_soon_both_times() {
    let (connector, mut switch) = pipes(4096);
    let connector = connector.closed_for(ms(10_000));
    let pool =
        Pool::builder("peer:1").connector(connector).call_timeout(ms(60_000)).build().unwrap();
    let mut events = pool.events();
    let first = tokio::spawn({
        let pool = pool.clone();
        async move { pool.call("first").await }
    });
    let mut peer = Peer::greet(switch.accept().await).await;
    let request = peer.request().await.unwrap();
    peer.say(reply(request.id, b"here")).await;
    assert_eq!(first.await.unwrap().unwrap(), "here");
    tokio::time::sleep(ms(350)).await;
    drop(peer);
    let lost = tokio::time::Instant::now();
    news::lost(&mut events).await;
    let outage = pool.status().outage.unwrap();
    let next_in = outage.next_in.unwrap();
    assert!(next_in <= ms(100), "{next_in:?}");
    let words = "; no attempt has failed since; the next is made within ";
    assert!(outage.to_string().contains(words), "{outage}");
    let _peer = Peer::greet(switch.accept().await).await;
    // A timer's granularity later.
    assert!((next_in..next_in + ms(2)).contains(&lost.elapsed()), "{:?}", lost.elapsed());
    news::connected(&pool, 1).await;
    assert_eq!(pool.status().outage, None);
}
