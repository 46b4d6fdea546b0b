//! The two clients of the story.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use steadfast::{BoxError, Bytes, Event, Framing, Ordered, Pool, Reconnect, Subscription};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What a client made of an upload.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) answer: Option<String>,
    /// How the connection ended before all of the upload had left, if it did.
    cut_off: Option<String>,
}

impl Answered {
    pub(crate) fn is_cut_off(&self) -> bool {
        self.cut_off.is_some()
    }
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.answer {
            Some(answer) => write!(f, "the server says: {answer}")?,
            None => f.write_str("no answer")?,
        }
        match &self.cut_off {
            Some(how) => write!(f, " [{how}]"),
            None => Ok(()),
        }
    }
}

/// A socket: write, then read.
#[derive(Debug)]
pub(crate) struct Naive(SocketAddr);

impl Naive {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self(address)
    }

    pub(crate) async fn upload(&self, upload: &[u8]) -> io::Result<Answered> {
        let mut socket = TcpStream::connect(self.0).await?;
        socket.write_u32(upload.len() as u32).await?;
        if let Err(error) = socket.write_all(upload).await {
            // What the server has said lies in this socket, and nobody reads it any more.
            return Ok(Answered { answer: None, cut_off: Some(format!("write failed: {error}")) });
        }
        let length = socket.read_u32().await?;
        let mut answer = vec![0; length as usize];
        socket.read_exact(&mut answer).await?;
        Ok(Answered { answer: Some(text(&answer)), cut_off: None })
    }
}

/// A pool.
#[derive(Debug)]
pub(crate) struct Steadfast {
    pool: Pool,
    events: Subscription<Event>,
}

impl Steadfast {
    pub(crate) fn new(address: SocketAddr) -> Result<Self, BoxError> {
        // This server ends each connection. That is no reason to wait before the next.
        let reconnect = Reconnect::default().stable_after(Duration::ZERO);
        let mut builder = Pool::builder(address.to_string())
            .protocol(Ordered::new(Framing::u32_be().limit(17_000_000)))
            .limits(steadfast::Limits::default().message(17_000_000))
            .reconnect(reconnect);
        let events = builder.events();
        Ok(Self { pool: builder.build()?, events })
    }

    pub(crate) async fn upload(&mut self, upload: &Bytes) -> Result<Answered, BoxError> {
        let answer = self.pool.call(upload.clone()).await;
        let loss = loop {
            match self.events.next().await {
                Some(Event::Lost { loss, .. }) => break loss,
                Some(_) => {}
                None => return Err("the pool has ended".into()),
            }
        };
        let took = loss.bytes_out;
        let cut_off = (took < upload.len() as u64)
            .then(|| format!("{took} of {} bytes had left; {}", upload.len(), loss.cause));
        match answer {
            Ok(answer) => Ok(Answered { answer: Some(text(&answer)), cut_off }),
            Err(error) => Ok(Answered { answer: None, cut_off: Some(error.to_string()) }),
        }
    }
}

fn text(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).into_owned()
}
