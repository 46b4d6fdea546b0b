//! A network of our own that can be cut: three network namespaces, client, router and server, with the faults on the
//! router, so that both ends see what a real network shows: silence.
//!
//! ```text
//!   c  10.77.1.2 ── 10.77.1.1  m  10.77.2.1 ── 10.77.2.2 (and .3)  s
//!      eth0         ethc          eths         eth0
//! ```
//!
//! A socket stays in the namespace in which it was made, so both ends are processes. Needs root, `ip` and `iptables`;
//! where they are missing a test is [skipped](crate::support::skipping).

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::support::process::Process;
use crate::support::skipping::skip_unless_demanded;

/// The router, as the client sees it.
pub(crate) const ROUTER: &str = "10.77.1.1";
pub(crate) const SERVER: &str = "10.77.2.2";
pub(crate) const SERVER_TOO: &str = "10.77.2.3";

/// What the kernel has to start a link.
const PATIENCE: Duration = Duration::from_secs(20);

/// Taken down when dropped, but not before the processes in it: declare those after it.
#[derive(Debug)]
pub(crate) struct Lab {
    prefix: String,
    /// Those that are started get no more descriptors than this.
    descriptors: Option<u32>,
}

impl Lab {
    /// `None`, with a word about it, where there cannot be one.
    pub(crate) fn up() -> Option<Self> {
        Self::up_with(&[])
    }

    /// As [`Self::up`], where these commands must work as well.
    pub(crate) fn up_with(programs: &[&str]) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let lab = Self { prefix: format!("sf{}x{number}", std::process::id()), descriptors: None };
        let needed = programs.iter().map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            run(words[0], &words[1..]).map(drop)
        });
        let Err(why) = needed.collect::<Result<(), _>>().and_then(|()| lab.build()) else {
            go_first();
            return Some(lab);
        };
        skip_unless_demanded(&format!("no network of our own: {why}"));
        None
    }

    fn build(&self) -> Result<(), String> {
        run("iptables", &["-V"])?;
        let [c, m, s] = ["c", "m", "s"].map(|end| format!("{}{end}", self.prefix));
        for name in [&c, &m, &s] {
            run("ip", &["netns", "add", name])?;
            run("ip", &["-n", name, "link", "set", "lo", "up"])?;
        }
        for line in [
            format!("-n {c} link add eth0 type veth peer name ethc netns {m}"),
            format!("-n {s} link add eth0 type veth peer name eths netns {m}"),
            format!("-n {c} addr add 10.77.1.2/24 dev eth0"),
            format!("-n {m} addr add 10.77.1.1/24 dev ethc"),
            format!("-n {m} addr add 10.77.2.1/24 dev eths"),
            format!("-n {s} addr add {SERVER}/24 dev eth0"),
            format!("-n {s} addr add {SERVER_TOO}/24 dev eth0"),
            format!("-n {c} link set eth0 up"),
            format!("-n {m} link set ethc up"),
            format!("-n {m} link set eths up"),
            format!("-n {s} link set eth0 up"),
            format!("-n {c} route add default via 10.77.1.1"),
            format!("-n {s} route add default via 10.77.2.1"),
        ] {
            run("ip", &line.split(' ').collect::<Vec<_>>()).map(drop)?;
        }
        for (name, device) in [(&c, "eth0"), (&m, "ethc"), (&m, "eths"), (&s, "eth0")] {
            carries(name, device)?;
        }
        self.set("m", "net/ipv4/ip_forward", "1")
    }

    /// Starts a role at one end, `c` or `s`.
    pub(crate) fn start(&self, end: &str, role: &str, settings: &[(&str, &str)]) -> Process {
        let name = format!("{}{end}", self.prefix);
        let limit = self.descriptors.map(|count| format!("ulimit -n {count}; exec \"$0\" \"$@\""));
        let limit = limit.as_ref().map_or(vec![], |limit| vec!["sh", "-c", limit]);
        Process::start(&[&["ip", "netns", "exec", &name][..], &limit].concat(), role, settings)
    }

    /// The processes that are started from now on may have so many.
    pub(crate) fn limit_descriptors(&mut self, descriptors: Option<u32>) {
        self.descriptors = descriptors;
    }

    /// A command at one end, to be started.
    pub(crate) fn command(&self, end: &str, command: &[&str]) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &format!("{}{end}", self.prefix)]).args(command);
        inside
    }

    /// A file for a process at this end; its path.
    pub(crate) fn file(&self, end: &str, name: &str, content: &str) -> String {
        self.etc(end, name, content);
        format!("{}/{name}", self.folder(end))
    }

    /// What the processes that are started at this end from now on find in a file of `/etc`.
    pub(crate) fn etc(&self, end: &str, file: &str, content: &str) {
        let folder = self.folder(end);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(format!("{folder}/{file}"), content).unwrap();
    }

    /// Sets a kernel parameter, one below `/proc/sys`, at one end.
    pub(crate) fn set(&self, end: &str, name: &str, value: &str) -> Result<(), String> {
        self.exec(end, &["sh", "-c", &format!("echo {value} > /proc/sys/{name}")])
    }

    /// Whatever goes to this address, or comes from it, vanishes in the router.
    pub(crate) fn cut(&self, address: &str) {
        for side in ["--source", "--destination"] {
            let rule = ["iptables", "-I", "FORWARD", side, address, "-j", "DROP"];
            self.exec("m", &rule).unwrap();
        }
    }

    /// The clients that are started, or connect, from now on have local ports in this range.
    pub(crate) fn use_ports(&self, first: u16, last: u16) {
        self.set("c", "net/ipv4/ip_local_port_range", &format!("{first} {last}")).unwrap();
    }

    /// Whatever comes from these ports of clients, or goes to them, vanishes in the router.
    pub(crate) fn cut_ports(&self, first: u16, last: u16) {
        let range = format!("{first}:{last}");
        for side in ["--source-port", "--destination-port"] {
            let rule = ["iptables", "-I", "FORWARD", "-p", "tcp", side, &range, "-j", "DROP"];
            self.exec("m", &rule).unwrap();
        }
    }

    pub(crate) fn heal(&self) {
        self.exec("m", &["iptables", "-F", "FORWARD"]).unwrap();
    }

    /// Runs a command at one end, or at the router, `m`.
    pub(crate) fn exec(&self, end: &str, command: &[&str]) -> Result<(), String> {
        self.ask(end, command).map(drop)
    }

    /// As [`Self::exec`]; also returns what it prints.
    pub(crate) fn ask(&self, end: &str, command: &[&str]) -> Result<String, String> {
        let name = format!("{}{end}", self.prefix);
        run("ip", &[&["netns", "exec", &name], command].concat())
    }

    fn folder(&self, end: &str) -> String {
        format!("/etc/netns/{}{end}", self.prefix)
    }
}

/// All threads of this test binary, from the first network on, and the processes that they start go before others on the machine,
/// whose work would look like the library's delay. Where that is not allowed, it is done without.
fn go_first() {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let threads = threads.map(|thread| thread.unwrap().file_name().into_string().unwrap());
    let words: Vec<_> = ["-15", "-p"].map(String::from).into_iter().chain(threads).collect();
    let _ = run("renice", &words.iter().map(String::as_str).collect::<Vec<_>>());
}

impl Drop for Lab {
    fn drop(&mut self) {
        for end in ["c", "m", "s"] {
            let _ = run("ip", &["netns", "del", &format!("{}{end}", self.prefix)]);
            let _ = std::fs::remove_dir_all(self.folder(end));
        }
    }
}

/// Returns when packets pass: a link that was set up drops them until the kernel has found the time to start it. A connection's
/// first packet among those would be sent again after a second.
fn carries(name: &str, device: &str) -> Result<(), String> {
    let began = Instant::now();
    while !run("ip", &["-n", name, "-o", "link", "show", device])?.contains("state UP") {
        if began.elapsed() > PATIENCE {
            return Err(format!("{device} of {name} does not come up"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// What it prints.
fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let shown = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{}: {error}", shown()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{}: {}", shown(), String::from_utf8_lossy(&output.stderr).trim()))
}
