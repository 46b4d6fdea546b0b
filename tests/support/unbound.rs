//! A real unbound.

use std::net::SocketAddr;

use tempfile::NamedTempFile;

use crate::support::daemon::{self, Daemon};

/// It reads its configuration again when it is started again.
#[derive(Debug)]
pub(crate) struct Unbound {
    pub(crate) daemon: Daemon,
    _configuration: NamedTempFile,
}

impl Unbound {
    /// Knows `0.example.test` to `999.example.test`, and asks `slow` for what is below `slow.test`. `more` are lines of
    /// the section `server` of unbound.conf(5). `None`, with a word about it, where it is not installed.
    pub(crate) async fn start(slow: SocketAddr, more: &str) -> Option<Self> {
        let file = NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let daemon = daemon::start("unbound", |address| {
            std::fs::write(path, configuration(address, slow, more)).unwrap();
            ["-d", "-p", "-c", path].map(str::to_owned).to_vec()
        });
        Some(Self { daemon: daemon.await?, _configuration: file })
    }
}

fn configuration(address: SocketAddr, slow: SocketAddr, more: &str) -> String {
    let mut text = format!(
        "server:
            interface: {host}@{port}
            port: {port}
            do-udp: no
            udp-upstream-without-downstream: yes
            access-control: 127.0.0.0/8 allow
            do-not-query-localhost: no
            num-threads: 1
            module-config: iterator
            username: \"\"
            chroot: \"\"
            directory: \"\"
            pidfile: \"\"
            use-syslog: no
            {more}
            local-zone: example.test static\n",
        host = address.ip(),
        port = address.port(),
    );
    for number in 0..1000 {
        text += &format!("local-data: \"{number}.example.test A {}\"\n", of(number));
    }
    let (host, port) = (slow.ip(), slow.port());
    text + &format!("forward-zone:\n name: slow.test\n forward-addr: {host}@{port}\n")
}

/// The address that a number's name has.
pub(crate) fn of(number: usize) -> std::net::Ipv4Addr {
    let [.., high, low] = (number as u32).to_be_bytes();
    std::net::Ipv4Addr::new(10, 0, high, low)
}
