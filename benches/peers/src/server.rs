//! The servers, each in a process of its own, with two workers like the client.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::peers::{self, BoxError, Name};
use crate::runtime::{allow_descriptors, runtime};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    pub(crate) peer: Name,
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) address: String,
}

/// Prints its address, and serves until nobody holds the other end of its standard input.
pub(crate) fn run(arguments: &Arguments) {
    allow_descriptors();
    let runtime = runtime();
    runtime.block_on(serve(arguments)).expect("it can serve");
    let mut nothing = [0];
    let _ = std::io::stdin().read(&mut nothing);
    runtime.shutdown_background();
}

async fn serve(Arguments { peer, address }: &Arguments) -> Result<(), BoxError> {
    let address = match peer {
        Name::Steadfast => {
            let (address, served) = peers::steadfast::serve(address).await?;
            tokio::spawn(served);
            address
        }
        Name::Tarpc => peers::tarpc::serve(address).await?,
        Name::Tonic => peers::tonic::serve(address).await?,
        Name::Redis => return Err("redis-server is a program of its own".into()),
        _ => start(address).await?.to_string(),
    };
    println!("{address}");
    std::io::stdout().flush()?;
    Ok(())
}

/// The server of all that have plain frames: a length, and so many bytes; each is answered by itself.
pub(crate) async fn start(address: &str) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    tokio::spawn(echo(stream));
                }
                Err(error) => eprintln!("accept: {error}"),
            }
        }
    });
    Ok(address)
}

const HEAD: usize = 4;
const ROOM: usize = 256 * 1024;

/// Answers each message when it is complete; all that came with one read go back with one write.
async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let (mut input, mut end) = (vec![0; ROOM], 0);
    let mut output = Vec::new();
    let mut long = Vec::new();
    loop {
        let count = stream.read(&mut input[end..]).await?;
        if count == 0 {
            return Ok(());
        }
        end += count;
        let mut start = 0;
        let mut missing = 0;
        while let Some(head) = input[start..end].first_chunk::<HEAD>() {
            let whole = HEAD + u32::from_be_bytes(*head) as usize;
            if whole > end - start {
                missing = whole - (end - start);
                break;
            }
            output.extend_from_slice(&input[start..start + whole]);
            start += whole;
        }
        if !output.is_empty() {
            stream.write_all(&output).await?;
            output.clear();
        }
        if missing > ROOM / 2 {
            let begun = end - start;
            long.resize(begun + missing, 0);
            long[..begun].copy_from_slice(&input[start..end]);
            stream.read_exact(&mut long[begun..]).await?;
            stream.write_all(&long).await?;
            start = end;
        }
        input.copy_within(start..end, 0);
        end -= start;
    }
}
