//! What it costs to take a connection out of a pool and to give it back.
//!
//! So many tasks each take a connection out of a pool of 8, hold it over one `yield_now`, and give it back, on a runtime
//! with two workers. "no pool" only yields. One column is without the yield: one task, nobody else there. Nothing is sent:
//! what a conversation costs is another measurement.

use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use steadfast::{Framing, Ordered, Pool};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::rounds::Table;
use crate::server;

const CONNECTIONS: usize = 8;
const NAMES: [&str; 4] = ["no pool", "steadfast", "bb8", "deadpool"];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Each is measured so many times, in turns.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Check-outs in each measurement.
    #[arg(long, default_value_t = 400_000)]
    checkouts: usize,
    /// Numbers of tasks.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64, 512])]
    tasks: Vec<usize>,
    /// Only this one: for a profile.
    #[arg(long, value_parser = NAMES)]
    only: Option<String>,
}

/// Whether a connection is held while others run.
#[derive(Debug, Clone, Copy)]
enum Hold {
    OverOneYield,
    NoTime,
}

impl Hold {
    async fn wait(self) {
        match self {
            Self::OverOneYield => yield_now().await,
            Self::NoTime => {}
        }
    }
}

/// Something from which connections are taken.
trait Source: Clone + Send + 'static {
    /// Takes one, holds it, gives it back.
    fn once(&self, hold: Hold) -> impl Future<Output = ()> + Send;
}

#[derive(Clone)]
struct NoPool;

impl Source for NoPool {
    async fn once(&self, hold: Hold) {
        hold.wait().await;
    }
}

impl Source for Pool {
    async fn once(&self, hold: Hold) {
        let lease = self.lease().await.expect("a connection");
        hold.wait().await;
        drop(lease);
    }
}

#[derive(Debug, Clone)]
struct Connector(SocketAddr);

type Connection = Framed<TcpStream, LengthDelimitedCodec>;

impl Connector {
    async fn connect(&self) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(self.0).await?;
        stream.set_nodelay(true)?;
        Ok(Framed::new(stream, LengthDelimitedCodec::new()))
    }
}

impl bb8::ManageConnection for Connector {
    type Connection = Connection;
    type Error = std::io::Error;

    async fn connect(&self) -> Result<Connection, Self::Error> {
        self.connect().await
    }

    async fn is_valid(&self, _: &mut Connection) -> Result<(), Self::Error> {
        Ok(())
    }

    fn has_broken(&self, _: &mut Connection) -> bool {
        false
    }
}

impl Source for bb8::Pool<Connector> {
    async fn once(&self, hold: Hold) {
        let connection = self.get().await.expect("a connection");
        hold.wait().await;
        drop(connection);
    }
}

impl deadpool::managed::Manager for Connector {
    type Type = Connection;
    type Error = std::io::Error;

    async fn create(&self) -> Result<Connection, Self::Error> {
        self.connect().await
    }

    async fn recycle(
        &self,
        _: &mut Connection,
        _: &deadpool::managed::Metrics,
    ) -> deadpool::managed::RecycleResult<Self::Error> {
        Ok(())
    }
}

impl Source for deadpool::managed::Pool<Connector> {
    async fn once(&self, hold: Hold) {
        let connection = self.get().await.expect("a connection");
        hold.wait().await;
        drop(connection);
    }
}

struct Sources {
    steadfast: Pool,
    bb8: bb8::Pool<Connector>,
    deadpool: deadpool::managed::Pool<Connector>,
}

impl Sources {
    async fn new() -> Self {
        let address = server::start("127.0.0.1:0").await.expect("loopback can be bound");
        let steadfast = Pool::builder(address.to_string())
            .protocol(Ordered::new(Framing::u32_be()))
            .connections(CONNECTIONS)
            .build()
            .expect("good settings");
        while steadfast.status().ready < CONNECTIONS {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let size = CONNECTIONS as u32;
        let bb8 = bb8::Pool::builder().max_size(size).min_idle(size).build(Connector(address));
        let deadpool = deadpool::managed::Pool::builder(Connector(address)).max_size(CONNECTIONS);
        let bb8 = bb8.await.expect("connections");
        Self { steadfast, bb8, deadpool: deadpool.build().expect("good settings") }
    }

    fn measure(&self, runtime: &Runtime, name: &str, load: Load, checkouts: usize) -> f64 {
        match name {
            "steadfast" => measure(runtime, &self.steadfast, load, checkouts),
            "bb8" => measure(runtime, &self.bb8, load, checkouts),
            "deadpool" => measure(runtime, &self.deadpool, load, checkouts),
            _ => measure(runtime, &NoPool, load, checkouts),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Load {
    tasks: usize,
    hold: Hold,
}

pub(crate) fn run(arguments: &Arguments) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let sources = runtime.block_on(Sources::new());
    let mut loads = vec![Load { tasks: 1, hold: Hold::NoTime }];
    loads.extend(
        arguments.tasks.iter().map(|tasks| Load { tasks: *tasks, hold: Hold::OverOneYield }),
    );
    let columns = loads.iter().map(|load| match load.hold {
        Hold::NoTime => "no yield".to_owned(),
        Hold::OverOneYield => format!("{} tasks", load.tasks),
    });
    let only = arguments.only.as_deref();
    let names: Vec<_> =
        NAMES.into_iter().filter(|name| only.is_none_or(|only| only == *name)).collect();
    let mut table = Table::new(&names, columns);
    for round in 0..=arguments.rounds {
        for (column, load) in loads.iter().enumerate() {
            for (line, name) in names.iter().enumerate() {
                let taken = sources.measure(&runtime, name, *load, arguments.checkouts);
                // The first round warms up.
                if round > 0 {
                    table.add(line, column, taken);
                }
            }
        }
    }
    println!(
        "ns for a check-out and return, pools of {CONNECTIONS}, medians of {} rounds",
        arguments.rounds
    );
    table.print();
}

/// Nanoseconds for each.
fn measure(runtime: &Runtime, source: &impl Source, load: Load, checkouts: usize) -> f64 {
    let Load { tasks, hold } = load;
    let each = checkouts / tasks;
    let began = Instant::now();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..tasks)
            .map(|_| {
                let source = source.clone();
                tokio::spawn(async move {
                    for _ in 0..each {
                        source.once(hold).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
    });
    began.elapsed().as_nanos() as f64 / (each * tasks) as f64
}
