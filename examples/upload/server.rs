//! The story's server: it takes commands on one port and pieces on another, writes each piece to a file and then
//! acknowledges it. It knows nothing of steadfast but how to cut frames.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use futures::{SinkExt as _, StreamExt as _};
use steadfast::{BoxError, Bytes, Framing};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::Framed;

use crate::child;
use crate::language::{self, COMMANDS, DATA};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Where to listen for commands
    #[arg(long)]
    commands: SocketAddr,
    /// Where to listen for pieces
    #[arg(long)]
    data: SocketAddr,
    /// Where the files go
    #[arg(long)]
    folder: PathBuf,
}

pub(crate) async fn run(options: &Options) -> Result<Infallible, BoxError> {
    let commands = TcpListener::bind(options.commands).await?;
    let data = TcpListener::bind(options.data).await?;
    child::announce::addresses(&[commands.local_addr()?, data.local_addr()?])?;
    loop {
        let folder = options.folder.clone();
        tokio::select! {
            accepted = commands.accept() => {
                let mut client = frames(accepted?.0, COMMANDS)?;
                tokio::spawn(async move { obey(&mut client, &folder).await });
            }
            accepted = data.accept() => {
                let mut client = frames(accepted?.0, DATA)?;
                tokio::spawn(async move {
                    if let Err(error) = store(&mut client, &folder).await {
                        // The client may be gone; then nobody is left to be told.
                        let _ = client.send(format!("error {error}").into()).await;
                    }
                });
            }
        }
    }
}

type Client = Framed<TcpStream, Framing>;

fn frames(stream: TcpStream, framing: Framing) -> std::io::Result<Client> {
    stream.set_nodelay(true)?;
    Ok(Framed::new(stream, framing))
}

/// Commands, one after the other.
async fn obey(client: &mut Client, folder: &Path) -> Result<(), BoxError> {
    while let Some(command) = client.next().await {
        let (command, folder) = (command?, folder.to_owned());
        let answer = tokio::task::spawn_blocking(move || answer(&command, &folder)).await?;
        client.send(answer.unwrap_or_else(|error| format!("error {error}")).into()).await?;
    }
    Ok(())
}

fn answer(command: &[u8], folder: &Path) -> Result<String, BoxError> {
    match std::str::from_utf8(command)?.split_once(' ') {
        Some(("begin", name)) => {
            Ok(format!("at {}", open(&path(folder, name)?)?.metadata()?.len()))
        }
        Some(("finish", name)) => Ok(format!("sha256 {}", language::sha256(&path(folder, name)?)?)),
        _ => Err("no such command".into()),
    }
}

/// Pieces, each acknowledged when it has been written. Written is not safe from a power failure, but it is from SIGKILL.
async fn store(client: &mut Client, folder: &Path) -> Result<(), BoxError> {
    let Some(first) = client.next().await else {
        return Ok(());
    };
    let (mut file, mut position) = target(&first?, folder)?;
    client.send(at(position)).await?;
    while let Some(piece) = client.next().await {
        let piece = piece?;
        // For the microseconds of a copy into the page cache another thread is not worth it.
        file.write_all(&piece)?;
        position += piece.len() as u64;
        client.send(at(position)).await?;
    }
    Ok(())
}

/// The file that `store NAME from POSITION` names, at that position, which must not be behind its end.
fn target(first: &[u8], folder: &Path) -> Result<(File, u64), BoxError> {
    let words = std::str::from_utf8(first)?.split(' ').collect::<Vec<_>>();
    let ["store", name, "from", position] = words[..] else {
        return Err("first say what to store, and from where".into());
    };
    let (mut file, position) = (open(&path(folder, name)?)?, position.parse()?);
    if position > file.metadata()?.len() {
        return Err("something is missing before that".into());
    }
    file.seek(SeekFrom::Start(position))?;
    Ok((file, position))
}

fn at(position: u64) -> Bytes {
    format!("at {position}").into()
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).open(path)
}

/// Names lead to no other folder.
fn path(folder: &Path, name: &str) -> Result<PathBuf, BoxError> {
    match name.chars().all(|letter| letter.is_ascii_alphanumeric()) {
        true => Ok(folder.join(name)),
        false => Err("names have letters and digits only".into()),
    }
}
