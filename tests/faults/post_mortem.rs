//! What is known of a connection after its death, over real sockets.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use steadfast::{Connect, Connected, Connecting, Endpoint, Loss, LossCause, Met, Pool, TcpState};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

use crate::support::lab::{Lab, SERVER};
use crate::support::loopback::listen;
use crate::support::news;
use crate::support::peer::{Peer, accept};
use crate::support::pipes::pipes;
use crate::support::proc_net::row;
use crate::support::process::Process;
use crate::support::process::resets_look_like_ends;
use crate::support::scripted::{frame, message, reply};
use crate::support::skipping::all_is_demanded;
use crate::support::tampered::{Below, Tamper, Tampered};
use crate::support::times::ms;
use crate::support::waits::{until, within};

/// What a request and its reply have beside their bodies, in bytes.
const REQUEST_HEAD: u64 = 26;
const REPLY_HEAD: u64 = 14;

/// One call is answered; then the server, having said `last`, ends the connection as the test will have it.
async fn loss(last: &[u8], end: impl FnOnce(TcpStream)) -> Arc<Loss> {
    let (listener, address) = listen().await;
    let pool = Pool::builder(address).build().unwrap();
    let mut events = pool.events();
    let mut peer = Peer::greet(accept(&listener).await).await;
    let call = tokio::spawn(async move { (pool.call("ask").await, pool) });
    let request = peer.request().await.unwrap();
    peer.say(reply(request.id, b"answer")).await;
    let (answer, _pool) = within(ms(5000), "the answer", call).await.unwrap();
    assert_eq!(answer.unwrap(), "answer");
    peer.say(last).await;
    end(peer.stream);
    news::lost(&mut events).await
}

/// Closes with RST (`socket(7)`, `SO_LINGER`).
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// The kernel's answer, where it gives one.
fn is_told(loss: &Loss) -> bool {
    cfg!(target_os = "linux") && (loss.tcp.is_some() || all_is_demanded())
}

#[tokio::test]
async fn after_a_reset_tcp_knows_nothing_more_and_only_reading_met_it() {
    let loss = loss(b"", reset).await;
    if resets_look_like_ends() && loss.cause == LossCause::ClosedByPeer {
        return;
    }
    let LossCause::Os(error) = &loss.cause else { panic!("{loss}") };
    assert_eq!(error.name(), Some("ECONNRESET"));
    assert_eq!((&loss.reading, &loss.writing), (&Met::Error(error.clone()), &Met::Nothing));
    assert!(!loss.fin_seen && !loss.cut_off);
    if is_told(&loss) {
        let tcp = loss.tcp.expect("what TCP knew");
        assert_eq!((tcp.state, tcp.flow), (TcpState::Close, None));
    }
}

#[tokio::test]
async fn after_a_fin_bytes_and_frames_are_counted_and_tcp_waits_for_our_close() {
    // A push, and half of another.
    let push = message(0x17, (1 << 63) + 1, b"news");
    let last = [&push[..], &push[..7]].concat();
    let loss = loss(&last, drop).await;
    assert_eq!(loss.cause, LossCause::ClosedByPeer);
    assert_eq!((&loss.reading, &loss.writing), (&Met::EndOfFile, &Met::Nothing));
    assert!(loss.fin_seen && loss.cut_off);
    let came = REPLY_HEAD + 6 + last.len() as u64;
    assert_eq!((loss.bytes_in, loss.frames_in), (came, 2));
    assert_eq!((loss.bytes_out, loss.frames_out), (REQUEST_HEAD + 3, 1));
    if is_told(&loss) {
        let tcp = loss.tcp.expect("what TCP knew");
        assert_eq!(tcp.state, TcpState::CloseWait);
        let flow = tcp.flow.expect("the kernel has the connection still");
        assert_eq!((flow.retransmits, flow.unacknowledged, flow.unread), (0, 0, 0));
        assert!(!flow.rtt.is_zero());
    }
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_has_the_cause_and_the_whole_post_mortem_in_fields() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_env_filter("steadfast=info")
        .with_writer(move || writer.clone())
        .finish();
    let _default = tracing::subscriber::set_default(subscriber);
    let loss = loss(b"", drop).await;
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let line = text.lines().find(|line| line.contains("connection lost")).expect(&text);
    for field in [
        "cause=was closed by the peer (FIN)",
        "fin_seen=true",
        "frames_in=1 cut_off=false",
        "frames_out=1",
        "reading=end of file writing=nothing",
    ] {
        assert!(line.contains(field), "no {field:?} in {line}");
    }
    if is_told(&loss) {
        assert!(line.contains("tcp=CLOSE_WAIT, round trip"), "{line}");
    }
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_is_examined_before_the_socket_is_closed() {
    let loss = loss(&frame(0x55, &[]), |stream| {
        tokio::spawn(async move { Peer::new(stream).frame().await });
    })
    .await;
    assert!(matches!(loss.cause, LossCause::Violation(_)), "{loss}");
    assert_eq!((&loss.reading, &loss.writing), (&Met::Nothing, &Met::Nothing));
    if is_told(&loss) {
        assert_eq!(loss.tcp.expect("what TCP knew").state, TcpState::Established);
    }
}

#[tokio::test]
async fn what_is_not_tcp_has_nothing_of_tcp() {
    let (connector, mut switch) = pipes(4096);
    let pool = Pool::builder("peer:1").connector(connector).build().unwrap();
    let mut events = pool.events();
    drop(Peer::greet(switch.accept().await).await);
    let loss = news::lost(&mut events).await;
    assert_eq!((&loss.cause, loss.tcp), (&LossCause::ClosedByPeer, None));
}

/// TCP that does not read while it is deaf, so that writing is the first to meet what has happened. Hears again after
/// that.
struct Deaf(Arc<AtomicBool>);

struct ConnectDeaf(Arc<AtomicBool>);

impl Connect for ConnectDeaf {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Connecting<'a> {
        Box::pin(async move {
            let stream = TcpStream::connect((endpoint.host(), endpoint.port())).await?;
            let transport = Tampered::with(Deaf(self.0.clone()), Box::new(stream));
            Ok(Connected { transport, address: None })
        })
    }
}

impl Tamper for Deaf {
    fn poll_read(
        &mut self,
        below: &mut Below,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.0.load(Ordering::SeqCst) {
            true => Poll::Pending,
            false => Pin::new(below).poll_read(cx, buffer),
        }
    }

    fn poll_write(
        &mut self,
        below: &mut Below,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(below).poll_write(cx, bytes);
        if let Poll::Ready(Err(_)) = written {
            self.0.store(false, Ordering::SeqCst);
        }
        written
    }
}

#[tokio::test]
async fn a_reset_that_writing_meets_first_leaves_an_end_of_file_to_reading_which_is_no_fin() {
    let (listener, address) = listen().await;
    let deaf = Arc::new(AtomicBool::new(false));
    let pool = Pool::builder(address).connector(ConnectDeaf(deaf.clone())).build().unwrap();
    let mut events = pool.events();
    let peer = Peer::greet(accept(&listener).await).await;
    news::ready(&mut events).await;
    deaf.store(true, Ordering::SeqCst);
    let [client, server] = [peer.stream.peer_addr(), peer.stream.local_addr()].map(Result::unwrap);
    reset(peer.stream);
    until("the reset has come", || row(client, server).is_none()).await;
    let call = tokio::spawn(async move { pool.request("ask").timeout(ms(2000)).send().await });
    let loss = news::lost(&mut events).await;
    let LossCause::Os(error) = &loss.cause else { panic!("{loss}") };
    assert_eq!(error.name(), Some("ECONNRESET"));
    assert_eq!((&loss.reading, &loss.writing), (&Met::EndOfFile, &Met::Error(error.clone())));
    assert!(!loss.fin_seen, "an end of file behind an error is none");
    assert_eq!((loss.bytes_out, loss.tcp), (0, None));
    call.abort();
}

#[tokio::test]
async fn in_a_black_hole_tcp_has_sent_again_what_nobody_acknowledges() {
    let Some(lab) = Lab::up() else { return };
    let listen = format!("{SERVER}:7000");
    let mut server = lab.start("s", "server", &[("LISTEN", &listen)]);
    server.says("listening on ").await;
    let settings = [("TO", &*listen), ("EVERY", "500"), ("GIVE_UP", "1500")];
    let mut client: Process = lab.start("c", "client", &settings);
    client.says("ready").await;
    lab.cut(SERVER);
    client.says("lost silent").await;
    let (_, post_mortem) = client.says("post mortem: ").await;
    let (_, tcp) = post_mortem.split_once("TCP: ESTABLISHED, ").expect(&post_mortem);
    let number = |noun: &str| -> u32 {
        let before = tcp.split(noun).next().unwrap().trim_end();
        before.rsplit(' ').next().unwrap().parse().expect(tcp)
    };
    assert!(number("retransmits") > 0 && number("of them in a row") > 0, "{tcp}");
    // Pings, of 13 bytes each.
    let unacknowledged = number("bytes unacknowledged");
    assert!(unacknowledged > 0 && unacknowledged % 13 == 0, "{tcp}");
}
