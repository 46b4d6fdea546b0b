//! The server of the story. Frames of a `u32` big-endian length; an upload is a line `store NAME` and the content.
//!
//! It does what hurts: it answers as soon as it knows that it does not want the file, and closes, with the rest of the
//! upload unread.

use std::convert::Infallible;
use std::io;

use steadfast::{BoxError, Bytes};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::child;

/// An upload as it is in its frame.
pub(crate) fn upload(name: &str, content: usize) -> Bytes {
    let mut upload = format!("store {name}\n").into_bytes();
    upload.resize(upload.len() + content, b'.');
    upload.into()
}

pub(crate) async fn run() -> Result<Infallible, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    child::announce::addresses(&[listener.local_addr()?])?;
    loop {
        let (client, _) = listener.accept().await?;
        tokio::spawn(serve(client));
    }
}

async fn serve(client: TcpStream) -> io::Result<()> {
    let mut client = BufReader::new(client);
    loop {
        let length = client.read_u32().await?;
        let mut head = String::new();
        client.read_line(&mut head).await?;
        if head.contains("..") {
            let answer = format!("error 403: {:?} leads out of the folder", head.trim_end());
            say(&mut client, &answer).await?;
            // Returning closes the socket, and most of the upload is unread.
            return Ok(());
        }
        let rest = u64::from(length) - head.len() as u64;
        tokio::io::copy(&mut (&mut client).take(rest), &mut tokio::io::sink()).await?;
        say(&mut client, "stored").await?;
    }
}

async fn say(client: &mut BufReader<TcpStream>, answer: &str) -> io::Result<()> {
    let frame = [&(answer.len() as u32).to_be_bytes(), answer.as_bytes()].concat();
    client.write_all(&frame).await?;
    client.flush().await
}
