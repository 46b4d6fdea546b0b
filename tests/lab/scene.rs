//! Both ends of a test: a network, a server and a client in it, and the two journals that must agree at the end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::account::Account;
use crate::journal;
use crate::page::{Late, Row};
use crate::support::lab::{Lab, SERVER};
use crate::support::process::Process;
use crate::support::truth::Told;
use crate::support::waits::within;

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
        let lab = Lab::up_with(&["conntrack -V", "haproxy -v", "ss -V", "tc -V"])?;
        Some(Self { server: None, lab, files: tempfile::tempdir().unwrap() })
    }

    /// Starts a server: `lab server`, or a `rude server` with its manner.
    pub(crate) async fn server(mut self, role: &str, settings: &[(&str, &str)]) -> Self {
        self.server = Some(start_server(&self.lab, &self.files, SERVER, role, settings).await);
        self
    }

    /// A server that may have no more than so many descriptors.
    pub(crate) async fn server_below(mut self, descriptors: u32, role: &str) -> Self {
        self.lab.limit_descriptors(Some(descriptors));
        let stage = self.server(role, &[]).await;
        self = stage;
        self.lab.limit_descriptors(None);
        self
    }

    /// Starts the client; what it says comes next.
    pub(crate) fn client(self, settings: &[(&str, &str)]) -> Scene {
        let client = self.other_client(settings);
        Scene { client, server: self.server, lab: self.lab, files: self.files }
    }

    /// A client that may have no more than so many descriptors.
    pub(crate) fn client_below(mut self, descriptors: u32, settings: &[(&str, &str)]) -> Scene {
        self.lab.limit_descriptors(Some(descriptors));
        self.client(settings)
    }

    /// One that makes no calls.
    pub(crate) fn other_client(&self, settings: &[(&str, &str)]) -> Process {
        let to = format!("{SERVER}:{PORT}");
        self.lab.start("c", "lab client", &[&[("TO", &*to)], settings].concat())
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

    /// As [`Self::tells`], where other lines of the kind come as well.
    pub(crate) async fn tells_among_others(&mut self, row: &Row, at: Instant) -> Result<(), Late> {
        let line = row.only();
        let (when, rest) = self.client.said(line).await;
        row.told(&format!("{line}{rest}"), when.saturating_duration_since(at))
    }

    /// Another server process at the same place, or at another address.
    pub(crate) async fn start_server(&mut self, address: &str) {
        let server = start_server(&self.lab, &self.files, address, "lab server", &[]).await;
        self.server = Some(server);
    }

    /// The row's fault happened at `at`: waits for the line that tells of it, and holds it to the page.
    pub(crate) async fn tells(&mut self, row: &Row, at: Instant) -> Result<(), Late> {
        let beginning = row.beginning();
        let (when, rest) = self.client.said(beginning).await;
        row.told(&format!("{beginning}{rest}"), when.saturating_duration_since(at))
    }

    /// Returns when this end's kernel has got the other's FIN or RST.
    pub(crate) async fn until_closed(&self, end: &str) {
        self.until(end, |line| line[0] != "ESTAB").await;
    }

    /// Returns when the server's kernel has got something that its process has not read.
    pub(crate) async fn until_unread(&self) {
        self.until("s", |line| line[1] != "0").await;
    }

    /// Returns when what the client sends does not get out any more. How much the server's kernel takes before that depends on how
    /// large the segments are: small ones need more memory for the same bytes.
    pub(crate) async fn until_stuck(&self) {
        self.until("s", |line| line[1].parse::<usize>().unwrap() > 40_000).await;
        self.until("c", |line| line[2].parse::<usize>().unwrap() > 100_000).await;
    }

    /// Until a connection of this end looks so to `ss`: state, receive queue, send queue; or there is none.
    async fn until(&self, end: &str, looks: impl Fn(&[&str]) -> bool) {
        let looking = async {
            loop {
                let lines = self.lab.connections(end);
                let mut lines =
                    lines.iter().map(|line| line.split_whitespace().collect::<Vec<_>>());
                if lines.len() == 0 || lines.any(|line| looks(&line)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        within(Duration::from_secs(10), "it looks so", looking).await;
    }

    /// The client calls again, without anybody's help.
    pub(crate) async fn recovers(&mut self) {
        let began = Instant::now();
        loop {
            self.client.tell("call 64 64");
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
        assert!(account.count(Told::Ran) > 0, "nothing was answered");
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
