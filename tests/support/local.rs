//! Real servers and pools on loopback, and the memory of the process that has them.

use std::net::SocketAddr;

use steadfast::{Handler, Pool, ServerBuilder};

/// Serves until the runtime ends.
pub(crate) async fn start(builder: ServerBuilder, handler: impl Handler) -> SocketAddr {
    let server = builder.bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    tokio::spawn(server.serve(handler));
    address
}

pub(crate) fn pool(address: SocketAddr) -> Pool {
    Pool::builder(address.to_string()).build().unwrap()
}

pub(crate) fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
