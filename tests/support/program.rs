//! The examples as their users run them: processes, their reports and their journals.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than anything here takes on a loaded machine.
const BOUND: Duration = Duration::from_secs(30);

pub(crate) fn echo_server(listen: &str, journal: &Path, more: &[&str]) -> (Program, String) {
    let journal = journal.to_str().unwrap();
    let arguments = [&["--listen", listen, "--journal", journal], more].concat();
    let mut server = Program::start("echo_server", arguments);
    let address = server.listening().expect("the server did not start");
    (server, address)
}

pub(crate) fn load(to: &str, more: &[&str], journal: &Path) -> Program {
    let journal = journal.to_str().unwrap();
    let arguments = [&["--to", to, "--json", "--journal", journal], more].concat();
    Program::run(
        Command::new(example_path("load")).args(arguments).env("RUST_LOG", "steadfast=info"),
    )
}

/// A child process; killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    pub(crate) output: Receiver<String>,
    pub(crate) errors: Receiver<String>,
}

impl Program {
    pub(crate) fn start<S: AsRef<OsStr>>(
        example: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        Self::run(Command::new(example_path(example)).args(arguments).env_remove("RUST_LOG"))
    }

    fn run(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = lines(child.stdout.take().unwrap());
        let errors = lines(child.stderr.take().unwrap());
        Self { child, output, errors }
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().unwrap();
        assert!(sent.success());
    }

    /// Where a server says that it listens. `None` if it has ended instead.
    pub(crate) fn listening(&mut self) -> Option<String> {
        let line = self.output.recv_timeout(BOUND).ok()?;
        Some(line.strip_prefix("listening on ").expect("another first line").to_owned())
    }

    /// The one line on its output, once it has ended.
    pub(crate) fn report(&mut self) -> (ExitStatus, Value) {
        let line = self.output.recv_timeout(BOUND).unwrap_or_else(|_| {
            panic!("no report; errors: {:?}", self.errors.try_iter().collect::<Vec<_>>())
        });
        let report = serde_json::from_str(&line).unwrap();
        (self.ended(), report)
    }

    /// What it has said on its error output, once it has ended.
    pub(crate) fn told(&self) -> String {
        self.errors.iter().collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn ended(&mut self) -> ExitStatus {
        // The end of its output comes with its own.
        let more = self.output.recv_timeout(BOUND);
        assert_eq!(more, Err(RecvTimeoutError::Disconnected));
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(source: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Cargo puts this test into `deps`, and the examples beside that folder.
fn example_path(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(Path::parent).unwrap();
    let path = target.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(
        path.exists(),
        "{} is missing: `cargo test` builds it, `cargo test --test examples` needs `cargo build --examples` before",
        path.display()
    );
    path
}

pub(crate) fn count(report: &Value, key: &str) -> u64 {
    report[key].as_f64().unwrap_or_else(|| panic!("no {key} in {report}")) as u64
}

/// Made, lost, changes of the server process.
pub(crate) fn connections(report: &Value) -> [u64; 3] {
    ["connects", "losses", "instance_changes"].map(|key| count(report, key))
}

pub(crate) fn wait_for_lines(file: &Path, least: usize) {
    let began = Instant::now();
    while read(file).lines().count() < least {
        assert!(began.elapsed() < BOUND, "{} does not grow", file.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// As many as there are by now, and so many more.
pub(crate) fn wait_for_more(file: &Path, lines: usize) {
    wait_for_lines(file, read(file).lines().count() + lines);
}

pub(crate) fn unique_lines(file: &Path) -> HashSet<String> {
    let text = read(file);
    let mut unique = HashSet::new();
    for line in text.lines() {
        assert!(unique.insert(line.to_owned()), "{line} twice in {}", file.display());
    }
    unique
}

/// The ids of the calls that had one of these outcomes.
pub(crate) fn with_outcome(file: &Path, outcomes: &[&str]) -> HashSet<String> {
    let lines = unique_lines(file);
    let ids = lines.iter().filter_map(|line| {
        let (id, outcome) = line.split_once(' ').unwrap();
        outcomes.contains(&outcome).then(|| id.to_owned())
    });
    ids.collect()
}

/// Empty while it does not exist.
pub(crate) fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}
