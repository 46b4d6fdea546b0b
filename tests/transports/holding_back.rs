//! Transports that hold bytes back until they are flushed, as TLS and buffered writers do: nothing stays behind in them.

use std::future::IntoFuture as _;

use futures::{SinkExt as _, StreamExt as _};
use steadfast::{Bytes, Call, Heartbeat, Pool, PoolBuilder, Server};
use tokio::io::AsyncWriteExt as _;

use crate::buffer::{Buffer, Habit};
use crate::memory::in_memory;
use crate::support::layer::Layered;
use crate::support::log_in::LogIn;
use crate::support::pipes::{Switch, pipes};
use crate::support::plain::{frames, ordered};
use crate::support::scripted::{WELCOME, expect, hello};
use crate::support::times::ms;
use crate::support::waits::soon;

/// Less than what the layer keeps: it cannot get rid of all at once.
const PIPE: usize = 4096;

/// No ping pushes anything out.
fn quiet() -> Heartbeat {
    Heartbeat::every(ms(600_000)).give_up_after(ms(1_200_000))
}

fn pool(habit: Habit) -> (PoolBuilder, Switch) {
    let (connector, switch) = pipes(PIPE);
    (
        Pool::builder("peer:1")
            .connector(Layered(connector, move || Buffer::new(habit)))
            .heartbeat(quiet()),
        switch,
    )
}

async fn calls_of_all_sizes_are_answered(habit: Habit) {
    let (builder, mut switch) = pool(habit);
    let (line, listener) = in_memory();
    let server = Server::builder()
        .heartbeat(quiet())
        .listen_on(Layered(listener, move || Buffer::new(habit)))
        .unwrap();
    let handle = server.handle();
    let served = tokio::spawn(server.serve(|call: Call| async move { Ok(call.into_body()) }));
    let pool = builder.build().unwrap();
    let mut near = switch.accept().await;
    let mut far = line.dial(PIPE);
    tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
    for size in [1, 5_000, 70_000, 1 << 20] {
        let body = Bytes::from(vec![b'x'; size]);
        let reply = soon(&format!("{size} bytes"), pool.call(body.clone())).await;
        assert!(reply.unwrap() == body, "{size} bytes");
    }
    soon("both sides close", async {
        pool.close(ms(1000)).await.unwrap();
        handle.shutdown(ms(1000));
        served.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn calls_of_all_sizes_are_answered_over_what_writes_as_much_as_it_can() {
    calls_of_all_sizes_are_answered(Habit::Eager).await;
}

#[tokio::test(start_paused = true)]
async fn calls_of_all_sizes_are_answered_over_what_writes_nothing_before_it_is_flushed() {
    calls_of_all_sizes_are_answered(Habit::Lazy).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_protocol_says_first_and_what_a_lease_says_last_is_flushed() {
    let (builder, mut switch) = pool(Habit::Lazy);
    let pool = builder.protocol(LogIn(ordered())).build().unwrap();
    let mut peer = frames(switch.accept().await);
    assert_eq!(soon("a log-in", peer.next()).await.unwrap().unwrap(), "login");
    peer.send("welcome".into()).await.unwrap();
    let mut lease = soon("a lease", pool.lease().into_future()).await.unwrap();
    lease.send("the last").await.unwrap();
    let (taken, said) = soon("both", async { tokio::join!(lease.detach(), peer.next()) }).await;
    assert_eq!(said.unwrap().unwrap(), "the last");
    // From here on it is for its owner to flush.
    let mut transport = taken.unwrap().transport;
    transport.write_all(b"\x00\x00\x00\x03raw").await.unwrap();
    transport.flush().await.unwrap();
    assert_eq!(soon("raw bytes", peer.next()).await.unwrap().unwrap(), "raw");
}

#[tokio::test(start_paused = true)]
async fn a_socket_is_not_taken_over_before_all_has_left() {
    let (builder, mut switch) = pool(Habit::Eager);
    let pool = builder.protocol(ordered()).build().unwrap();
    let mut peer = frames(switch.accept().await);
    let mut lease = soon("a lease", pool.lease().into_future()).await.unwrap();
    let body = vec![7; 3 * PIPE];
    lease.feed(body.clone().into()).await.unwrap();
    let mut taken = std::pin::pin!(lease.detach());
    let early = tokio::time::timeout(ms(1000), taken.as_mut()).await;
    assert!(early.is_err(), "{early:?}");
    assert_eq!(soon("all of it", peer.next()).await.unwrap().unwrap(), body);
    soon("the socket", taken).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_welcome_keeps_its_place_no_longer_than_a_handshake_takes()
{
    let (line, listener) = in_memory();
    let builder = Server::builder().connections(1).handshake(ms(100));
    let server = builder.listen_on(listener).unwrap();
    tokio::spawn(server.serve(|call: Call| async move { Ok(call.into_body()) }));
    // Less than a WELCOME.
    let mut deaf = line.dial(16);
    let _ = tokio::time::timeout(ms(50), deaf.write_all(&hello(0))).await;
    tokio::time::sleep(ms(101)).await;
    let mut other = line.dial(PIPE);
    other.write_all(&hello(0)).await.unwrap();
    expect(&mut other, &[WELCOME]).await;
}
