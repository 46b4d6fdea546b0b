use std::time::Duration;
use steadfast::{Bytes, CallError, ConfigError, Framing, Heartbeat, Ordered, Pool, Retry};

pub fn connect(server: &str) -> Result<Pool, ConfigError> {
    Pool::builder(server)
        // "ping" is a question that changes nothing in this server.
        .protocol(Ordered::new(Framing::u32_le()).heartbeat("ping"))
        .heartbeat(Heartbeat::every(Duration::from_secs(5)).give_up_after(Duration::from_secs(10)))
        .call_timeout(Duration::from_secs(5))
        .retry(Retry::attempts(3).budget(0.10))
        .build()
}

/// It reads, so it may run twice.
pub async fn price(pool: &Pool, fruit: &str) -> Result<Bytes, CallError> {
    pool.request(format!("price of {fruit}")).idempotent().send().await
}

/// It must not run twice. What never left is sent again; what may have run is not.
pub async fn order(pool: &Pool, fruit: &str) -> Result<Bytes, CallError> {
    pool.call(format!("order {fruit}")).await
}
