//! A TCP proxy between a pool and a server that cuts the line at a chosen byte, in a chosen way.
//!
//! ```text
//!            near             far
//!  pool ─────────► Line ─────────────► server     Requests
//!       ◄───────── one per connection ◄────       Replies
//! ```
//!
//! Only the bytes of calls are counted: neither those of the handshake nor those of heartbeats, which come when they
//! like. One cut is armed at a time; the line that carries the next byte in its direction gets it, if it is one of
//! those that are meant, and all later lines pass untouched.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use fastrand::Rng;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::support::loopback::own_loopback;
use crate::support::scripted::{HELLO, PING, PONG, WELCOME};

/// How much is read at a time.
const READ: usize = 64 * 1024;

/// Where and how a line is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) direction: Direction,
    /// So many bytes of calls still pass in that direction. 0: the next one does not.
    pub(crate) after: u64,
    pub(crate) way: Way,
}

impl Cut {
    /// In either direction and any way, after fewer than so many bytes.
    pub(crate) fn any(rng: &mut Rng, bytes: u64) -> Self {
        let direction = if rng.bool() { Direction::Requests } else { Direction::Replies };
        Self { direction, after: rng.u64(..bytes), way: Way::ALL[rng.usize(..Way::ALL.len())] }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    Requests,
    Replies,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// An orderly end of file, and nothing more is passed on.
    Fin(Side),
    /// RST to both.
    Rst,
    /// Nothing passes any more, and both sockets stay open as long as their peers want.
    Silence,
    /// FIN to the client only. What it has sent from the cut on is [`Held`], and reaches the server when the test
    /// says so: never, if the test does not want it.
    Hold,
}

impl Way {
    const ALL: [Self; 6] = [
        Self::Fin(Side::Both),
        Self::Fin(Side::Client),
        Self::Fin(Side::Server),
        Self::Rst,
        Self::Silence,
        Self::Hold,
    ];
}

/// Who gets the FIN at once. The other one gets it when the first has closed, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Both,
    Client,
    Server,
}

/// Which lines a cut is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Any,
    /// Others may still carry what nobody waits for any more.
    Newest,
}

/// Whether what comes from the server goes on to the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Dam {
    #[default]
    Open,
    Shut,
}

/// Ends, with all its lines, when it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    plan: Arc<Plan>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Plan {
    armed: Mutex<Option<Armed>>,
    cuts: AtomicUsize,
    lines: AtomicU64,
    /// Bytes of calls, over all lines, requests first.
    passed: [AtomicU64; 2],
    dam: watch::Sender<Dam>,
    dammed: AtomicUsize,
}

#[derive(Debug)]
struct Armed {
    cut: Cut,
    which: Which,
    /// Bytes that still pass.
    left: u64,
    /// The line that carried the first byte since.
    line: Option<u64>,
    held: oneshot::Sender<Held>,
}

impl Proxy {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((own_loopback(), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let plan = Arc::new(Plan::default());
        let accepting = tokio::spawn(accept(listener, server, plan.clone()));
        Self { address, plan, accepting }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Arms a cut of the newest line, in place of one that has not been made. What is held, if it is that kind, comes out
    /// of the channel.
    pub(crate) fn cut(&self, cut: Cut) -> oneshot::Receiver<Held> {
        self.arm(cut, Which::Newest)
    }

    /// The same for whatever line comes first.
    pub(crate) fn cut_any(&self, cut: Cut) -> oneshot::Receiver<Held> {
        self.arm(cut, Which::Any)
    }

    fn arm(&self, cut: Cut, which: Which) -> oneshot::Receiver<Held> {
        let (held, receiver) = oneshot::channel();
        *self.plan.armed() = Some(Armed { cut, which, left: cut.after, line: None, held });
        receiver
    }

    /// Whether a cut waits for its byte.
    pub(crate) fn is_armed(&self) -> bool {
        self.plan.armed().is_some()
    }

    /// Cuts that were made.
    pub(crate) fn cuts(&self) -> usize {
        self.plan.cuts.load(Ordering::Relaxed)
    }

    /// Bytes of calls that have passed in this direction, over all lines.
    pub(crate) fn passed(&self, direction: Direction) -> u64 {
        self.plan.passed[direction as usize].load(Ordering::Relaxed)
    }

    /// Keeps back what comes from the server, or lets it go.
    pub(crate) fn dam(&self, dam: Dam) {
        self.plan.dam.send_replace(dam);
    }

    /// Bytes that are kept back.
    pub(crate) fn dammed(&self) -> usize {
        self.plan.dammed.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Plan {
    /// `count` bytes of calls are about to pass. `Some` if the line is to be cut after some of them.
    fn passing(&self, line: u64, direction: Direction, count: u64) -> Option<(u64, Armed)> {
        self.passed[direction as usize].fetch_add(count, Ordering::Relaxed);
        let mut armed = self.armed();
        let plan = armed.as_mut().filter(|armed| armed.cut.direction == direction)?;
        if plan.which == Which::Newest && line != self.lines.load(Ordering::Relaxed) {
            return None;
        }
        if *plan.line.get_or_insert(line) != line {
            return None;
        }
        if plan.left > count {
            plan.left -= count;
            return None;
        }
        self.cuts.fetch_add(1, Ordering::Relaxed);
        armed.take().map(|armed| (armed.left, armed))
    }

    /// A line ends. If it was to be cut, another one is.
    fn ended(&self, line: u64) {
        if let Some(armed) = self.armed().as_mut().filter(|armed| armed.line == Some(line)) {
            armed.line = None;
        }
    }

    fn armed(&self) -> MutexGuard<'_, Option<Armed>> {
        self.armed.lock().unwrap()
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, plan: Arc<Plan>) {
    let mut lines = tokio::task::JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.unwrap();
        let number = plan.lines.fetch_add(1, Ordering::Relaxed) + 1;
        while lines.try_join_next().is_some() {}
        lines.spawn(connect(near, server, number, plan.clone()));
    }
}

async fn connect(near: TcpStream, server: SocketAddr, number: u64, plan: Arc<Plan>) {
    let Ok(far) = TcpStream::connect(server).await else {
        return reset(&near);
    };
    for stream in [&near, &far] {
        stream.set_nodelay(true).unwrap();
    }
    let (up, down) = (Passing::new(Direction::Requests), Passing::new(Direction::Replies));
    Line { number, near, far, up, down, plan }.run().await;
}

/// One connection on both sides.
#[derive(Debug)]
struct Line {
    number: u64,
    near: TcpStream,
    far: TcpStream,
    up: Passing,
    down: Passing,
    plan: Arc<Plan>,
}

/// What passes in one direction.
#[derive(Debug)]
struct Passing {
    direction: Direction,
    input: BytesMut,
    open: bool,
    /// Bytes of the present frame that have not passed.
    frame_left: usize,
    counted: bool,
}

impl Line {
    async fn run(mut self) {
        let cut = self.pass_on().await;
        self.plan.ended(self.number);
        if let Some(Armed { cut, held, .. }) = cut {
            self.end(cut.way, held).await;
        }
    }

    /// Passes everything on, ends and resets, too, until there is nothing more, or the line is to be cut.
    async fn pass_on(&mut self) -> Option<Armed> {
        let Self { number, near, far, up, down, plan } = self;
        let mut dam = plan.dam.subscribe();
        while up.open || down.open {
            up.input.reserve(READ);
            down.input.reserve(READ);
            let shut = *dam.borrow_and_update() == Dam::Shut;
            let more = down.open && (!shut || down.input.is_empty());
            let (result, passing, to) = tokio::select! {
                result = near.read_buf(&mut up.input), if up.open => (result, &mut *up, &mut *far),
                result = far.read_buf(&mut down.input), if more => (result, &mut *down, &mut *near),
                _ = dam.changed(), if shut => match down.input.len() {
                    0 => continue,
                    kept => (Ok(kept), &mut *down, &mut *near),
                },
            };
            // It may have been shut meanwhile.
            let shut = *dam.borrow() == Dam::Shut;
            if shut && passing.direction == Direction::Replies && matches!(result, Ok(1..)) {
                plan.dammed.store(passing.input.len(), Ordering::Relaxed);
                continue;
            }
            match result {
                Ok(0) => {
                    passing.open = false;
                    let _ = to.shutdown().await;
                }
                Ok(_) => {
                    let (count, cut) = passing.measure(*number, plan);
                    let written = to.write_all(&passing.input[..count]).await;
                    passing.input.advance(count);
                    if passing.input.is_empty() {
                        // What a dam held back may have made it large.
                        passing.input = BytesMut::new();
                    }
                    if cut.is_some() {
                        return cut;
                    }
                    passing.open &= written.is_ok();
                }
                Err(_) => {
                    reset(near);
                    reset(far);
                    return None;
                }
            }
        }
        None
    }

    async fn end(mut self, way: Way, held: oneshot::Sender<Held>) {
        let Self { near, far, up, .. } = &mut self;
        match way {
            Way::Rst => {
                tokio::join!(sent(near), sent(far));
                reset(near);
                reset(far);
            }
            Way::Silence => {
                tokio::join!(read_to_end(near), read_to_end(far));
            }
            Way::Fin(side) => {
                let (first, second) = match side {
                    Side::Both | Side::Client => (near, far),
                    Side::Server => (far, near),
                };
                let _ = first.shutdown().await;
                if side == Side::Both {
                    let _ = second.shutdown().await;
                }
                // What is unread when a socket is closed would make it an RST.
                read_to_end(first).await;
                let _ = second.shutdown().await;
                read_to_end(second).await;
            }
            Way::Hold => {
                let _ = near.shutdown().await;
                while matches!(near.read_buf(&mut up.input).await, Ok(1..)) {}
                let _ = held.send(Held { bytes: self.up.input, far: self.far });
            }
        }
    }
}

impl Passing {
    fn new(direction: Direction) -> Self {
        Self { direction, input: BytesMut::new(), open: true, frame_left: 0, counted: false }
    }

    /// How much of the input may pass now, and what happens to the line then.
    fn measure(&mut self, line: u64, plan: &Plan) -> (usize, Option<Armed>) {
        let mut passed = 0;
        while let Some(count) = self.next_piece(passed) {
            if self.counted {
                if let Some((room, armed)) = plan.passing(line, self.direction, count as u64) {
                    return (passed + room as usize, Some(armed));
                }
            }
            self.frame_left -= count;
            passed += count;
        }
        (passed, None)
    }

    /// How many bytes from here on belong to one frame. The beginning of a frame waits until its kind is known.
    fn next_piece(&mut self, from: usize) -> Option<usize> {
        let bytes = &self.input[from..];
        if self.frame_left == 0 {
            let [a, b, c, d, kind] = *bytes.first_chunk()?;
            self.frame_left = 4 + u32::from_be_bytes([a, b, c, d]) as usize;
            self.counted = !matches!(kind, HELLO | WELCOME | PING | PONG);
        }
        Some(bytes.len().min(self.frame_left)).filter(|count| *count > 0)
    }
}

/// What a client had sent when its line was cut, and the way to the server, which is still open.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: BytesMut,
    far: TcpStream,
}

impl Held {
    /// Delivers it, as late as it is. Returns when the server has read all of it, or will not any more.
    pub(crate) async fn deliver(mut self) {
        if self.far.write_all(&self.bytes).await.is_ok() {
            let _ = self.far.shutdown().await;
        }
        read_to_end(&mut self.far).await;
    }
}

async fn read_to_end(stream: &mut TcpStream) {
    let mut rest = [0; 4096];
    while matches!(stream.read(&mut rest).await, Ok(1..)) {}
}

/// Returns when nothing waits to be sent, because RST would destroy it.
async fn sent(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    {
        // Then a socket is writable only while all of it has been sent (tcp(7)), which a new registration is told.
        let socket = SockRef::from(stream);
        socket.set_tcp_notsent_lowat(1).unwrap();
        let copy = TcpStream::from_std(socket.try_clone().unwrap().into()).unwrap();
        let _ = copy.writable().await;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = stream;
}

/// The socket will be closed with RST.
fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
