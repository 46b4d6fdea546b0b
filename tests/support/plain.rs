//! A server that knows plain frames only, and answers each with the same; and a client that leases connections to it.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use steadfast::{Framing, LeaseError, Ordered, Pool, Reconnect, Timeouts};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::codec::Framed;

use crate::support::news::connected;
use crate::support::process::{say, setting};
use crate::support::roles::heartbeat;
use crate::support::times::ms;

pub(crate) type Frames<S> = Framed<S, Framing>;

pub(crate) fn framing() -> Framing {
    Framing::u32_be()
}

pub(crate) fn ordered() -> Ordered {
    Ordered::new(framing())
}

/// The server's end of one connection.
pub(crate) fn frames<S: AsyncRead + AsyncWrite>(stream: S) -> Frames<S> {
    Framed::new(stream, framing())
}

/// Until the client closes.
pub(crate) async fn echo<S: AsyncRead + AsyncWrite + Unpin>(stream: S) {
    let mut frames = frames(stream);
    while let Some(Ok(frame)) = frames.next().await {
        if frames.send(frame).await.is_err() {
            break;
        }
    }
}

pub(crate) async fn echo_all(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        tokio::spawn(echo(stream));
    }
}

/// A process: an echo at `LISTEN`.
pub(crate) async fn serve() {
    let address = setting("LISTEN").expect("LISTEN");
    let listener = TcpListener::bind(&address).await.expect("an address that is free");
    say(&format!("listening on {}", listener.local_addr().expect("an address")));
    echo_all(listener).await;
}

/// A process: a pool of `IDLE` connections to `TO`, with a heartbeat frame if `PING` is set. Told to `lease`, it does so
/// until a conversation comes to a good end.
pub(crate) async fn lease(mut commands: mpsc::UnboundedReceiver<String>) {
    let idle = setting("IDLE").expect("IDLE").parse().expect("a number");
    let ordered = setting("PING").map_or(ordered(), |frame| ordered().heartbeat(frame));
    let pool = Pool::builder(setting("TO").expect("TO"))
        .protocol(ordered)
        .connections(idle)
        .heartbeat(heartbeat())
        .reconnect(Reconnect::exponential(ms(50), ms(200)))
        .timeouts(Timeouts::default().resolve(ms(300)).connect(ms(300)).handshake(ms(300)))
        .build()
        .expect("good settings");
    connected(&pool, idle).await;
    say("ready");
    while let Some(command) = commands.recv().await {
        assert_eq!(command, "lease");
        let mut failed = 0;
        while let Err(error) = ask(&pool).await {
            failed += 1;
            say(&format!("failed: {error}"));
        }
        say(&format!("leased after {failed}"));
    }
}

/// A short conversation, with much time for each step.
pub(crate) async fn ask(pool: &Pool) -> Result<(), LeaseError> {
    let mut lease = pool.lease().timeout(Duration::from_secs(15)).await?;
    lease.send("question").await?;
    assert_eq!(lease.recv().await?, "question");
    Ok(())
}
