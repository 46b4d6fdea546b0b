//! A server's process: this binary once more, in a hidden role, so that an example is all there is to build.

pub(crate) mod announce;

use std::fmt;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use steadfast::BoxError;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use announce::LISTENING;

/// A machine under load may take a while to start a process.
const START: Duration = Duration::from_secs(10);

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    pub(crate) child: Child,
    pub(crate) addresses: Vec<SocketAddr>,
    /// Held, so that the child can go on writing.
    _output: Lines<BufReader<ChildStdout>>,
}

impl ServerProcess {
    /// Starts this binary with these arguments, and waits until it [announces](announce::addresses) where it listens.
    pub(crate) async fn start(arguments: &[&str]) -> Result<Self, BoxError> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().ok_or("the server has no output")?;
        let mut output = BufReader::new(output).lines();
        let Ok(line) = timeout(START, output.next_line()).await else {
            return Err(format!("the server did not listen within {START:?}").into());
        };
        let Some(line) = line? else {
            return Err(format!("the server did not start: {}", child.wait().await?).into());
        };
        let Some(addresses) = line.strip_prefix(LISTENING) else {
            return Err(format!("the server said: {line}").into());
        };
        let addresses = addresses.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { child, addresses, _output: output })
    }

    /// SIGKILL: the process gets no chance to say goodbye. Returns when it is gone.
    pub(crate) async fn kill(&mut self) -> io::Result<()> {
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
