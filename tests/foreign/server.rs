//! A foreign server: frames with a `u32_le` length, each answered with itself. Each test says what is odd about it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf as _, BufMut as _, BytesMut};
use futures::{SinkExt as _, StreamExt as _};
use steadfast::{
    Bytes, Dialect, Framing, Matching, Meaning, Ordered, Pool, PoolBuilder, Protocol, Reconnect,
    To, Unsendable, Violation,
};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_util::codec::{Framed, FramedRead, FramedWrite};

use crate::support::loopback::listen;
use crate::support::peer::accept;
use crate::support::times::ms;

pub(crate) const FRAMING: Framing = Framing::u32_le();

pub(crate) fn ordered() -> Ordered {
    Ordered::new(FRAMING)
}

/// A pool of one connection that comes back fast.
pub(crate) fn pool(address: impl ToString) -> PoolBuilder {
    Pool::builder(address.to_string()).reconnect(Reconnect::exponential(ms(5), ms(50)))
}

pub(crate) type Line = Framed<TcpStream, Framing>;

/// A server that a test plays itself, connection by connection.
pub(crate) struct Played(TcpListener);

impl Played {
    pub(crate) async fn start() -> (Self, String) {
        let (listener, address) = listen().await;
        (Self(listener), address)
    }

    pub(crate) async fn accept(&self) -> Line {
        Framed::new(accept(&self.0).await, FRAMING)
    }
}

/// The next frame; `None` when the client has closed.
pub(crate) async fn next(line: &mut Line) -> Option<String> {
    let frame = tokio::time::timeout(ms(20_000), line.next()).await.expect("a frame");
    Some(String::from_utf8(frame?.ok()?.to_vec()).unwrap())
}

pub(crate) async fn say(line: &mut Line, frame: &str) {
    // That the client is gone is found out by reading.
    let _ = line.send(Bytes::from(frame.to_owned())).await;
}

/// Answers each frame with itself until the client closes.
pub(crate) async fn echo(mut line: Line) {
    while let Some(Ok(frame)) = line.next().await {
        if line.send(frame).await.is_err() {
            break;
        }
    }
}

/// Frames that begin with an id of four bytes, which the answer repeats.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ById {
    pub(crate) max: u64,
}

impl Dialect for ById {
    fn framing(&self) -> Framing {
        FRAMING
    }

    fn matching(&self) -> Matching {
        Matching::ById { min: 0, max: self.max }
    }

    fn request(&self, id: u64, body: Bytes, head: &mut BytesMut) -> Result<Bytes, Unsendable> {
        head.put_u32(id as u32);
        Ok(body)
    }

    fn received(&self, mut frame: Bytes) -> Result<Meaning, Violation> {
        let Ok(id) = frame.try_get_u32() else {
            return Err(Violation::Malformed { what: "it ends before its id does" });
        };
        Ok(Meaning::Reply { to: To::Id(id.into()), body: frame })
    }
}

impl Protocol for ById {}

/// In which order it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    InOrder,
    /// Of two that wait, the later one first.
    Crosswise,
}

/// A server that answers sometimes at once and sometimes late, and counts what it owes.
#[derive(Debug, Clone)]
pub(crate) struct Erratic {
    answers: Answers,
    pub(crate) served: Arc<AtomicUsize>,
    /// Owed at the moment, on all connections.
    pub(crate) owed: Arc<AtomicUsize>,
    /// The most that was owed on one connection at a time.
    pub(crate) most: Arc<AtomicUsize>,
    /// While it is true, nothing is answered.
    pub(crate) holding: watch::Sender<bool>,
}

impl Erratic {
    pub(crate) async fn start(answers: Answers) -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self {
            answers,
            served: Arc::default(),
            owed: Arc::default(),
            most: Arc::default(),
            holding: watch::Sender::new(false),
        };
        let serving = server.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else { break };
                tokio::spawn(serving.clone().serve(stream, number));
            }
        });
        (server, address)
    }

    async fn serve(self, stream: TcpStream, number: u64) {
        stream.set_nodelay(true).unwrap();
        let (reading, writing) = stream.into_split();
        let mut frames = FramedRead::new(reading, FRAMING);
        let (sender, requests) = mpsc::unbounded_channel();
        let owed_here = Arc::new(AtomicUsize::new(0));
        let answering = self.clone().answer(writing, requests, owed_here.clone(), number);
        let answering = tokio::spawn(answering);
        while let Some(Ok(frame)) = frames.next().await {
            self.owed.fetch_add(1, Ordering::SeqCst);
            let owed = owed_here.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(owed, Ordering::SeqCst);
            let _ = sender.send(frame);
        }
        drop(sender);
        let _ = answering.await;
        self.owed.fetch_sub(owed_here.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    async fn answer(
        self,
        writing: OwnedWriteHalf,
        mut requests: mpsc::UnboundedReceiver<Bytes>,
        owed_here: Arc<AtomicUsize>,
        number: u64,
    ) {
        let mut frames = FramedWrite::new(writing, FRAMING);
        let mut random = Random(number);
        let mut holding = self.holding.subscribe();
        while let Some(first) = requests.recv().await {
            let mut batch = vec![first];
            if self.answers == Answers::Crosswise {
                batch.extend(requests.try_recv());
                batch.reverse();
            }
            for request in batch {
                if random.below(50) == 0 {
                    tokio::time::sleep(ms(random.below(3))).await;
                }
                for _ in 0..random.below(4) {
                    tokio::task::yield_now().await;
                }
                let _ = holding.wait_for(|holding| !holding).await;
                // Before it goes out: with it the client may send the next.
                owed_here.fetch_sub(1, Ordering::SeqCst);
                self.owed.fetch_sub(1, Ordering::SeqCst);
                self.served.fetch_add(1, Ordering::SeqCst);
                if frames.send(request).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Numbers that look random and are the same in every run: `splitmix64`.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}
