//! What a child process does: serve, or call.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use steadfast::{
    Bytes, Call, ConnectCause, Event, Framing, Heartbeat, LossCause, Ordered, Pool, Reconnect,
    ReplyCache, Server, Timeouts,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::codec::Framed;

use crate::support::peer::Peer;
use crate::support::plain;
use crate::support::process::{say, setting};
use crate::support::times::ms;

/// How old servers cut their frames.
const PLAIN: Framing = Framing::u32_le();

/// What the test tells a process, line by line.
pub(crate) type Commands = mpsc::UnboundedReceiver<String>;

/// Plays a role until the process is killed or its standard input ends.
pub(crate) fn play(role: &str) {
    match role {
        "server" => run(|_| serve()),
        "deaf server" => run(|_| stop_reading()),
        "old server" => run(|_| serve_plain_frames()),
        "client" => run(call),
        "plain server" => run(|_| plain::serve()),
        "lessee" => run(plain::lease),
        role => panic!("there is no role {role}"),
    }
}

/// Plays this role.
pub(crate) fn run<F: Future<Output = ()>>(role: impl FnOnce(Commands) -> F) {
    // The test harness leaves its cursor behind a text.
    println!();
    let (sender, commands) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(role(commands));
}

pub(crate) fn heartbeat() -> Heartbeat {
    let time = |name| setting(name).map(|value| ms(value.parse().expect("milliseconds")));
    let every = time("EVERY").unwrap_or(Duration::from_secs(5));
    Heartbeat::every(every).give_up_after(time("GIVE_UP").unwrap_or(every * 2))
}

/// An echo at `LISTEN`. It keeps the replies of `REMEMBERED` calls, if that is set.
async fn serve() {
    let address = setting("LISTEN").expect("LISTEN");
    let mut cache = ReplyCache::default();
    if let Some(calls) = setting("REMEMBERED") {
        cache = cache.calls(calls.parse().expect("a number"));
    }
    let server = Server::builder().heartbeat(heartbeat()).reply_cache(cache).bind(&address).await;
    let server = server.expect("an address that is free");
    say(&format!("listening on {}", server.local_addr().expect("an address")));
    server.serve(|call: Call| async move { Ok(call.into_body()) }).await.expect("not shut down");
}

/// Welcomes one client at `LISTEN` and takes `REQUESTS` of its requests; what comes then stays in the kernel, unread.
async fn stop_reading() {
    let listener = TcpListener::bind(setting("LISTEN").expect("LISTEN")).await;
    let listener = listener.expect("an address that is free");
    say(&format!("listening on {}", listener.local_addr().expect("an address")));
    let (stream, _) = listener.accept().await.expect("a client");
    let mut peer = Peer::greet(stream).await;
    for _ in 0..setting("REQUESTS").expect("REQUESTS").parse().expect("a number") {
        peer.request().await.expect("a request");
    }
    say("requests came");
    // By a look at it: that a socket is said to be readable can be old news.
    peer.stream.peek(&mut [0]).await.expect("something more");
    say("something is unread");
    std::future::pending().await
}

/// An echo of plain frames at `LISTEN`, as old servers are.
async fn serve_plain_frames() {
    let listener = TcpListener::bind(setting("LISTEN").expect("LISTEN")).await;
    let listener = listener.expect("an address that is free");
    say(&format!("listening on {}", listener.local_addr().expect("an address")));
    while let Ok((stream, _)) = listener.accept().await {
        let (frames, answers) = Framed::new(stream, PLAIN).split();
        tokio::spawn(answers.map_ok(Bytes::from).forward(frames));
    }
}

/// A pool that calls `TO` and tells what happens to its connections. With `BUSY`, it makes a thousand calls a second.
/// With `PLAIN`, it speaks plain frames that are answered in order, and has no heartbeat of its own.
/// With `FULL`, it begins without a free file descriptor and gets them when it reads `release`.
async fn call(mut commands: Commands) {
    let mut files = if setting("FULL").is_some() { take_all_files() } else { Vec::new() };
    let mut builder = Pool::builder(setting("TO").expect("TO"))
        .heartbeat(heartbeat())
        .reconnect(Reconnect::exponential(ms(50), ms(200)))
        .timeouts(Timeouts::default().resolve(ms(300)).connect(ms(300)).handshake(ms(300)));
    if setting("PLAIN").is_some() {
        builder = builder.protocol(Ordered::new(PLAIN));
    }
    let mut events = builder.events();
    let pool = builder.build().expect("good settings");
    let news = Arc::new(AtomicBool::new(false));
    if setting("BUSY").is_some() {
        tokio::spawn(call_all_the_time(pool.clone(), news.clone()));
    }
    loop {
        tokio::select! {
            Some(event) = events.next() => {
                if let Event::Ready { .. } = event {
                    news.store(true, Ordering::Relaxed);
                }
                tell(&event);
            }
            Some(command) = commands.recv() => match &*command {
                "release" => files.clear(),
                "call" => match pool.request("hello").timeout(ms(5000)).send().await {
                    Ok(_) => say("answered"),
                    Err(error) => say(&format!("not answered: {error}")),
                },
                command => panic!("there is no command {command}"),
            },
        }
    }
}

/// Says `answered` for the first success after each new connection.
async fn call_all_the_time(pool: Pool, news: Arc<AtomicBool>) {
    let mut tick = tokio::time::interval(ms(1));
    loop {
        tick.tick().await;
        let (pool, news) = (pool.clone(), news.clone());
        tokio::spawn(async move {
            let answer = pool.request("hello").timeout(ms(5000)).send().await;
            if answer.is_ok() && news.swap(false, Ordering::Relaxed) {
                say("answered");
            }
        });
    }
}

/// Opens files until there is no descriptor left (`RLIMIT_NOFILE` is set by whoever starts this).
pub(crate) fn take_all_files() -> Vec<File> {
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }
    files
}

fn tell(event: &Event) {
    match event {
        Event::Ready { connection, .. } => say(&format!("ready {connection}")),
        Event::Lost { loss, .. } => {
            say(&format!("lost {}", name(&loss.cause)));
            say(&format!("post mortem: {}", loss.post_mortem()));
        }
        Event::DialFailed { error, .. } => {
            let cause = match &error.cause {
                ConnectCause::Os(error) => error.name().unwrap_or("another error").to_owned(),
                ConnectCause::TimedOut { limit } => format!("no answer within {limit:?}"),
                cause => cause.to_string(),
            };
            say(&format!("failed {:?} {cause}, after {} ms", error.phase, error.took.as_millis()));
        }
        _ => {}
    }
}

fn name(cause: &LossCause) -> String {
    match cause {
        LossCause::ClosedByPeer => "closed".into(),
        LossCause::Silent { .. } => "silent".into(),
        LossCause::Stalled { .. } => "stalled".into(),
        LossCause::Os(error) => error.name().unwrap_or("another error").into(),
        cause => cause.to_string(),
    }
}
