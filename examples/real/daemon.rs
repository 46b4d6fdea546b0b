//! A real server as a child process, in the foreground, on a port that is free.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep};

/// A machine under load may take a while to start a process.
const PATIENCE: Duration = Duration::from_secs(10);
/// So often it is started if it ends at once: somebody else may have got its port.
const TRIES: usize = 3;

/// A running server. Killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    program: &'static str,
    arguments: Vec<String>,
    address: SocketAddr,
    child: Child,
}

impl Daemon {
    /// Starts it on a free port of `host` and waits until it accepts connections. `arguments` are told the address to
    /// listen on.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if the program is not installed.
    pub(crate) async fn start(
        program: &'static str,
        host: Ipv4Addr,
        arguments: impl Fn(SocketAddr) -> Vec<String>,
    ) -> io::Result<Self> {
        let mut tries = 1;
        loop {
            let address = free_address(host)?;
            let arguments = arguments(address);
            let child = spawn(program, &arguments)?;
            let mut daemon = Self { program, arguments, address, child };
            match daemon.accepts().await {
                Err(_) if tries < TRIES => tries += 1,
                Err(error) => return Err(error),
                Ok(()) => return Ok(daemon),
            }
        }
    }

    /// Where it listens, in all its lives.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The id of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: the process gets no chance to say goodbye. Returns when it is gone.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Starts it again on the same port, and waits until it accepts connections.
    pub(crate) async fn restart(&mut self) -> io::Result<()> {
        let mut tries = 1;
        loop {
            self.child = spawn(self.program, &self.arguments)?;
            match self.accepts().await {
                Err(_) if tries < TRIES => tries += 1,
                result => return result,
            }
        }
    }

    async fn accepts(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("{} did not start: {status}", self.program)));
            }
            match TcpStream::connect(self.address).await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => sleep(Duration::from_millis(5)).await,
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may be dead already; reaped it must be.
        let _ = self.kill();
    }
}

/// Bound, and never listening: a child that is started in this very moment by another thread has a copy of the socket until
/// it runs its own program, and a copy that listens would take, and then reset, the first connections to the server.
fn free_address(host: Ipv4Addr) -> io::Result<SocketAddr> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((host, 0).into())?;
    socket.local_addr()
}

/// Looks where Debian puts daemons, too: that folder is not on everybody's path.
fn spawn(program: &str, arguments: &[String]) -> io::Result<Child> {
    let run = |program: &str| Command::new(program).args(arguments).stdin(Stdio::null()).spawn();
    match run(program) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            run(&format!("/usr/sbin/{program}"))
        }
        result => result,
    }
}
