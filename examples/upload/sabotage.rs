//! The server's fate: it is killed when it has acknowledged a third, then two thirds, and is started again.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use steadfast::BoxError;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::child::ServerProcess;
use crate::narrator::Narrator;

pub(crate) struct Sabotage<'a> {
    pub(crate) kills: u32,
    pub(crate) down: Duration,
    pub(crate) size: u64,
    pub(crate) folder: &'a Path,
    pub(crate) narrator: &'a Narrator,
}

impl Sabotage<'_> {
    /// Starts the server; with addresses that were free, or its own of before.
    pub(crate) async fn start(
        &self,
        addresses: [SocketAddr; 2],
    ) -> Result<ServerProcess, BoxError> {
        let folder = self.folder.to_str().ok_or("a folder with an odd name")?;
        let [commands, data] = addresses.map(|address| address.to_string());
        let arguments = ["serve", "--commands", &commands, "--data", &data, "--folder", folder];
        let server = ServerProcess::start(&arguments).await?;
        let [commands, data] = server.addresses[..] else {
            return Err("the server has other ports".into());
        };
        self.say(format_args!("{server} takes commands on {commands}, pieces on {data}"));
        Ok(server)
    }

    /// Lets the server die as often as it shall; never returns the last one, which lives until this is dropped.
    pub(crate) async fn run(
        &self,
        mut server: ServerProcess,
        mut progress: watch::Receiver<u64>,
        killed: &watch::Sender<u32>,
    ) -> Result<Infallible, BoxError> {
        for kill in 1..=self.kills {
            let least = self.size * u64::from(kill) / u64::from(self.kills + 1);
            let Ok(bytes) = progress.wait_for(|bytes| *bytes >= least).await.map(|bytes| *bytes)
            else {
                break;
            };
            let kills = self.kills;
            self.say(format_args!("SIGKILL {kill} of {kills} to {server}, at {bytes} bytes"));
            let addresses = server.addresses[..].try_into()?;
            server.kill().await?;
            killed.send_replace(kill);
            sleep(self.down).await;
            server = self.start(addresses).await?;
        }
        std::future::pending().await
    }

    fn say(&self, what: impl std::fmt::Display) {
        self.narrator.say("server", what);
    }
}
