//! Both ends of a test: a network, a server and a client in it, and the two journals that must agree at the end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::account::{Account, Told};
use crate::journal;
use crate::page::Row;
use crate::support::lab::{Lab, SERVER};
use crate::support::process::Process;

pub(crate) const PORT: &str = "7000";

/// Dropped in this order: processes before their network.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) client: Process,
    pub(crate) server: Option<Process>,
    pub(crate) lab: Lab,
    files: TempDir,
}

/// What stands there before the client is started.
#[derive(Debug)]
pub(crate) struct Stage {
    server: Option<Process>,
    pub(crate) lab: Lab,
    files: TempDir,
}

impl Stage {
    /// A network with nobody in it. `None`, with a word about it, where there cannot be one.
    pub(crate) fn empty() -> Option<Self> {
        Some(Self { server: None, lab: Lab::up()?, files: tempfile::tempdir().unwrap() })
    }

    /// Starts a server: `lab server`, or a `rude server` with its manner.
    pub(crate) async fn server(mut self, role: &str, settings: &[(&str, &str)]) -> Self {
        self.server = Some(start_server(&self.lab, &self.files, SERVER, role, settings).await);
        self
    }

    /// Starts the client; what it says comes next.
    pub(crate) fn client(self, settings: &[(&str, &str)]) -> Scene {
        let to = format!("{SERVER}:{PORT}");
        let client = self.lab.start("c", "lab client", &[&[("TO", &*to)], settings].concat());
        Scene { client, server: self.server, lab: self.lab, files: self.files }
    }
}

async fn start_server(
    lab: &Lab,
    files: &TempDir,
    address: &str,
    role: &str,
    settings: &[(&str, &str)],
) -> Process {
    let listen = format!("{address}:{PORT}");
    let journal = files.path().join("executed");
    let own = [("LISTEN", &*listen), ("JOURNAL", journal.to_str().unwrap())];
    let mut server = lab.start("s", role, &[&own, settings].concat());
    server.says("listening on ").await;
    server
}

impl Scene {
    /// The usual one: `lab server`, and a client that is connected to it.
    pub(crate) async fn usual(settings: &[(&str, &str)]) -> Option<Self> {
        let stage = Stage::empty()?.server("lab server", settings).await;
        let mut scene = stage.client(settings);
        scene.client.said("ready ").await;
        Some(scene)
    }

    pub(crate) fn server(&mut self) -> &mut Process {
        self.server.as_mut().expect("there is a server")
    }

    /// Another server process at the same place, or at another address.
    pub(crate) async fn start_server(&mut self, address: &str) {
        let server = start_server(&self.lab, &self.files, address, "lab server", &[]).await;
        self.server = Some(server);
    }

    /// The row's fault happened at `at`: waits for the line that tells of it, and holds it to the page.
    pub(crate) async fn tells(&mut self, row: &Row, at: Instant) {
        let beginning = row.beginning();
        let (when, rest) = self.client.said(beginning).await;
        row.told(&format!("{beginning}{rest}"), when.saturating_duration_since(at));
    }

    /// The client calls again, without anybody's help.
    pub(crate) async fn recovers(&mut self) {
        let began = Instant::now();
        loop {
            self.client.tell("call 64");
            let (_, what) = self.client.said("call: ").await;
            if what.starts_with("answered") {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(15), "it does not recover: {what}");
        }
    }

    /// Nothing was lost, doubled or mixed up. The account, for what else is to be said of it.
    pub(crate) async fn settle(&mut self) -> Account {
        let path = self.outcomes();
        self.client.tell(&format!("account {}", path.display()));
        self.client.said("account is written").await;
        let account = Account::read(&path);
        account.check(&journal::read(&self.files.path().join("executed")));
        assert!(account.count(Told::Answered) > 0, "nothing was answered");
        account
    }

    /// Recovers, and its books are in order.
    pub(crate) async fn ends_well(&mut self) -> Account {
        self.recovers().await;
        self.settle().await
    }

    fn outcomes(&self) -> PathBuf {
        self.files.path().join("outcomes")
    }
}
