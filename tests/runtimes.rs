//! Runtimes that end under a pool, callers who live in another one, and times as long as there can be.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use steadfast::{Bytes, Call, ErrorReply, Framing, Ordered, Outcome, Pool, Server};
use tokio::net::TcpListener;

use support::scripted::{REQUEST, Script, expect};
use support::waits::{soon, until};

const SECOND: Duration = Duration::from_secs(1);

async fn echo(call: Call) -> Result<Bytes, ErrorReply> {
    Ok(call.into_body())
}

/// Each call settles, also when the runtime of its pool is gone.
#[test]
fn calls_from_another_runtime_are_settled_when_that_of_the_pool_ends() {
    let servers = tokio::runtime::Runtime::new().unwrap();
    let script = servers.block_on(Script::bind());
    let home = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let home = home.unwrap();
    let pool = home.block_on(async { Pool::builder(script.address.to_string()).build().unwrap() });
    let mut line = servers.block_on(script.welcome());
    let caller = pool.clone();
    let sent = servers.spawn(async move { caller.call("sent").await });
    servers.block_on(expect(&mut line, &[REQUEST]));
    let mut events = pool.events();
    home.shutdown_background();
    servers.block_on(async {
        let error = soon("the call", sent).await.unwrap().unwrap_err();
        assert_eq!(error.outcome(), Outcome::Indeterminate, "{error}");
        soon("the end of events", async { while events.next().await.is_some() {} }).await;
        let later = soon("a later call", pool.call("later")).await.unwrap_err();
        assert_eq!(later.outcome(), Outcome::NotSent, "{later}");
        assert!(soon("ready", pool.ready(SECOND)).await.is_err());
        soon("close", pool.close(SECOND)).await.unwrap();
        drop(pool);
    });
}

/// As long as there may be: nothing overflows.
#[tokio::test]
async fn the_longest_times_are_as_good_as_none() {
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let (address, handle) = (server.local_addr().unwrap(), server.handle());
    let serving = tokio::spawn(server.serve(echo));
    let pool = Pool::builder(address.to_string()).build().unwrap();
    soon("ready", pool.ready(Duration::MAX)).await.unwrap();
    let request = pool.request("apples").timeout(Duration::MAX);
    assert_eq!(soon("the call", request.send()).await.unwrap(), "apples");
    let late = pool.request("apples").timeout(Duration::ZERO).send().await.unwrap_err();
    assert_eq!(late.outcome(), Outcome::NotSent, "{late}");
    soon("close", pool.close(Duration::MAX)).await.unwrap();
    handle.shutdown(Duration::MAX);
    soon("the end", serving).await.unwrap().unwrap();
}

/// Calls that wait, leases that are out, and those that wait for one, when the runtime of their pool ends.
#[test]
fn waiting_calls_and_leases_from_another_runtime_end_with_that_of_the_pool() {
    let servers = tokio::runtime::Runtime::new().unwrap();
    let listener = servers.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let home = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (over, ended) = tokio::sync::oneshot::channel::<()>();
    let build = || Pool::builder(address).protocol(Ordered::new(Framing::u32_be())).build();
    let pool = home.block_on(async { build().unwrap() });
    let thread = std::thread::spawn(move || {
        let _ = home.block_on(ended);
        drop(home);
    });
    servers.block_on(async {
        let (_line, _) = soon("a connection", listener.accept()).await.unwrap();
        let mut lease = soon("a lease", async { pool.lease().await }).await.unwrap();
        let (a, b) = (pool.clone(), pool.clone());
        let second = tokio::spawn(async move { a.lease().await.map(drop) });
        let waiting = tokio::spawn(async move { b.call("waits").await });
        until("both to wait", || pool.status().waiting == 2).await;
        let receiving = tokio::spawn(async move { lease.recv().await });
        over.send(()).unwrap();
        assert!(soon("the lease", receiving).await.unwrap().is_err());
        assert!(soon("the wait for a lease", second).await.unwrap().is_err());
        let error = soon("the call", waiting).await.unwrap().unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotSent);
        soon("close", pool.close(SECOND)).await.unwrap();
    });
    thread.join().unwrap();
}
