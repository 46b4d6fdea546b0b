//! Connections without a network: each attempt makes a pipe whose far end goes to the test. With tokio's clock
//! paused, minutes of a story take no time.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use steadfast::{Connect, Connected, Connecting, Endpoint, NotConnected, Pool, Reconnect, Retry};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The client's end. At the other one is a [`Switch`].
#[derive(Debug)]
pub(crate) struct Pipes {
    size: usize,
    dials: Arc<AtomicUsize>,
    /// Meanwhile nobody listens.
    closed: Range<Instant>,
    ends: mpsc::UnboundedSender<DuplexStream>,
}

/// Where the pipes come out.
#[derive(Debug)]
pub(crate) struct Switch {
    dials: Arc<AtomicUsize>,
    ends: mpsc::UnboundedReceiver<DuplexStream>,
}

/// Pipes that hold `size` bytes each way.
pub(crate) fn pipes(size: usize) -> (Pipes, Switch) {
    let (sender, ends) = mpsc::unbounded_channel();
    let dials = Arc::new(AtomicUsize::new(0));
    let never = Instant::now()..Instant::now();
    (Pipes { size, dials: dials.clone(), closed: never, ends: sender }, Switch { dials, ends })
}

/// A pool over pipes that hold so many bytes.
pub(crate) fn pool_over(size: usize, connections: usize, retry: Retry) -> (Pool, Switch) {
    let (connector, switch) = pipes(size);
    let reconnect = Reconnect::exponential(Duration::from_millis(10), Duration::from_millis(100));
    let pool = Pool::builder("peer:1")
        .connector(connector)
        .connections(connections)
        .reconnect(reconnect)
        .retry(retry)
        .build()
        .unwrap();
    (pool, switch)
}

impl Pipes {
    /// Refuses all attempts for so long.
    pub(crate) fn closed_for(self, time: Duration) -> Self {
        self.closed_between(Duration::ZERO, time)
    }

    /// Refuses all attempts from then until then, counted from now.
    pub(crate) fn closed_between(self, from: Duration, until: Duration) -> Self {
        Self { closed: Instant::now() + from..Instant::now() + until, ..self }
    }
}

impl Connect for Pipes {
    fn connect<'a>(&'a self, _: &'a Endpoint) -> Connecting<'a> {
        Box::pin(async move {
            self.dials.fetch_add(1, Ordering::Relaxed);
            let (near, far) = tokio::io::duplex(self.size);
            if self.closed.contains(&Instant::now()) || self.ends.send(far).is_err() {
                return Err(refused());
            }
            Ok(Connected { transport: Box::new(near), address: None })
        })
    }
}

impl Switch {
    /// The far end of the next connection.
    pub(crate) async fn accept(&mut self) -> DuplexStream {
        let next = tokio::time::timeout(Duration::from_secs(600), self.ends.recv()).await;
        next.expect("the client connects").expect("the pool lives")
    }

    pub(crate) fn dials(&self) -> usize {
        self.dials.load(Ordering::Relaxed)
    }
}

/// What an attempt gives where nobody listens.
pub(crate) fn refused() -> NotConnected {
    std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into()
}
