//! What idle connections cost: memory, and the processor's time for their heartbeats.
//!
//! Client and server are processes of their own, with default settings. The memory is all that the process got from the
//! operating system, so what tokio keeps for each socket and task is in it; what the kernel keeps is not.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use steadfast::Pool;

use crate::child::{Server, this};
use crate::peers::Name;
use crate::process::{cpu_seconds, memory};
use crate::runtime::{allow_descriptors, runtime};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[arg(long, default_value_t = 10_000)]
    pub(crate) connections: usize,
    /// How long their heartbeats are watched.
    #[arg(long, default_value_t = 15)]
    pub(crate) seconds: u64,
}

#[derive(clap::Args)]
pub(crate) struct ClientArguments {
    #[command(flatten)]
    arguments: Arguments,
    #[arg(long)]
    address: String,
    /// The server's process.
    #[arg(long)]
    server: u32,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Idle {
    pub(crate) connections: usize,
    /// Until all of them were ready.
    pub(crate) seconds_to_connect: f64,
    pub(crate) client: Cost,
    pub(crate) server: Cost,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// Of each connection.
    pub(crate) bytes: f64,
    /// Of one core, for all of them.
    pub(crate) cpu_share: f64,
}

/// Measures, and prints.
pub(crate) fn run(arguments: &Arguments) -> Idle {
    let server = Server::start(Name::Steadfast);
    let output = this()
        .args(["idle-client", "--address", &server.address, "--server", &server.id().to_string()])
        .args(["--connections", &arguments.connections.to_string()])
        .args(["--seconds", &arguments.seconds.to_string()])
        .stderr(std::process::Stdio::inherit())
        .output()
        .expect("this program can be started again");
    let idle: Idle = serde_json::from_slice(&output.stdout).expect("the client says what it found");
    println!("\n{} idle connections, ready in {:.1} s", idle.connections, idle.seconds_to_connect);
    for (end, cost) in [("client", &idle.client), ("server", &idle.server)] {
        let Cost { bytes, cpu_share } = cost;
        println!("{end}: {bytes:.0} bytes each, {:.2} % of a core for all", cpu_share * 100.0);
    }
    idle
}

/// The client's process.
pub(crate) fn client(arguments: &ClientArguments) {
    allow_descriptors();
    let idle = runtime().block_on(measure(arguments));
    println!("{}", serde_json::to_string(&idle).expect("numbers can be written"));
    std::process::exit(0);
}

async fn measure(ClientArguments { arguments, address, server }: &ClientArguments) -> Idle {
    let Arguments { connections, seconds } = *arguments;
    // One connection first, so that what is made only once does not count.
    let first = Pool::builder(address).build().expect("good settings");
    first.call("hello").await.expect("an answer");
    first.close(Duration::from_secs(1)).await.expect("nothing is in flight");
    let before = Both::now(*server);
    let began = Instant::now();
    let pool = Pool::builder(address).connections(connections).build().expect("good settings");
    while pool.status().ready < connections {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let seconds_to_connect = began.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let connected = Both::now(*server);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let after = Both::now(*server);
    let cost = |of: fn(&Both) -> Process| Cost {
        bytes: (of(&after).memory - of(&before).memory) / connections as f64,
        cpu_share: (of(&after).cpu - of(&connected).cpu) / seconds as f64,
    };
    assert_eq!(pool.status().ready, connections, "none of them was lost");
    Idle {
        connections,
        seconds_to_connect,
        client: cost(|both| both.client),
        server: cost(|both| both.server),
    }
}

/// Both ends, at one moment.
struct Both {
    client: Process,
    server: Process,
}

#[derive(Debug, Clone, Copy)]
struct Process {
    /// Bytes.
    memory: f64,
    /// Seconds.
    cpu: f64,
}

impl Both {
    fn now(server: u32) -> Self {
        let of = |process| Process { memory: memory(process), cpu: cpu_seconds(process) };
        Self { client: of(std::process::id()), server: of(server) }
    }
}
