//! A server as its owner sees it: binding, accepting, shutting down.

use std::convert::Infallible;
use std::io::ErrorKind::ConnectionAborted;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::ToSocketAddrs;
use tokio::sync::{Semaphore, watch};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::error::bind::BindError;
use crate::error::close::CloseError;
use crate::error::config::ConfigError;
use crate::error::instance::InstanceId;
use crate::panics::discard;
use crate::server::call::Handler;
use crate::server::clients::Clients;
use crate::server::connection::serve;
use crate::server::half_open::HalfOpen;
use crate::server::listen::{Incoming, Listen, TcpListening};
use crate::server::settings::ServerBuilder;
use crate::server::shared::Shared;
use crate::transport::guarded::Guarded;

/// When no connection can be accepted (no descriptors, no memory), it is tried again after so long.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Connections that are gone before they are accepted come one by one; with more than so many in a row, something is broken.
const GONE_IN_A_ROW: u32 = 64;
/// So many clients are turned away with an explanation at a time; others are just closed.
const TURNED_AWAY: usize = 64;

/// The serving end of [`Native`](crate#the-protocol): accepts connections and runs a [`Handler`] for each call.
pub struct Server {
    settings: ServerBuilder,
    listener: Box<dyn Listen>,
    instance: InstanceId,
    control: ServerHandle,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { settings, instance, .. } = self;
        let mut debug = f.debug_struct("Server");
        debug.field("settings", settings).field("instance", instance).finish_non_exhaustive()
    }
}

/// Shuts a server down from elsewhere. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ServerHandle {
    shutdown: Arc<watch::Sender<Option<Duration>>>,
}

impl Server {
    /// Settings for a server.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// Listens with the default settings.
    ///
    /// # Errors
    /// As [`ServerBuilder::bind`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// After the future is dropped nothing listens.
    ///
    /// # Examples
    /// ```no_run
    /// # use steadfast::{Call, Server};
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = Server::bind("0.0.0.0:7000").await?;
    /// server.serve(|call: Call| async move { Ok(call.into_body()) }).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn bind(address: impl ToSocketAddrs) -> Result<Self, BindError> {
        Self::builder().bind(address).await
    }

    /// The address that it listens on; tells the port that the operating system chose for port 0.
    ///
    /// # Errors
    /// As `getsockname(2)`, or what a [`Listen`] says.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The id that tells clients this server from the one that ran here before.
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// The handle that shuts it down.
    pub fn handle(&self) -> ServerHandle {
        self.control.clone()
    }

    /// Serves until [`ServerHandle::shutdown`] is called and everything is finished. Errors of single connections do
    /// not end it.
    ///
    /// # Errors
    /// [`CloseError`] if a shutdown ran out of time: it says how many calls were cut off, not answered or with answers that the
    /// operating system had not taken. Of those whose connections had ended before, it counts the ones whose handlers were at
    /// work.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropping the future ends the server at once: connections are closed, handlers dropped.
    pub async fn serve(self, handler: impl Handler) -> Result<(), CloseError> {
        let Self { settings, mut listener, instance, control } = self;
        let mut shutdown = control.shutdown.subscribe();
        let killed = CancellationToken::new();
        let _kill_on_drop = killed.clone().drop_guard();
        let (connections, tasks) = (TaskTracker::new(), TaskTracker::new());
        let clients = Arc::new(Clients::new(settings.reply_cache, settings.connections));
        let shared = Arc::new(Shared {
            clients: clients.clone(),
            places: Arc::new(Semaphore::new(settings.connections)),
            half_open: HalfOpen::new(settings.half_open),
            explaining: Semaphore::new(TURNED_AWAY),
            handlers: Arc::new(Semaphore::new(settings.handlers)),
            waiting: Arc::new(Semaphore::new(settings.waiting)),
            settings,
            instance,
            handler,
            draining: CancellationToken::new(),
            killed: killed.clone(),
            tasks: tasks.clone(),
            cut_off: AtomicUsize::new(0),
        });
        let served = async {
            tokio::select! {
                never = accept(&mut *listener, &shared, &connections) => never,
                never = clients.sweep() => never,
            }
        };
        let limit = tokio::select! {
            never = served => match never {},
            limit = requested(&mut shutdown) => limit,
        };
        // Its drop can be the user's code.
        discard(listener);
        info!(?limit, "shutting down");
        shared.draining.cancel();
        connections.close();
        tasks.close();
        let finished = async {
            connections.wait().await;
            // Nobody can come back for an answer any more.
            clients.forget_all();
            tasks.wait().await;
        };
        if timeout(limit, finished).await.is_err() {
            killed.cancel();
            connections.wait().await;
            tasks.wait().await;
        }
        let unfinished = shared.cut_off.load(Ordering::Relaxed);
        if unfinished == 0 { Ok(()) } else { Err(CloseError { unfinished }) }
    }
}

impl ServerBuilder {
    /// Listens. From now on clients can connect; they are answered once [`Server::serve`] runs.
    ///
    /// # Errors
    /// [`BindError`]: a setting is out of its range, the name cannot be resolved or has no address, the operating system
    /// refused the address, or it gives no random bytes for the server's id.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// After the future is dropped nothing listens.
    pub async fn bind(self, address: impl ToSocketAddrs) -> Result<Server, BindError> {
        self.check()?;
        let listener = TcpListening::listen(address, self.socket, self.heartbeat).await?;
        Ok(self.server(Box::new(listener))?)
    }

    /// Takes its connections from `listener`, which listens already: for TLS, for Unix sockets, for a simulated network.
    /// [`socket`](Self::socket) has no effect then.
    ///
    /// # Errors
    /// A setting is out of its range, or the operating system gives no random bytes for the server's id.
    pub fn listen_on(self, listener: impl Listen) -> Result<Server, ConfigError> {
        self.check()?;
        self.server(Box::new(Guarded(listener)))
    }

    fn server(self, listener: Box<dyn Listen>) -> Result<Server, ConfigError> {
        let mut instance = [0; 16];
        getrandom::fill(&mut instance).map_err(|_| ConfigError::NoRandomness)?;
        let control = ServerHandle { shutdown: Arc::new(watch::Sender::new(None)) };
        Ok(Server { settings: self, listener, instance: InstanceId(instance), control })
    }
}

impl ServerHandle {
    /// Asks the server to stop: it accepts no connections and no new calls, tells clients to go elsewhere, finishes the
    /// calls that it has accepted, and closes with FIN. What is not finished after `limit` is cut off.
    /// [`Server::serve`] returns when that is done. Further calls change nothing.
    ///
    /// Too little: calls are cut off that would soon be answered, and their callers cannot know whether they ran. Too much:
    /// whoever supervises this process loses patience and kills it (systemd after 90 s, Kubernetes after 30 s).
    ///
    /// # Examples
    /// On SIGTERM, which is how a supervisor asks a process to end. It takes tokio's feature `signal`:
    /// ```no_run
    /// # #[cfg(unix)]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use steadfast::{Call, Server};
    /// use tokio::signal::unix::{SignalKind, signal};
    ///
    /// let server = Server::bind("0.0.0.0:7000").await?;
    /// let (handle, mut terminated) = (server.handle(), signal(SignalKind::terminate())?);
    /// tokio::spawn(async move {
    ///     terminated.recv().await;
    ///     handle.shutdown(Duration::from_secs(20));
    /// });
    /// if let Err(error) = server.serve(|call: Call| async move { Ok(call.into_body()) }).await {
    ///     eprintln!("not everything was answered within 20 s: {error}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn shutdown(&self, limit: Duration) {
        self.shutdown.send_if_modified(|wanted| {
            let is_first = wanted.is_none();
            wanted.get_or_insert(limit);
            is_first
        });
    }
}

async fn requested(shutdown: &mut watch::Receiver<Option<Duration>>) -> Duration {
    loop {
        if let Some(limit) = *shutdown.borrow_and_update() {
            return limit;
        }
        if shutdown.changed().await.is_err() {
            // Nobody can ask any more. (The server's own handle is a sender, so this does not come to pass.)
            std::future::pending::<()>().await;
        }
    }
}

async fn accept<H: Handler>(
    listener: &mut dyn Listen,
    shared: &Arc<Shared<H>>,
    connections: &TaskTracker,
) -> Infallible {
    let (mut number, mut gone) = (0, 0);
    loop {
        // A listener that always has something leaves the others of this task and thread their turn.
        yield_now().await;
        let Incoming { transport, peer } = match listener.accept().await {
            Ok(accepted) => accepted,
            // It concerns this connection alone.
            Err(error) if error.kind() == ConnectionAborted && gone < GONE_IN_A_ROW => {
                gone += 1;
                continue;
            }
            // Others (EMFILE, ENOBUFS) would spin.
            Err(error) => {
                warn!(%error, "cannot accept connections");
                sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        (number, gone) = (number + 1, 0);
        let silent = shared.half_open.enter(number);
        let shared = shared.clone();
        connections.spawn(serve(shared, transport, peer, silent));
    }
}
