//! Who takes part: a server process that is killed and frozen, a server in this process whose lines are cut and dammed, and
//! a pool to each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use steadfast::{
    Call, Heartbeat, Pool, Reconnect, ReplyCache, Retry, Server, ServerHandle, Timeouts,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::journal::{self, Journal};
use crate::server::execute;
use crate::support::loopback::own_loopback;
use crate::support::process::Process;
use crate::support::proxy::{Dam, Proxy};
use crate::support::times::ms;
use crate::support::waits::{until, within};

/// Of each pool.
const CONNECTIONS: usize = 3;
/// Long enough for anything that must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Both servers, and the ways to them.
#[derive(Debug)]
pub(crate) struct Ends {
    /// To the process, and to the server that stays.
    pub(crate) pools: [Pool; 2],
    pub(crate) proxy: Proxy,
    pub(crate) process: Process,
    address: String,
    files: TempDir,
    stays: ServerHandle,
    serving: JoinHandle<()>,
}

impl Ends {
    pub(crate) async fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let address = format!("{}:7000", own_loopback());
        let process = start_process(&address, &files).await;
        let (stays, serving, proxied) = start_server(&files).await;
        let proxy = Proxy::to(proxied).await;
        let pools = [pool(&address), pool(&proxy.address())];
        let mut ends = Self { pools, proxy, process, address, files, stays, serving };
        ends.rest().await;
        ends
    }

    pub(crate) async fn restart(&mut self) {
        self.process = start_process(&self.address, &self.files).await;
    }

    /// Nothing is in anybody's way any more; returns when all connections are there and carry nothing.
    pub(crate) async fn rest(&mut self) {
        self.proxy.dam(Dam::Open);
        for pool in &self.pools {
            until("all connections", || pool.status().ready == CONNECTIONS).await;
            until("all answers", || pool.status().in_flight + pool.status().waiting == 0).await;
        }
    }

    /// The numbers of the calls that were executed since this was asked last.
    pub(crate) fn executed(&self) -> Vec<u64> {
        let path = self.files.path().join("executed");
        let numbers = journal::read(&path);
        // The servers append to it.
        std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap();
        numbers
    }

    pub(crate) async fn close(self) {
        for pool in &self.pools {
            within(PATIENCE, "a pool closes", pool.close(ms(5000))).await.unwrap();
        }
        self.stays.shutdown(ms(5000));
        within(PATIENCE, "the server ends", self.serving).await.unwrap();
    }
}

fn pool(address: &str) -> Pool {
    Pool::builder(address)
        .connections(CONNECTIONS)
        .heartbeat(heartbeat())
        .reconnect(Reconnect::exponential(ms(10), ms(100)))
        .timeouts(Timeouts::default().handshake(ms(500)))
        .retry(Retry::attempts(4))
        .build()
        .unwrap()
}

fn heartbeat() -> Heartbeat {
    Heartbeat::every(ms(200)).give_up_after(ms(300))
}

async fn start_process(address: &str, files: &TempDir) -> Process {
    let journal = files.path().join("executed");
    let settings = [
        ("LISTEN", address),
        ("JOURNAL", journal.to_str().unwrap()),
        ("EVERY", "200"),
        ("GIVE_UP", "300"),
    ];
    let mut process = Process::start(&[], "lab server", &settings);
    process.says("listening on ").await;
    process
}

/// What it remembers is forgotten soon, so that its memory at rest does not depend on what there was before.
async fn start_server(files: &TempDir) -> (ServerHandle, JoinHandle<()>, SocketAddr) {
    let cache = ReplyCache::default().age(ms(1000));
    let builder = Server::builder().heartbeat(heartbeat()).reply_cache(cache);
    let server = builder.bind("127.0.0.1:0").await.unwrap();
    let (handle, address) = (server.handle(), server.local_addr().unwrap());
    let journal = Arc::new(Journal::open(files.path().join("executed")).unwrap());
    let serving = server.serve(move |call: Call| {
        let journal = journal.clone();
        async move { Ok(execute(&journal, call.body())) }
    });
    let serving = tokio::spawn(async { serving.await.expect("everything was finished") });
    (handle, serving, address)
}
