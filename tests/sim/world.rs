//! One run: a server that may crash, clients, links, in simulated time.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use steadfast::{Call, Heartbeat, Server};
use tokio::time::sleep;
use turmoil::Builder;
use turmoil::net::TcpListener;

use crate::books::{Books, Seen};
use crate::callers::Client;
use crate::network::Socket;
use crate::plan::{Plan, SERVER, client_name};
use crate::support::times::ms;

/// When it is over.
#[derive(Debug)]
pub(crate) struct World {
    books: Books,
    calls: usize,
}

pub(crate) fn run(seed: u64) -> World {
    let mut random = Rng::with_seed(seed);
    let mut builder = Builder::new();
    builder
        .rng_seed(random.u64(..))
        .simulation_duration(Duration::from_secs(60))
        .tick_duration(ms(1))
        .min_message_latency(ms(0))
        .max_message_latency(ms(random.u64(1..40)))
        .tcp_capacity(100_000);
    let mut sim = builder.build();
    let (books, mut calls) = (Books::default(), 0);
    let slowness = random.u64(1..200);
    let of_server = books.clone();
    sim.host(SERVER, move || serve(of_server.clone(), slowness));
    let clients = random.usize(1..5);
    for client in 0..clients {
        let first = (client as u64 + 1) * 1_000_000;
        let client = Client::new(client_name(client), first, books.clone(), &mut random);
        let client = Arc::new(client);
        calls += client.calls();
        let name = client.name.clone();
        sim.client(name, async {
            client.run().await;
            Ok(())
        });
    }
    let mut plan = Plan::new(clients, &mut random);
    loop {
        let now = sim.elapsed();
        plan.apply(&mut sim, |what| books.note(now, &what));
        if sim.step().expect("no host fails") {
            break;
        }
    }
    World { books, calls }
}

/// An echo that takes its time with some, until its host crashes.
async fn serve(books: Books, slowness: u64) -> turmoil::Result {
    let listener = TcpListener::bind(("0.0.0.0", 7000)).await?;
    let accepted = books.clone();
    let server = Server::builder()
        .heartbeat(Heartbeat::every(ms(500)).give_up_after(ms(500)))
        .listen_on(Socket(listener, move || accepted.accept()))?;
    let echo = move |call: Call| {
        let books = books.clone();
        async move {
            let number = u64::from_be_bytes(*call.body().first_chunk().expect("a number"));
            books.execute(number);
            if number % 3 == 0 {
                sleep(ms(number % slowness)).await;
            }
            Ok(call.into_body())
        }
    };
    Ok(server.serve(echo).await?)
}

impl World {
    pub(crate) fn check(&self) {
        self.books.check(self.calls);
    }

    pub(crate) fn seen(&self) -> Seen {
        self.books.seen()
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.books.trace()
    }
}
