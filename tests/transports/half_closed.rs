//! A client that says everything at once and closes its half behind it. Without a network all of it, its end too, is there
//! when the server first looks.

use steadfast::{Call, Server};
use tokio::io::AsyncWriteExt as _;

use crate::memory::in_memory;
use crate::support::scripted::{GOAWAY, expect, expect_fin, frame, hello};

#[tokio::test]
async fn what_came_behind_the_handshake_is_answered_even_if_the_end_came_with_it() {
    let (line, listener) = in_memory();
    let server = Server::builder().listen_on(listener).unwrap();
    let mut client = line.dial(4096);
    client.write_all(&[hello(0), frame(0x7f, &[])].concat()).await.unwrap();
    client.shutdown().await.unwrap();
    tokio::spawn(server.serve(|call: Call| async move { Ok(call.into_body()) }));
    let goodbye = expect(&mut client, &[GOAWAY]).await;
    assert_eq!((goodbye.code(), goodbye.text()), (2, "unknown kind 0x7f"));
    expect_fin(&mut client).await;
}
