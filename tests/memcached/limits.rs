//! memcached turns connections away when it has too many, and closes those that are idle.

use steadfast::{CallCause, ConnectCause, Event, LossCause, Reconnect};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::packet;
use crate::server;
use crate::support::daemon::Daemon;
use crate::support::news;
use crate::support::times::ms;
use crate::support::waits::soon;

const FULL: &str = "ERROR Too many open connections";

/// Takes all connections that it has, and proves that it has no more.
async fn occupy(server: &Daemon) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    loop {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        let noop = packet::request(packet::NOOP, &[], "", &[]);
        // It may have closed already, but it says why.
        let _ = stream.write_all(&noop).await;
        let mut answer = vec![0; packet::HEADER];
        stream.read_exact(&mut answer).await.unwrap();
        if answer.starts_with(b"ERROR") {
            return streams;
        }
        streams.push(stream);
    }
}

#[tokio::test]
async fn calls_wait_while_memcached_has_too_many_connections_and_go_on_when_it_has_room() {
    let Some(server) = server::start(&["-c", "40", "-t", "1"]).await else { return };
    let mut others = occupy(&server).await;
    assert!(!others.is_empty());
    let mut builder = crate::builder(&server).reconnect(Reconnect::exponential(ms(20), ms(100)));
    let mut events = builder.events();
    let pool = builder.build().unwrap();
    let client = Client::new(pool.clone());
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.set("apples", b"1.20").await }
    });
    // It goes on asking, and is told each time.
    for _ in 0..3 {
        let (error, _) = news::dial_failed(&mut events).await;
        let ConnectCause::Busy(busy) = &error.cause else { panic!("{error}") };
        assert_eq!(&*busy.text, FULL);
    }
    assert!(!waiting.is_finished(), "it waits");
    let request = packet::request(packet::NOOP, &[], "", &[]);
    let error = pool.request(request).fail_fast().send().await.unwrap_err();
    assert!(matches!(error.cause(), CallCause::Unavailable(_)), "{error}");
    assert!(error.to_string().contains(FULL), "{error}");

    others.pop();
    soon("there is room", waiting).await.unwrap().unwrap();
    assert_eq!(client.get("apples").await.unwrap().unwrap(), "1.20");
}

#[tokio::test]
async fn an_idle_connection_that_memcached_closes_is_seen_at_once_and_made_again_before_it_is_needed()
 {
    let Some(server) = server::start(&["-o", "idle_timeout=1"]).await else { return };
    let (pool, client) = crate::pool(&server);
    client.set("apples", b"1.20").await.unwrap();
    let mut events = pool.events();
    let loss = news::lost(&mut events).await;
    assert_eq!(loss.cause, LossCause::ClosedByPeer, "{loss}");
    assert!(loss.silent_for >= ms(1000), "{loss}");
    news::ready(&mut events).await;
    assert_eq!(client.get("apples").await.unwrap().unwrap(), "1.20");
}

#[tokio::test]
async fn a_connection_that_memcached_would_close_is_kept_by_its_heartbeat() {
    let Some(server) = server::start(&["-o", "idle_timeout=1"]).await else { return };
    let heartbeat = steadfast::Heartbeat::every(ms(200));
    let kept = crate::builder(&server).heartbeat(heartbeat).build().unwrap();
    let (other, _) = crate::pool(&server);
    news::connected(&kept, 1).await;
    let (mut kept_events, mut other_events) = (kept.events(), other.events());
    // Longer than memcached bears it, as the other pool has found out.
    for _ in 0..2 {
        news::lost(&mut other_events).await;
    }
    kept.close(ms(5000)).await.unwrap();
    while let Some(event) = kept_events.next().await {
        assert!(!matches!(event, Event::Lost { .. }), "{event}");
    }
}
