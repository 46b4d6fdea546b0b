//! One measurement of one of those compared, in this process, which does nothing else.

use std::time::Duration;

use steadfast::Pool;

use crate::load::{self, Lasts, Load};
use crate::meters::Meters;
use crate::peers::blocking::Blocking;
use crate::peers::naive::Naive;
use crate::peers::pooled::{Bb8, Deadpool};
use crate::peers::raw1::Raw1;
use crate::peers::rawpipe::Rawpipe;
use crate::peers::redis::Redis;
use crate::peers::tarpc::Tarpc;
use crate::peers::tonic::Tonic;
use crate::peers::{BoxError, Name, Peer, Target};
use crate::runtime::runtime;
use crate::sample::Sample;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    pub(crate) peer: Name,
    #[arg(long)]
    pub(crate) address: String,
    /// The server's process.
    #[arg(long)]
    pub(crate) server: u32,
    #[arg(long)]
    pub(crate) body: usize,
    #[arg(long)]
    pub(crate) callers: usize,
    #[arg(long, default_value_t = 1)]
    pub(crate) connections: usize,
    #[arg(long, default_value_t = 200)]
    pub(crate) warm_up_ms: u64,
    #[arg(long, default_value_t = 1000)]
    pub(crate) measured_ms: u64,
    /// So many calls of each caller instead.
    #[arg(long)]
    pub(crate) calls: Option<u64>,
}

/// Prints the sample as a line of JSON.
pub(crate) fn run(arguments: &Arguments, allocations: fn() -> Option<u64>) {
    let runtime = runtime();
    let sample = runtime.block_on(measure(arguments, allocations)).expect("it can be measured");
    println!("{}", serde_json::to_string(&sample).expect("numbers can be written"));
    // Without waiting for what those compared do when they end.
    std::process::exit(0);
}

async fn measure(
    arguments: &Arguments,
    allocations: fn() -> Option<u64>,
) -> Result<Sample, BoxError> {
    match arguments.peer {
        Name::Steadfast => of::<Pool>(arguments, allocations).await,
        Name::Rawpipe => of::<Rawpipe>(arguments, allocations).await,
        Name::Raw1 => of::<Raw1>(arguments, allocations).await,
        Name::Blocking => of::<Blocking>(arguments, allocations).await,
        Name::Bb8 => of::<Bb8>(arguments, allocations).await,
        Name::Deadpool => of::<Deadpool>(arguments, allocations).await,
        Name::Tarpc => of::<Tarpc>(arguments, allocations).await,
        Name::Tonic => of::<Tonic>(arguments, allocations).await,
        Name::Redis => of::<Redis>(arguments, allocations).await,
        Name::Naive => of::<Naive>(arguments, allocations).await,
    }
}

async fn of<P: Peer>(
    arguments: &Arguments,
    allocations: fn() -> Option<u64>,
) -> Result<Sample, BoxError> {
    let lasts = match arguments.calls {
        Some(calls) => Lasts::Calls(calls),
        None => Lasts::For {
            warm_up: Duration::from_millis(arguments.warm_up_ms),
            measured: Duration::from_millis(arguments.measured_ms),
        },
    };
    let load = Load { callers: arguments.callers, body: arguments.body, lasts };
    let Arguments { address, connections, .. } = arguments;
    let peer = P::connect(Target { address, connections: *connections }).await?;
    load::put(&peer, load, Meters { allocations, server: arguments.server }).await
}
