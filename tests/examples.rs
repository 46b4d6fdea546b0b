//! The examples as their users run them: real processes, real signals, real files.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

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

#[test]
fn every_successful_call_was_executed_once_and_the_account_is_complete() {
    let files = tempfile::tempdir().unwrap();
    let (executed, outcomes) = (files.path().join("executed"), files.path().join("outcomes"));
    let (_server, address) = echo_server("127.0.0.1:0", &executed, &[]);

    let mut load = load(&address, &["--seconds", "1"], &outcomes);
    let (status, report) = load.report();

    assert!(status.success(), "{status}");
    let keys = "calls ok not_sent refused indeterminate remote mismatched connects losses \
                instance_changes longest_gap_ms p50_us p99_us p999_us calls_per_s";
    let keys: HashSet<_> = keys.split_whitespace().collect();
    assert_eq!(
        report.as_object().unwrap().keys().map(String::as_str).collect::<HashSet<_>>(),
        keys
    );
    assert!(count(&report, "ok") > 100, "{report}");
    assert_eq!(count(&report, "ok"), count(&report, "calls"), "{report}");
    assert_eq!(connections(&report), [1, 0, 0], "{report}");
    let executed = unique_lines(&executed);
    assert_eq!(executed.len() as u64, count(&report, "ok"));
    assert_eq!(executed, with_outcome(&outcomes, &["ok"]));
}

#[test]
fn a_drained_server_that_is_started_again_costs_no_call_and_runs_none_twice() {
    let files = tempfile::tempdir().unwrap();
    let executed = files.path().join("executed");
    let outcomes = ["idempotent", "other"].map(|name| files.path().join(name));
    // A delay, so that calls are in flight when the signal comes.
    let (mut server, address) = echo_server("127.0.0.1:0", &executed, &["--delay-ms", "5"]);
    let mut loads = [
        load(&address, &["--seconds", "2.5", "--idempotent"], &outcomes[0]),
        load(&address, &["--seconds", "2.5"], &outcomes[1]),
    ];
    wait_for_lines(&outcomes[0], 100);
    wait_for_lines(&outcomes[1], 100);

    server.signal("TERM");
    assert!(server.ended().success());
    let (_server, _) = echo_server(&address, &executed, &[]);

    let mut ok = 0;
    for load in &mut loads {
        let (status, report) = load.report();
        assert!(status.success(), "{status}");
        assert_eq!(count(&report, "ok"), count(&report, "calls"), "{report}");
        assert_eq!(connections(&report), [2, 0, 1], "{report}");
        ok += count(&report, "ok");
    }
    assert_eq!(unique_lines(&executed).len() as u64, ok);
}

#[test]
fn after_sigkill_the_journals_of_both_sides_agree() {
    let files = tempfile::tempdir().unwrap();
    let (executed, outcomes) = (files.path().join("executed"), files.path().join("outcomes"));
    let (mut server, address) = echo_server("127.0.0.1:0", &executed, &["--delay-ms", "5"]);
    let mut load = load(&address, &["--seconds", "1", "--fail-fast"], &outcomes);
    wait_for_lines(&executed, 100);

    server.signal("KILL");
    server.ended();
    let (status, report) = load.report();

    assert!(status.success(), "{status}");
    assert_eq!(connections(&report), [1, 1, 0], "{report}");
    assert!(count(&report, "not_sent") > 0, "{report}");
    assert!(count(&report, "longest_gap_ms") > 100, "{report}");
    let latencies = ["p50_us", "p99_us", "p999_us"].map(|key| count(&report, key));
    assert!(latencies[0] >= 5000 && latencies.is_sorted(), "{report}");
    let executed = unique_lines(&executed);
    let ok = with_outcome(&outcomes, &["ok"]);
    assert_eq!(ok.len() as u64, count(&report, "ok"));
    assert!(ok.is_subset(&executed), "answered, and not in the journal");
    let not_run = with_outcome(&outcomes, &["not_sent", "refused"]);
    assert!(not_run.is_disjoint(&executed), "said not to have run, and in the journal");
}

#[test]
fn the_story_of_the_restarted_server_ends_well() {
    let mut story = Program::start("restart", ["--kills", "2", "--json"]);
    let (status, table) = story.report();
    let told = story.errors.iter().collect::<Vec<_>>().join("\n");

    assert_eq!(status.code(), Some(0), "{table}\n{told}");
    assert_eq!(count(&table, "kills"), 2);
    let (naive, steadfast) = (&table["naive"], &table["steadfast"]);
    assert!(count(steadfast, "ok") > 1000, "{table}");
    assert_eq!(count(steadfast, "ok"), count(steadfast, "calls"), "{table}");
    assert_eq!(count(steadfast, "failed") + count(steadfast, "mixed_up"), 0, "{table}");
    // In each round the call in hand and twenty resends.
    assert!(count(naive, "ok") > 0 && count(naive, "failed") >= 42, "{table}");
    let gap = |client: &Value| client["gap_ms_median"].as_f64().unwrap();
    assert!(gap(steadfast) < gap(naive), "{table}");
    for line in ["lost: ", "dials again", "instance changed: ", "back after "] {
        assert_eq!(told.matches(line).count(), 2, "{line:?} in\n{told}");
    }
}

// Programs.

fn echo_server(listen: &str, journal: &Path, more: &[&str]) -> (Program, String) {
    let journal = journal.to_str().unwrap();
    let arguments = [&["--listen", listen, "--journal", journal], more].concat();
    let server = Program::start("echo_server", arguments);
    let line = server.output.recv_timeout(BOUND).expect("the server did not start");
    let address = line.strip_prefix("listening on ").expect("another first line").to_owned();
    (server, address)
}

fn load(to: &str, more: &[&str], journal: &Path) -> Program {
    let journal = journal.to_str().unwrap();
    let arguments = [&["--to", to, "--json", "--journal", journal], more].concat();
    Program::start("load", arguments)
}

/// A child process; killed and reaped when dropped.
struct Program {
    child: Child,
    output: Receiver<String>,
    errors: Receiver<String>,
}

impl Program {
    fn start<S: AsRef<OsStr>>(example: &str, arguments: impl IntoIterator<Item = S>) -> Self {
        let mut child = Command::new(example_path(example))
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = lines(child.stdout.take().unwrap());
        let errors = lines(child.stderr.take().unwrap());
        Self { child, output, errors }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().unwrap();
        assert!(sent.success());
    }

    /// The one line on its output, once it has ended.
    fn report(&mut self) -> (ExitStatus, Value) {
        let line = self.output.recv_timeout(BOUND).unwrap_or_else(|_| {
            panic!("no report; errors: {:?}", self.errors.try_iter().collect::<Vec<_>>())
        });
        let report = serde_json::from_str(&line).unwrap();
        (self.ended(), report)
    }

    fn ended(&mut self) -> ExitStatus {
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

// What they wrote.

fn count(report: &Value, key: &str) -> u64 {
    report[key].as_f64().unwrap_or_else(|| panic!("no {key} in {report}")) as u64
}

/// Made, lost, changes of the server process.
fn connections(report: &Value) -> [u64; 3] {
    ["connects", "losses", "instance_changes"].map(|key| count(report, key))
}

fn wait_for_lines(file: &Path, least: usize) {
    let began = Instant::now();
    while read(file).lines().count() < least {
        assert!(began.elapsed() < BOUND, "{} does not grow", file.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn unique_lines(file: &Path) -> HashSet<String> {
    let text = read(file);
    let mut unique = HashSet::new();
    for line in text.lines() {
        assert!(unique.insert(line.to_owned()), "{line} twice in {}", file.display());
    }
    unique
}

/// The ids of the calls that had one of these outcomes.
fn with_outcome(file: &Path, outcomes: &[&str]) -> HashSet<String> {
    let lines = unique_lines(file);
    let ids = lines.iter().filter_map(|line| {
        let (id, outcome) = line.split_once(' ').unwrap();
        outcomes.contains(&outcome).then(|| id.to_owned())
    });
    ids.collect()
}

/// Empty while it does not exist.
fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}
