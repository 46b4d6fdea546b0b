//! How each fault is made: on the router, whose `FORWARD` chain the ends cannot see, and at the ends' links and kernels.

use crate::support::lab::{Lab, ROUTER, SERVER};

/// Which packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the server to the client.
    Back,
    Both,
}

impl Way {
    /// The router's interfaces on which they come in.
    fn sources(self) -> &'static [&'static str] {
        match self {
            Self::Back => &["eths"],
            Self::Both => &["ethc", "eths"],
        }
    }
}

impl Lab {
    /// A rule of the router's for TCP in `FORWARD`, in front of the others; [`Lab::heal`] removes all.
    fn rule(&self, rule: &str) {
        let words = rule.split(' ');
        let command: Vec<_> = "iptables -I FORWARD -p tcp".split(' ').chain(words).collect();
        self.exec("m", &command).unwrap();
    }

    /// Packets vanish without a word.
    pub(crate) fn swallow(&self, way: Way) {
        for source in way.sources() {
            self.rule(&format!("-i {source} -j DROP"));
        }
    }

    /// Those that open a connection vanish; connections that are there live on.
    pub(crate) fn drop_syn(&self) {
        self.rule("--syn -j DROP");
    }

    /// Large ones vanish, small ones pass: a tunnel whose smaller MTU nobody was told of.
    pub(crate) fn drop_large(&self, from: u32) {
        self.rule(&format!("-m length --length {from}:65535 -j DROP"));
    }

    /// One in `nth` vanishes.
    pub(crate) fn lose_each(&self, nth: u32) {
        self.rule(&format!("-m statistic --mode nth --every {nth} --packet 0 -j DROP"));
    }

    /// Whatever the client sends is answered in the server's name: with `tcp-reset`, or an ICMP error by its iptables name.
    pub(crate) fn reject(&self, with: &str) {
        // Otherwise one a second.
        self.set("m", "net/ipv4/icmp_ratelimit", "0").unwrap();
        self.rule(&format!("-i ethc -j REJECT --reject-with {with}"));
    }

    /// A firewall that forgets a flow which is idle for so long, and what it then does (`DROP`, or `REJECT --reject-with
    /// tcp-reset`).
    pub(crate) fn firewall(&self, idle_seconds: u32, then: &str) {
        self.rule(&format!("-j {then}"));
        self.rule("-m conntrack --ctstate NEW --syn -j ACCEPT");
        self.rule("-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT");
        // Otherwise a segment in the middle of a stream makes a flow of it again.
        self.set("m", "net/netfilter/nf_conntrack_tcp_loose", "0").unwrap();
        let established = "net/netfilter/nf_conntrack_tcp_timeout_established";
        self.set("m", established, &idle_seconds.to_string()).unwrap();
    }

    /// It forgets all flows at once.
    pub(crate) fn forget_flows(&self) {
        self.exec("m", &["conntrack", "-F"]).unwrap();
    }

    /// Both directions are no faster than this (as `1mbit`).
    pub(crate) fn limit_rate(&self, rate: &str) {
        for side in ["ethc", "eths"] {
            let command = format!(
                "tc qdisc replace dev {side} root tbf rate {rate} burst 16kb latency 300ms"
            );
            self.exec("m", &command.split(' ').collect::<Vec<_>>()).unwrap();
        }
    }

    /// The cable of an end, `c` or `s`, is pulled.
    pub(crate) fn pull(&self, end: &str) {
        self.exec(end, &["ip", "link", "set", "eth0", "down"]).unwrap();
    }

    /// And plugged in again. Its routes have gone with it.
    pub(crate) fn plug_in(&self, end: &str) {
        self.exec(end, &["ip", "link", "set", "eth0", "up"]).unwrap();
        self.add_route(end);
    }

    pub(crate) fn add_route(&self, end: &str) {
        let router = Self::router_of(end);
        self.exec(end, &["ip", "route", "replace", "default", "via", router]).unwrap();
    }

    fn router_of(end: &str) -> &'static str {
        if end == "c" { ROUTER } else { "10.77.2.1" }
    }

    pub(crate) fn remove_route(&self, end: &str) {
        self.exec(end, &["ip", "route", "del", "default"]).unwrap();
    }

    pub(crate) fn add_address(&self, end: &str, address: &str) {
        let address = format!("{address}/24");
        self.exec(end, &["ip", "addr", "add", &address, "dev", "eth0"]).unwrap();
    }

    pub(crate) fn remove_address(&self, end: &str, address: &str) {
        // Otherwise the second address of a network goes with the first.
        self.set(end, "net/ipv4/conf/all/promote_secondaries", "1").unwrap();
        self.set(end, "net/ipv4/conf/eth0/promote_secondaries", "1").unwrap();
        let address = format!("{address}/24");
        self.exec(end, &["ip", "addr", "del", &address, "dev", "eth0"]).unwrap();
        self.add_route(end);
    }

    /// The kernel of an end destroys its connections, not its listeners, as `ss -K` does it.
    pub(crate) fn destroy_connections(&self, end: &str) {
        self.exec(end, &["ss", "-K", "-H", "-n", "-t", "state", "connected"]).unwrap();
    }

    /// The TCP connections of an end, as `ss` shows them: state, receive queue, send queue, addresses.
    pub(crate) fn connections(&self, end: &str) -> Vec<String> {
        let shown = self.ask(end, &["ss", "-H", "-n", "-t"]).unwrap();
        shown.lines().map(str::to_owned).collect()
    }

    /// The flows that the router's firewall knows.
    pub(crate) fn flows(&self) -> String {
        self.ask("m", &["conntrack", "-L"]).unwrap()
    }

    /// Neither end of a connection that is made from now on sends longer segments to this one (`advmss`).
    pub(crate) fn limit_segments(&self, end: &str, bytes: u32) {
        let router = Self::router_of(end);
        let bytes = bytes.to_string();
        let route = ["ip", "route", "replace", "default", "via", router, "advmss", &bytes];
        self.exec(end, &route).unwrap();
    }

    /// The longest segment that the first connection of this end sends.
    pub(crate) fn segment_size(&self, end: &str) -> u32 {
        let shown = self.ask(end, &["ss", "-H", "-n", "-t", "-i"]).unwrap();
        let size = shown.split_whitespace().find_map(|word| word.strip_prefix("mss:"));
        size.expect("a connection").parse().unwrap()
    }

    /// Whether somebody listens at this port.
    pub(crate) fn is_listening(&self, end: &str, port: u16) -> bool {
        let filter = format!("sport = :{port}");
        !self.ask(end, &["ss", "-H", "-l", "-n", "-t", &filter]).unwrap().is_empty()
    }

    /// How many attempts of this end to connect have failed.
    pub(crate) fn refused(&self, end: &str) -> u64 {
        let counters = self.ask(end, &["cat", "/proc/net/snmp"]).unwrap();
        let mut tcp = counters.lines().filter(|line| line.starts_with("Tcp:"));
        let names = tcp.next().unwrap().split_whitespace();
        let mut both = names.zip(tcp.next().unwrap().split_whitespace());
        let (_, count) = both.find(|(name, _)| *name == "AttemptFails").unwrap();
        count.parse().unwrap()
    }

    /// What the machine of the server is after a power cut: the process is dead, and nobody knows of its connections. Packets
    /// vanish until [`Lab::heal`].
    pub(crate) fn crash_machine(&self, server: &mut crate::support::process::Process) {
        self.cut(SERVER);
        server.kill();
        server.wait();
        // Otherwise the kernel would go on with the dead process's FIN.
        self.destroy_connections("s");
    }
}
