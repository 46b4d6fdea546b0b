use std::time::Duration;
use steadfast::{Bytes, ConfigError, Framing, LeaseError, Ordered, Pool, Reconnect};

/// For a server that closes after each answer. None is dialed before it is needed, at most 8 at a time.
pub fn connect(server: &str) -> Result<Pool, ConfigError> {
    Pool::builder(server)
        .protocol(Ordered::new(Framing::u32_le()))
        .connections(0..=8)
        // That a connection does not live long is nothing to back off from here.
        .reconnect(Reconnect::default().stable_after(Duration::ZERO))
        .build()
}

pub async fn ask(pool: &Pool, question: &str) -> Result<Bytes, LeaseError> {
    let mut lease = pool.lease().await?;
    lease.send(question.to_owned()).await?;
    let answer = lease.recv().await?;
    lease.mark_broken(); // nobody uses this connection again
    Ok(answer)
}
