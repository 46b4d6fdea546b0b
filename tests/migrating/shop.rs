//! The old server of the page: frames of a `u32` little-endian length, answered in order, or by an id in front. It can be
//! killed, and started again on the same port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::{SinkExt as _, StreamExt as _};
use steadfast::{Bytes, Framing};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::codec::Framed;

/// What is peculiar about this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Plain,
    /// The second half of each answer comes when [`Shop::send_the_rest`] says so, or the client has left.
    Halves,
    /// Closes after each answer.
    Closing,
    /// Ids in front, a log-in, and an event after it.
    Ids,
}

pub(crate) struct Shop {
    pub(crate) address: SocketAddr,
    manner: Manner,
    logins: Arc<AtomicU32>,
    halves: Arc<Halves>,
    closed: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Where an answer in two pieces has got to.
#[derive(Default)]
struct Halves {
    sent: Notify,
    wanted: Notify,
}

impl Shop {
    pub(crate) async fn open(manner: Manner) -> Self {
        Self::open_at("127.0.0.1:0".parse().unwrap(), manner)
    }

    fn open_at(address: SocketAddr, manner: Manner) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let logins = Arc::new(AtomicU32::new(0));
        let halves = Arc::<Halves>::default();
        let (closed, closing) = oneshot::channel();
        let serving = accept(listener, manner, logins.clone(), halves.clone(), closing);
        let task = tokio::spawn(serving);
        Self { address, manner, logins, halves, closed, task }
    }

    /// Until one more answer has been sent up to its middle.
    pub(crate) async fn half_is_sent(&self) {
        self.halves.sent.notified().await;
    }

    /// The other half of the answer that has been sent up to its middle.
    pub(crate) fn send_the_rest(&self) {
        self.halves.wanted.notify_one();
    }

    /// So many since it was opened.
    pub(crate) fn logins(&self) -> u32 {
        self.logins.load(Ordering::SeqCst)
    }

    /// All its connections end, and nobody listens any more.
    pub(crate) async fn close(self) -> Closed {
        drop(self.closed);
        self.task.await.unwrap();
        Closed { address: self.address, manner: self.manner }
    }
}

/// A shop that can be opened again.
pub(crate) struct Closed {
    address: SocketAddr,
    manner: Manner,
}

impl Closed {
    pub(crate) fn open_again(self) -> Shop {
        Shop::open_at(self.address, self.manner)
    }
}

/// Until it is closed; then all its sockets are, too.
async fn accept(
    listener: TcpListener,
    manner: Manner,
    logins: Arc<AtomicU32>,
    halves: Arc<Halves>,
    mut closing: oneshot::Receiver<()>,
) {
    let mut clients = JoinSet::new();
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            _ = &mut closing => break,
        };
        let client = Framed::new(client, Framing::u32_le());
        clients.spawn(serve(client, manner, logins.clone(), halves.clone()));
    }
    drop(listener);
    clients.shutdown().await;
}

async fn serve(
    mut client: Framed<TcpStream, Framing>,
    manner: Manner,
    logins: Arc<AtomicU32>,
    halves: Arc<Halves>,
) -> Option<()> {
    loop {
        let question = client.next().await?.ok()?;
        let (id, question) = question.split_at(if manner == Manner::Ids { 4 } else { 0 });
        if question == b"login alice" {
            logins.fetch_add(1, Ordering::SeqCst);
        }
        match (answer(question)?, manner) {
            (answer, Manner::Halves) => halves.send(client.get_mut(), answer).await?,
            (answer, Manner::Closing) => {
                return client.send(answer.into()).await.ok();
            }
            (answer, _) => client.send([id, answer.as_bytes()].concat().into()).await.ok()?,
        }
        if manner == Manner::Ids && question == b"login alice" {
            client.send(Bytes::from_static(b"\0\0\0\0apples are in season")).await.ok()?;
        }
    }
}

/// None to a question that nobody answers.
fn answer(question: &[u8]) -> Option<&'static str> {
    match question {
        b"price of apples" => Some("1.20"),
        b"order apples" => Some("ordered"),
        b"ping" => Some("pong"),
        b"login alice" => Some("welcome"),
        _ => None,
    }
}

impl Halves {
    async fn send(&self, client: &mut TcpStream, answer: &str) -> Option<()> {
        let frame = [&(answer.len() as u32).to_le_bytes(), answer.as_bytes()].concat();
        let (first, second) = frame.split_at(6);
        client.write_all(first).await.ok()?;
        self.sent.notify_one();
        tokio::select! {
            () = self.wanted.notified() => client.write_all(second).await.ok(),
            // A client that waits for the second half says nothing; one that has left is told apart by a read alone: that
            // a socket is said to be readable can be old news.
            _ = client.read_u8() => None,
        }
    }
}
