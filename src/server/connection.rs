//! One accepted connection: the handshake, then handlers at work until the connection's death.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::consume_budget;
use tokio::time::timeout;
use tracing::{Instrument as _, debug, info, info_span, warn};

use crate::autopsy::About;
use crate::clock::now;
use crate::connection::{Connection, Tell};
use crate::dormant::Dormant;
use crate::driver::Driver;
use crate::error::connect::{Busy, ConnectCause, Rejection};
use crate::error::instance::InstanceId;
use crate::error::loss::GoAway;
use crate::handshake::{await_hello, send};
use crate::proto::greeting::{Hello, Welcome};
use crate::proto::native::{Frame, VERSION, after, millis, wire};
use crate::proto::serving::{Bounds, Serving};
use crate::server::call::Handler;
use crate::server::desk::{Desk, OpenDesk};
use crate::server::half_open::Silent;
use crate::server::life::Life;
use crate::server::settings::ServerBuilder;
use crate::server::shared::Shared;
use crate::transport::Transport;

/// A client that was turned away gets so long to read why.
const LINGER: Duration = Duration::from_secs(1);

const TOO_MANY: &str = "too many connections";
const TOO_MANY_SILENT: &str = "too many connections that have not said HELLO";

/// Lives with one connection to its end.
pub(crate) async fn serve<H: Handler>(
    shared: Arc<Shared<H>>,
    stream: Box<dyn Transport>,
    peer: SocketAddr,
    silent: Silent,
) {
    let (killed, number) = (shared.killed.clone(), silent.number());
    let greeting = killed.run_until_cancelled(greet(&shared, stream, peer, silent));
    let Some(Some(Greeted { stream, desk, life, input, client_number, place })) = greeting.await
    else {
        return;
    };
    life.welcomed();
    let about = About { endpoint: peer.to_string().into(), address: Some(peer), number };
    let mut driver = Driver::new(desk.connection.clone(), stream, input, about);
    let span = info_span!("client", %peer, connection = number, client_number);
    work(&desk, &mut driver).instrument(span).await;
    // The last word is the handler's.
    drop((driver, desk, place));
    drop(life);
}

/// A connection that has been welcomed.
struct Greeted<H: Handler> {
    stream: Box<dyn Transport>,
    desk: OpenDesk<H>,
    life: Arc<Life<H>>,
    /// What came behind `HELLO`.
    input: BytesMut,
    client_number: u64,
    /// Among the connections that are served.
    place: OwnedSemaphorePermit,
}

/// The handshake. `None` if there was none.
async fn greet<H: Handler>(
    shared: &Arc<Shared<H>>,
    stream: Box<dyn Transport>,
    peer: SocketAddr,
    silent: Silent,
) -> Option<Greeted<H>> {
    let number = silent.number();
    let (mut stream, hello, input) = hear(shared, stream, peer, silent).await?;
    if !(hello.min_version..=hello.max_version).contains(&VERSION) {
        let (min, max) = (hello.min_version, hello.max_version);
        let text = format!("this server speaks version {VERSION}, the client {min} to {max}");
        reject(shared, stream, Rejection::NO_COMMON_VERSION, &text).await;
        return None;
    }
    let settings = &shared.settings;
    let place = shared.places.clone().try_acquire_owned().ok();
    // One that comes back for what it has lost finds its own place taken, if this end has not seen the loss yet.
    if place.is_none() && !shared.clients.serves_what_is_replaced(&hello) {
        no_room(shared, stream, peer, TOO_MANY).await;
        return None;
    }
    let connection = Connection::new(session(settings, &hello));
    // The fence: before it is welcomed.
    let membership = shared.clients.admit(&hello, number, &connection);
    let welcome = Frame::Welcome(welcome(settings, shared.instance, membership.memory()));
    let life = Arc::new(Life::new(shared.clone(), number));
    let desk = Desk::new(shared.clone(), connection, membership, peer, number, &life);
    let desk = OpenDesk::new(desk);
    let place = match place {
        Some(place) => place,
        None => {
            let freed = timeout(settings.handshake, shared.places.clone().acquire_owned()).await;
            let Ok(Ok(place)) = freed else {
                no_room(shared, stream, peer, TOO_MANY).await;
                return None;
            };
            place
        }
    };
    match timeout(settings.handshake, send(&mut *stream, &welcome)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            debug!(%peer, %error, "client left in the handshake");
            return None;
        }
        Err(_) => {
            warn!(%peer, "client does not read its welcome");
            return None;
        }
    }
    Some(Greeted { stream, desk, life, input, client_number: hello.connection, place })
}

/// Waits for `HELLO`; also returns what came behind it. Whoever does not say it is turned away.
async fn hear<H: Handler>(
    shared: &Shared<H>,
    mut stream: Box<dyn Transport>,
    peer: SocketAddr,
    silent: Silent,
) -> Option<(Box<dyn Transport>, Hello, BytesMut)> {
    let limit = shared.settings.handshake;
    let hello = tokio::select! {
        biased;
        // No "retry after": another server may listen there in this very moment.
        () = shared.draining.cancelled() => {
            let text = "the server is shutting down".into();
            turn_away(stream, Frame::Busy { code: Busy::DRAINING, retry_after: 0, text }).await;
            return None;
        }
        hello = timeout(limit, await_hello(&mut *stream)) => hello,
        () = silent.sent_away() => {
            no_room(shared, stream, peer, TOO_MANY_SILENT).await;
            return None;
        }
    };
    match hello.unwrap_or(Err(ConnectCause::TimedOut { limit })) {
        Ok((hello, input)) => Some((stream, hello, input)),
        Err(cause) => {
            let ConnectCause::Violation { violation, opening } = cause else {
                warn!(%peer, %cause, "no handshake");
                return None;
            };
            warn!(%peer, %violation, %opening, "no handshake: what came is no HELLO");
            reject(shared, stream, Rejection::NOT_HELLO, &violation.to_string()).await;
            None
        }
    }
}

async fn work<H: Handler>(desk: &OpenDesk<H>, driver: &mut Driver<Serving>) {
    info!("client connected");
    let Desk { shared, connection, .. } = &***desk;
    let events = Arc::clone(desk);
    let running = driver.run(move |happened| events.happened(happened));
    let drained = async {
        shared.draining.cancelled().await;
        connection.with(|serving| {
            serving.go_away(GoAway::CLOSING, None, "the server is shutting down");
            ((), Tell::Owner)
        });
        std::future::pending::<()>().await;
    };
    // Counted before the driver is dropped, with which everything is settled.
    let killed = async {
        shared.killed.cancelled().await;
        connection.with(|serving| (serving.unfinished(), Tell::Nobody))
    };
    let cut = pin!(async {
        tokio::select! {
            // One that is fenced and killed at once is counted where its client has come back.
            biased;
            () = drained => {}
            () = desk.membership.fenced() => {
                desk.outlived();
                info!("client has come back on another connection");
            }
            calls = killed => {
                shared.cut_off.fetch_add(calls, Ordering::Relaxed);
                warn!(calls, "client cut off");
            }
        }
    });
    let loss = tokio::select! {
        // One that is killed and lost at once is counted before the loss has settled its calls.
        biased;
        () = Dormant::new(cut) => return,
        loss = running => loss,
    };
    desk.outlived();
    if loss.is_intended() {
        info!(age = ?loss.age, "client connection closed");
    } else {
        info!(age = ?loss.age, silent_for = ?loss.silent_for, fin_seen = loss.fin_seen,
            bytes_in = loss.bytes_in, frames_in = loss.frames_in, cut_off = loss.cut_off,
            bytes_out = loss.bytes_out, frames_out = loss.frames_out, reading = %loss.reading,
            writing = %loss.writing, tcp = loss.tcp.map(tracing::field::display), cause = %loss.cause,
            "client {}", if loss.is_parting() { "left" } else { "lost" });
    }
}

/// Says that there is no room.
async fn no_room<H>(shared: &Shared<H>, stream: Box<dyn Transport>, peer: SocketAddr, text: &str) {
    warn!(%peer, "client turned away: {text}");
    let retry_after = millis(shared.settings.busy_retry_after);
    let answer = Frame::Busy { code: Busy::TOO_MANY, retry_after, text: text.into() };
    explain(shared, stream, answer).await;
}

/// Says what is wrong.
async fn reject<H>(shared: &Shared<H>, stream: Box<dyn Transport>, code: u32, text: &str) {
    explain(shared, stream, Frame::Reject { code, text: text.into() }).await;
}

/// Says no to so many at a time; others are just closed.
async fn explain<H>(shared: &Shared<H>, stream: Box<dyn Transport>, answer: Frame) {
    let Ok(_turn) = shared.explaining.try_acquire() else {
        return;
    };
    turn_away(stream, answer).await;
}

/// Says no, then FIN, then reads to the client's FIN, so that no RST destroys the answer.
async fn turn_away(mut stream: Box<dyn Transport>, answer: Frame) {
    let farewell = async {
        if send(&mut *stream, &answer).await.is_err() || stream.shutdown().await.is_err() {
            return;
        }
        let mut rest = [0; 1024];
        while matches!(stream.read(&mut rest).await, Ok(1..)) {
            // One that always has something must not keep its thread, nor its time from being over.
            consume_budget().await;
        }
    };
    // Whoever does not read within that time does not want to know.
    let _ = timeout(LINGER, farewell).await;
}

fn welcome(settings: &ServerBuilder, instance: InstanceId, memory: u64) -> Welcome {
    let cache = &settings.reply_cache;
    Welcome {
        version: VERSION,
        instance,
        max_message: wire(settings.message),
        max_in_flight: wire(settings.in_flight),
        idle_limit: settings.idle_limit.map_or(0, millis),
        every: millis(settings.heartbeat.every),
        cached_calls: wire(cache.calls),
        cached_bytes: cache.bytes as u64,
        cache_age: millis(cache.age),
        memory,
    }
}

fn session(settings: &ServerBuilder, hello: &Hello) -> Serving {
    let bounds = Bounds {
        send: hello.max_message as usize,
        receive: settings.message,
        in_flight: settings.in_flight,
        held_bytes: settings.held_bytes,
        idle_limit: settings.idle_limit,
    };
    Serving::new(now(), settings.heartbeat, after(hello.every), bounds)
}
