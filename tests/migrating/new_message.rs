use steadfast::{CallError, ConfigError, Framing, Ordered, Pool};

/// Once, when the program starts. It dials in the background.
pub fn connect(server: &str) -> Result<Pool, ConfigError> {
    Pool::builder(server).protocol(Ordered::new(Framing::u32_le())).build()
}

pub async fn ask(pool: &Pool, question: &str) -> Result<String, CallError> {
    let answer = pool.call(question.to_owned()).await?;
    Ok(String::from_utf8_lossy(&answer).into())
}
