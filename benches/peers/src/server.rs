//! The server that all of them talk to: plain frames, each answered by itself.

use std::net::SocketAddr;

use futures::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

pub(crate) async fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be bound");
    let address = listener.local_addr().expect("a bound socket has an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    address
}

async fn echo(stream: TcpStream) {
    let mut frames = Framed::new(stream, LengthDelimitedCodec::new());
    while let Some(Ok(frame)) = frames.next().await {
        if frames.send(frame.freeze()).await.is_err() {
            break;
        }
    }
}
