//! The server's process: this binary once more, in its hidden role.

use std::fmt;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use steadfast::BoxError;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, timeout};

/// A machine under load may take a while to start a process.
const START: Duration = Duration::from_secs(10);

/// The server's addresses, the same in all its lives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) native: SocketAddr,
    pub(crate) plain: SocketAddr,
}

impl Addresses {
    pub(crate) async fn free() -> io::Result<Self> {
        let native = TcpListener::bind("127.0.0.1:0").await?;
        let plain = TcpListener::bind("127.0.0.1:0").await?;
        Ok(Self { native: native.local_addr()?, plain: plain.local_addr()? })
    }
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    child: Child,
    listening: Instant,
    /// Held, so that the child can go on writing.
    _output: Lines<BufReader<ChildStdout>>,
}

impl ServerProcess {
    /// Starts it and waits until it says that it listens.
    pub(crate) async fn start(addresses: Addresses, delay: Duration) -> Result<Self, BoxError> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .args(["--listen", &addresses.native.to_string()])
            .args(["--plain", &addresses.plain.to_string()])
            .args(["--delay-ms", &delay.as_millis().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().ok_or("the server has no output")?;
        let mut output = BufReader::new(output).lines();
        match timeout(START, output.next_line()).await {
            Ok(Ok(Some(line))) if line.starts_with("listening on ") => {
                Ok(Self { child, listening: Instant::now(), _output: output })
            }
            Ok(Ok(Some(line))) => Err(format!("the server said: {line}").into()),
            Ok(Ok(None)) => {
                Err(format!("the server did not start: {}", child.wait().await?).into())
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(format!("the server did not listen within {START:?}").into()),
        }
    }

    /// When it was heard that it listens.
    pub(crate) fn listening(&self) -> Instant {
        self.listening
    }

    /// SIGKILL: the process gets no chance to say goodbye. Returns when it is gone.
    pub(crate) async fn kill(mut self) -> io::Result<()> {
        self.child.kill().await
    }
}

impl fmt::Display for ServerProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.child.id() {
            Some(id) => write!(f, "process {id}"),
            None => f.write_str("the dead process"),
        }
    }
}

/// For the child: the parent holds the other end of its input, so an end of it means that the parent is gone, however
/// that came about.
pub(crate) fn end_with_parent() {
    std::thread::spawn(|| {
        let mut input = io::stdin().lock();
        while matches!(input.read(&mut [0; 64]), Ok(1..)) {}
        std::process::exit(1);
    });
}
