//! The uploading side: what a user of steadfast writes.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::SocketAddr;
use std::path::Path;

use futures::{FutureExt as _, SinkExt as _};
use steadfast::{BoxError, Bytes, Lease, LeaseCause, LeaseError, Ordered, Pool};
use tokio::sync::watch;

use crate::language::{COMMANDS, DATA, PIECE, hash, position};
use crate::narrator::Narrator;

/// So often in a row nothing more gets through before the client gives up.
const PATIENCE: u32 = 10;

pub(crate) struct Client {
    commands: Pool,
    data: Pool,
    window: usize,
    /// Bytes that the server has acknowledged, for those who watch.
    progress: watch::Sender<u64>,
    narrator: Narrator,
}

/// What it took.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// What the server says that it has.
    pub(crate) hash: String,
    /// How often it went on on another connection.
    pub(crate) resumed: u32,
    /// Bytes that were sent and had to be sent again.
    pub(crate) again: u64,
}

/// How far the pieces have come.
struct Course {
    sent: u64,
    acknowledged: u64,
}

impl Client {
    pub(crate) fn new(
        [commands, data]: [SocketAddr; 2],
        window: usize,
        progress: watch::Sender<u64>,
        narrator: Narrator,
    ) -> Result<Self, BoxError> {
        let pool = |address: SocketAddr, framing| {
            Pool::builder(address.to_string()).protocol(Ordered::new(framing)).build()
        };
        let (commands, data) = (pool(commands, COMMANDS)?, pool(data, DATA)?);
        Ok(Self { commands, data, window, progress, narrator })
    }

    /// Sends the file, whatever happens to the connections.
    pub(crate) async fn upload(&self, name: &str, path: &Path) -> Result<Account, BoxError> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut account = Account::default();
        let (mut course, mut in_vain) = (Course { sent: 0, acknowledged: 0 }, 0);
        loop {
            let from = position(&self.command(format!("begin {name}")).await?)?;
            if account.resumed > 0 {
                let again = course.sent.saturating_sub(from);
                account.again += again;
                self.say(format_args!("the server has {from} bytes: goes on there, {again} again"));
            }
            in_vain = if from > course.acknowledged { 0 } else { in_vain + 1 };
            course = Course { sent: from, acknowledged: from };
            file.seek(SeekFrom::Start(from))?;
            match self.send(name, &mut file, size, &mut course).await {
                Ok(()) => break,
                Err(error) if is_passing(&*error) && in_vain < PATIENCE => {
                    self.say(format_args!("{error}"));
                    account.resumed += 1;
                }
                Err(error) => return Err(error),
            }
        }
        account.hash = hash(&self.command(format!("finish {name}")).await?)?;
        Ok(account)
    }

    /// All commands do the same when they are given twice.
    async fn command(&self, command: String) -> Result<Bytes, BoxError> {
        Ok(self.commands.request(command).idempotent().send().await?)
    }

    /// Sends what is left of the file over one connection, with a window of pieces that are not acknowledged.
    async fn send(
        &self,
        name: &str,
        file: &mut File,
        size: u64,
        course: &mut Course,
    ) -> Result<(), BoxError> {
        let mut lease = self.data.lease().await?;
        lease.send(format!("store {name} from {}", course.sent)).await?;
        position(&lease.recv().await?)?;
        let window = (self.window * PIECE) as u64;
        while course.acknowledged < size {
            while course.sent < size && course.sent < course.acknowledged + window {
                let piece = read_piece(file)?;
                course.sent += piece.len() as u64;
                lease.feed(piece).await?;
            }
            lease.flush().await?;
            course.acknowledged = newest(&mut lease).await?;
            self.progress.send_replace(course.acknowledged);
        }
        Ok(())
    }

    fn say(&self, what: impl std::fmt::Display) {
        self.narrator.say("client", what);
    }

    /// What is in the way of a polite goodbye does not matter any more.
    pub(crate) async fn close(self) {
        let limit = std::time::Duration::from_secs(1);
        let _ = tokio::join!(self.commands.close(limit), self.data.close(limit));
    }
}

/// Waits for an acknowledgement, and takes those that have come behind it.
async fn newest(lease: &mut Lease) -> Result<u64, BoxError> {
    let mut newest = position(&lease.recv().await?)?;
    while let Some(next) = lease.recv().now_or_never() {
        newest = position(&next?)?;
    }
    Ok(newest)
}

/// The next 4096 bytes, or what is left. There is something left, unless somebody cuts the file meanwhile.
fn read_piece(file: &mut File) -> std::io::Result<Bytes> {
    let mut piece = Vec::with_capacity(PIECE);
    match file.take(PIECE as u64).read_to_end(&mut piece)? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(piece.into()),
    }
}

/// Whether another connection may do better.
fn is_passing(error: &(dyn std::error::Error + 'static)) -> bool {
    let cause = error.downcast_ref::<LeaseError>().map(LeaseError::cause);
    matches!(cause, Some(LeaseCause::Lost(_) | LeaseCause::TimedOut { .. }))
}
