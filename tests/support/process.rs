//! Processes that a test can kill and freeze: this very test binary, started again in a [role](crate::support::roles).

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::support::skipping::skip;

/// What a process says to its test stands behind this; the test harness prints lines of its own.
pub(crate) const MARK: &str = "@ ";
/// How long a line is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A process in a role. Killed and reaped when dropped; it also ends by itself when its standard input does.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    lines: mpsc::UnboundedReceiver<(Instant, String)>,
    /// Those that [`Self::said`] passed over.
    kept: Vec<(Instant, String)>,
}

impl Process {
    /// Starts `role` with settings in environment variables, by way of a command in front (`ip netns exec ...`), if any.
    pub(crate) fn start(front: &[&str], role: &str, settings: &[(&str, &str)]) -> Self {
        let this = std::env::current_exe().unwrap();
        let mut command = match front {
            [] => Command::new(this),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(this);
                command
            }
        };
        command.args(["--exact", "child_process", "--nocapture", "--test-threads=1"]);
        command.env("STEADFAST_ROLE", role).envs(settings.iter().copied());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a child process");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = mpsc::unbounded_channel();
        // The time of a line is taken here, so that a busy test does not make its process look slow.
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some(line) = line.strip_prefix(MARK) {
                    let _ = sender.send((Instant::now(), line.to_owned()));
                }
            }
        });
        Self { child, lines, kept: Vec::new() }
    }

    /// The rest of the next line that begins so, and when it came. Other lines are passed over.
    pub(crate) async fn says(&mut self, beginning: &str) -> (Instant, String) {
        let mut passed = Vec::new();
        let waiting = async {
            loop {
                let (at, line) = self.lines.recv().await?;
                if let Some(rest) = line.strip_prefix(beginning) {
                    return Some((at, rest.trim().to_owned()));
                }
                passed.push(line);
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(Some(found)) => found,
            Ok(None) => panic!("the process ended before it said {beginning:?}, after {passed:?}"),
            Err(_) => panic!("the process never said {beginning:?}, but {passed:?}"),
        }
    }

    /// As [`Self::says`], and what is passed over can be had by the next of these: for lines whose order is not known.
    pub(crate) async fn said(&mut self, beginning: &str) -> (Instant, String) {
        self.said_within(PATIENCE, beginning).await
    }

    /// What it has said so far that begins so, as far as it was passed over, is no answer to what comes.
    pub(crate) fn forget(&mut self, beginning: &str) {
        self.kept.retain(|(_, line)| !line.starts_with(beginning));
    }

    /// It has not said any such line until now, or somebody has read it.
    pub(crate) fn never_said(&mut self, beginning: &str) {
        while let Ok(line) = self.lines.try_recv() {
            self.kept.push(line);
        }
        let said = self.kept.iter().find(|(_, line)| line.starts_with(beginning));
        assert_eq!(said, None, "among {:?}", self.kept);
    }

    /// As [`Self::said`], with another patience.
    pub(crate) async fn said_within(
        &mut self,
        patience: Duration,
        beginning: &str,
    ) -> (Instant, String) {
        let waiting = async {
            let mut looked_at = 0;
            loop {
                let unseen = &self.kept[looked_at..];
                if let Some(at) = unseen.iter().position(|(_, line)| line.starts_with(beginning)) {
                    let (when, line) = self.kept.remove(looked_at + at);
                    return Some((when, line[beginning.len()..].trim().to_owned()));
                }
                looked_at = self.kept.len();
                self.kept.push(self.lines.recv().await?);
            }
        };
        match tokio::time::timeout(patience, waiting).await {
            Ok(Some(found)) => found,
            Ok(None) => {
                panic!("the process ended before it said {beginning:?}, after {:?}", self.kept)
            }
            Err(_) => panic!("the process never said {beginning:?}, but {:?}", self.kept),
        }
    }

    /// Writes a line to its standard input.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().expect("a pipe"), "{line}").expect("it reads");
    }

    /// SIGKILL. The kernel closes its sockets.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is ours");
    }

    /// SIGTERM: it is asked to end.
    pub(crate) fn terminate(&self) {
        signal("-TERM", self.child.id());
    }

    /// Returns when the process is no more, and neither are its sockets.
    pub(crate) fn wait(&mut self) {
        self.child.wait().unwrap();
    }

    /// As [`freeze`].
    pub(crate) fn freeze(&self) {
        freeze(self.child.id());
    }

    pub(crate) fn thaw(&self) {
        thaw(self.child.id());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be dead already; reaped it must be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether processes can be frozen here: Windows has no such signal. Says so where not.
pub(crate) fn can_freeze() -> bool {
    if cfg!(windows) {
        skip("needs SIGSTOP");
    }
    cfg!(unix)
}

/// Under Wine the reset of an idle connection reads as its end, unlike on Windows: Wine's server asks the socket for its
/// error (`SO_ERROR`) when it polls, which takes the error away before anybody reads. Who writes is told, with 10054.
pub(crate) fn resets_look_like_ends() -> bool {
    std::env::var_os("STEADFAST_WINE").is_some()
}

/// SIGSTOP: the process with this id, a child of ours, is frozen, its kernel goes on. Returns when no thread of it runs
/// any more.
pub(crate) fn freeze(id: u32) {
    signal("-STOP", id);
    while cfg!(target_os = "linux") && !is_frozen(id) {
        std::thread::yield_now();
    }
}

pub(crate) fn thaw(id: u32) {
    signal("-CONT", id);
}

/// Whether all threads are in state T, see proc(5).
fn is_frozen(id: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).unwrap();
    let mut states = threads.filter_map(|thread| {
        let stat = std::fs::read_to_string(thread.ok()?.path().join("stat")).ok()?;
        // Behind the name, which stands in parentheses.
        stat.rsplit_once(") ")?.1.chars().next()
    });
    states.all(|state| state == 'T')
}

fn signal(signal: &str, id: u32) {
    // The shell's own, because kill(1) is not everywhere.
    let command = format!("kill {signal} {id}");
    assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
}

/// Says something to the test, from within a process.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{MARK}{line}").and_then(|()| out.flush()).expect("the test listens");
}

/// A setting, from within a process.
pub(crate) fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
