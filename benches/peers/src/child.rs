//! Servers and clients as processes of their own.

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::peers::Name;

/// A server, until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    pub(crate) address: String,
}

impl Server {
    /// On an address that is free.
    pub(crate) fn start(peer: Name) -> Self {
        Self::start_at(peer, "127.0.0.1:0")
    }

    /// On this address. Listens when this returns.
    pub(crate) fn start_at(peer: Name, address: &str) -> Self {
        if peer == Name::Redis {
            return Self::redis(address);
        }
        let mut process = this()
            .args(["serve", "--peer", &peer.argument(), "--address", address])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started again");
        let mut line = String::new();
        let output = process.stdout.as_mut().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("it says its address");
        assert!(!line.is_empty(), "the server of {peer} has not started");
        Self { process, address: line.trim().to_owned() }
    }

    /// Without persistence, as a cache. It prints no address, so a free one is picked before.
    fn redis(address: &str) -> Self {
        let free = TcpListener::bind(address).and_then(|listener| listener.local_addr());
        let address = free.expect("loopback has a free port");
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--port", &address.port().to_string(), "--loglevel", "warning"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed (apt-get install redis-server)");
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < Duration::from_secs(10), "redis-server has not started");
            std::thread::sleep(Duration::from_millis(1));
        }
        Self { process, address: address.to_string() }
    }
}

impl Server {
    /// Of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Server {
    /// `SIGKILL`.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether redis-server is there.
pub(crate) fn has_redis() -> bool {
    let version = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// This program.
pub(crate) fn this() -> Command {
    Command::new(own_path())
}

fn own_path() -> PathBuf {
    std::env::current_exe().expect("a program knows where it is")
}

/// This program with an allocator that counts. Built now if cargo runs this.
pub(crate) fn counted() -> Option<PathBuf> {
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", "peers", "--bin", "counted"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let _ = build.status();
    }
    Some(own_path().with_file_name("counted")).filter(|path| path.exists())
}
