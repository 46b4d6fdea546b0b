//! What it was measured on, and what was measured.

use std::process::Command;

use serde::{Deserialize, Serialize};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) compiler: String,
    pub(crate) redis_server: String,
    pub(crate) date: String,
}

impl Machine {
    pub(crate) fn this() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let mut models = processors.lines().filter_map(|line| line.strip_prefix("model name"));
        let processor =
            models.next().map_or("", |model| model.trim_start_matches(['\t', ' ', ':']));
        let kernel = read("/proc/sys/kernel/osrelease");
        let redis = says("redis-server", &["--version"]);
        Self {
            processor: processor.trim().to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: kernel.split('-').next().unwrap_or_default().trim().to_owned(),
            compiler: says("rustc", &["--version"]),
            redis_server: redis
                .split(' ')
                .find_map(|word| word.strip_prefix("v="))
                .unwrap_or("none")
                .to_owned(),
            date: says("date", &["-u", "+%F"]),
        }
    }
}

fn says(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The crates compared, with the versions that were built.
pub(crate) fn versions() -> String {
    const LOCK: &str = include_str!("../../../Cargo.lock");
    let version = |name: &&str| {
        let from = LOCK.find(&format!("\nname = \"{name}\"\nversion = \""))?;
        let version = LOCK[from..].lines().nth(2)?.split('"').nth(1)?;
        Some(format!("{name} {version}"))
    };
    let names = ["tokio", "tokio-util", "bb8", "deadpool", "tarpc", "tonic", "redis"];
    names.iter().filter_map(version).collect::<Vec<_>>().join(", ")
}
