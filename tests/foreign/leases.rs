//! Conversations with servers that know no call ids.

use std::net::SocketAddr;

use futures::{SinkExt as _, StreamExt as _};
use steadfast::{Bytes, Framing, Ordered, Pool};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::Framed;

/// An old server: answers each frame with the same in capitals, one after the other.
async fn shouting_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(shout(stream));
        }
    });
    address
}

async fn shout(stream: TcpStream) {
    let mut frames = Framed::new(stream, Framing::u32_le());
    while let Some(Ok(frame)) = frames.next().await {
        if frames.send(Bytes::from(frame.to_ascii_uppercase())).await.is_err() {
            break;
        }
    }
}

#[tokio::test]
async fn a_lease_is_a_conversation_on_one_connection() {
    let address = shouting_server().await;
    let protocol = Ordered::new(Framing::u32_le());
    let pool = Pool::builder(address.to_string()).protocol(protocol).build().unwrap();
    let mut lease = pool.lease().await.unwrap();
    for word in ["one", "two"] {
        lease.send(word).await.unwrap();
        assert_eq!(lease.recv().await.unwrap(), word.to_uppercase());
    }
    let first = lease.connection();
    drop(lease);
    let mut lease = pool.lease().await.unwrap();
    assert_eq!(lease.connection(), first);
    lease.send("three").await.unwrap();
    drop(lease);
    let mut lease = pool.lease().await.unwrap();
    assert_ne!(lease.connection(), first);
    lease.send("four").await.unwrap();
    assert_eq!(lease.recv().await.unwrap(), "FOUR");
    let detached = lease.detach().await.unwrap();
    drop(detached);
    assert_eq!(pool.call("five").await.unwrap(), "FIVE");
}
