//! The client of the stories: one socket; write, read; on an error the same bytes again into the same socket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::ledger::{Ledger, Verdict};
use crate::narrator::Narrator;
use crate::scene::Phase;

/// As long as a call of the other client may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Between an error and the next attempt.
const PAUSE: Duration = Duration::from_millis(50);
/// The operator's patience.
const RESENDS: u32 = 20;

/// Calls until the story is over. Each pass is one life of the client's process: it ends when the operator, who sees
/// that the server is back and the client still fails, restarts it. That is once a round at most.
pub(crate) async fn live(
    address: SocketAddr,
    narrator: Narrator,
    ledger: Arc<Ledger>,
    phases: watch::Receiver<Phase>,
) {
    while *phases.borrow() != Phase::Over {
        match TcpStream::connect(address).await {
            Ok(socket) => call(socket, narrator, &ledger, &phases).await,
            Err(error) => {
                narrator.say("naive", format_args!("cannot connect: {error}"));
                ledger.settle(Verdict::Unknown);
                sleep(PAUSE).await;
            }
        }
    }
}

/// Every attempt counts as a call: the application sees each of the errors.
async fn call(
    mut socket: TcpStream,
    narrator: Narrator,
    ledger: &Ledger,
    phases: &watch::Receiver<Phase>,
) {
    let mut number = 0_u64;
    let mut failed = 0;
    while *phases.borrow() != Phase::Over {
        let body = format!("naive call {number}");
        let verdict = match timeout(LIMIT, exchange(&mut socket, body.as_bytes())).await {
            Ok(Ok(reply)) if reply == body.as_bytes() => Verdict::Ok,
            Ok(Ok(_)) => Verdict::MixedUp,
            Ok(Err(error)) => {
                if failed == 0 {
                    narrator.say("naive", format_args!("{error}; resends into the same socket"));
                }
                Verdict::Unknown
            }
            Err(_) => Verdict::Unknown,
        };
        ledger.settle(verdict);
        if let Verdict::Unknown = verdict {
            if failed >= RESENDS && *phases.borrow() == Phase::Up {
                narrator.say(
                    "naive",
                    format_args!("{failed} resends failed; its operator restarts it"),
                );
                return;
            }
            failed += 1;
            sleep(PAUSE).await;
        } else {
            failed = 0;
            number += 1;
        }
    }
}

async fn exchange(socket: &mut TcpStream, body: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    socket.write_all(&[&length.to_be_bytes(), body].concat()).await?;
    let length = socket.read_u32().await?;
    let mut reply = vec![0; length as usize];
    socket.read_exact(&mut reply).await?;
    Ok(reply)
}
