//! A server that ends its first connection, or all until it is told to `behave`, in one of the ways in which servers do it.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::journal::Journal;
use crate::support::peer::{Peer, Request};
use crate::support::process::{say, setting};
use crate::support::roles::Commands;
use crate::support::scripted::{REQUEST, reply, welcome};

/// Longer than any window.
const BIG: usize = 16 << 20;

/// How it treats a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Answers each call with its own body, and does what it is told: `close`.
    Echo,
    /// Closes before it says anything.
    CloseAtOnce,
    /// Answers a call and resets the connection in the same breath (`SO_LINGER` 0).
    ReplyAndReset,
    /// Answers when it has read the first frame of a call, and closes with the others unread.
    ReplyEarly,
    /// The same, with FIN before.
    ReplyEarlyAndShutDown,
    /// Answers early, reads what is there, and closes.
    ReplyEarlyAndDrain,
    /// Begins to answer a call with more than fits in any window, and closes with the next one unread.
    ReplyBig,
    /// Reads nothing behind the first call, until it is told to `read`. Its kernel goes on acknowledging.
    Deaf,
}

impl FromStr for Manner {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "echo" => Self::Echo,
            "close at once" => Self::CloseAtOnce,
            "reply and reset" => Self::ReplyAndReset,
            "reply early" => Self::ReplyEarly,
            "reply early and shut down" => Self::ReplyEarlyAndShutDown,
            "reply early and drain" => Self::ReplyEarlyAndDrain,
            "reply big" => Self::ReplyBig,
            "deaf" => Self::Deaf,
            _ => return Err(name.to_owned()),
        })
    }
}

/// Listens at `LISTEN` with `BACKLOG`, writes into `JOURNAL`, and treats the first connection in the `MANNER`. It accepts nothing
/// before it is told to, if `LATE` is set.
pub(crate) async fn serve(mut commands: Commands) {
    let manner: Manner = setting("MANNER").expect("MANNER").parse().expect("a manner");
    let journal = Arc::new(Journal::open(setting("JOURNAL").expect("JOURNAL")).expect("a file"));
    let listener = listen();
    say(&format!("listening on {}", listener.local_addr().expect("an address")));
    if setting("LATE").is_some() {
        assert_eq!(commands.recv().await.as_deref(), Some("accept"));
    }
    let (told, _) = watch::channel(String::new());
    let mut manner_now = manner;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.expect("descriptors");
                stream.set_nodelay(true).expect("an option");
                tokio::spawn(treat(stream, manner_now, told.subscribe(), journal.clone()));
                if manner_now != Manner::CloseAtOnce {
                    manner_now = Manner::Echo;
                }
            }
            Some(command) = commands.recv() => match &*command {
                "behave" => manner_now = Manner::Echo,
                _ => drop(told.send_replace(command)),
            },
        }
    }
}

fn listen() -> TcpListener {
    let address: std::net::SocketAddr =
        setting("LISTEN").expect("LISTEN").parse().expect("an address");
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an option");
    socket.bind(address).expect("an address that is free");
    let backlog = setting("BACKLOG").map_or(128, |backlog| backlog.parse().expect("a number"));
    socket.listen(backlog).expect("it listens")
}

async fn treat(
    stream: TcpStream,
    manner: Manner,
    mut told: watch::Receiver<String>,
    journal: Arc<Journal>,
) {
    if manner == Manner::CloseAtOnce {
        return;
    }
    let mut peer = Peer::new(stream);
    peer.hello().await;
    // As big as the client allows itself.
    peer.say(welcome(std::process::id() as u8, 64 << 20, 10_000)).await;
    told.mark_unchanged();
    let rude = async {
        match manner {
            Manner::Echo | Manner::CloseAtOnce => echo(&mut peer, &journal).await,
            Manner::ReplyAndReset => {
                answer(&mut peer, &journal, 200).await;
                reset(&peer.stream);
            }
            Manner::ReplyEarly => early(&mut peer, &journal).await,
            Manner::ReplyEarlyAndShutDown => {
                early(&mut peer, &journal).await;
                let _ = peer.stream.shutdown().await;
            }
            Manner::ReplyEarlyAndDrain => {
                early(&mut peer, &journal).await;
                drain(&peer.stream);
            }
            Manner::ReplyBig => big(&mut peer, &journal).await,
            Manner::Deaf => {
                answer(&mut peer, &journal, 200).await;
                std::future::pending::<()>().await;
            }
        }
    };
    let command = tokio::select! {
        () = rude => return,
        _ = told.changed() => told.borrow().clone(),
    };
    match &*command {
        "close" => {}
        "reset" => reset(&peer.stream),
        "read" => echo(&mut peer, &journal).await,
        command => panic!("there is no command {command}"),
    }
}

async fn echo(peer: &mut Peer<TcpStream>, journal: &Journal) {
    while let Some(Request { id, body, .. }) = peer.request().await {
        execute(journal, &body);
        peer.say(reply(id, &body)).await;
    }
}

/// Answers the next call, with so many bytes; no more is sent than the client takes for now.
async fn answer(peer: &mut Peer<TcpStream>, journal: &Journal, bytes: usize) {
    let Some(Request { id, body, .. }) = peer.request().await else { return };
    execute(journal, &body);
    let mut answer = body[..8].to_vec();
    answer.resize(bytes, 0);
    peer.say(reply(id, &answer)).await;
}

/// Answers a call of many frames when the first has come.
async fn early(peer: &mut Peer<TcpStream>, journal: &Journal) {
    let frame = loop {
        let Some(frame) = peer.frame().await else { return };
        if frame.kind == REQUEST {
            break frame;
        }
    };
    let body = frame.body();
    execute(journal, &body[..8]);
    let mut answer = body[..8].to_vec();
    answer.resize(200, 0);
    more(peer).await;
    peer.say(reply(frame.id(), &answer)).await;
}

/// As much of the answer to the next call as the kernel takes, when another call is there.
async fn big(peer: &mut Peer<TcpStream>, journal: &Journal) {
    let Some(Request { id, body, .. }) = peer.request().await else { return };
    execute(journal, &body);
    more(peer).await;
    let answer = reply(id, &[&body[..8], &[0; BIG]].concat());
    let _ = peer.stream.try_write(&answer);
}

/// Returns when something unread is there.
async fn more(peer: &Peer<TcpStream>) {
    peer.stream.peek(&mut [0]).await.expect("the client is there");
}

fn execute(journal: &Journal, body: &[u8]) {
    let number = body.first_chunk().expect("a number is in front");
    journal.executes(u64::from_be_bytes(*number)).expect("the disk takes it");
}

fn drain(stream: &TcpStream) {
    let mut rest = vec![0; 1 << 20];
    while stream.try_read(&mut rest).is_ok_and(|bytes| bytes > 0) {}
}

/// The close that follows is an RST.
fn reset(stream: &TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("an option");
}
