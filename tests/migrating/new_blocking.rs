use steadfast::{BoxError, CallError, Framing, Ordered, Pool};
use tokio::runtime::Runtime;

pub struct Client {
    runtime: Runtime,
    pool: Pool,
}

impl Client {
    pub fn connect(server: &str) -> Result<Self, BoxError> {
        let runtime = Runtime::new()?;
        let inside = runtime.enter();
        let pool = Pool::builder(server).protocol(Ordered::new(Framing::u32_le())).build()?;
        drop(inside);
        Ok(Self { runtime, pool })
    }

    /// From any thread that is not one of the runtime's.
    pub fn ask(&self, question: &str) -> Result<String, CallError> {
        let answer = self.runtime.block_on(self.pool.call(question.to_owned()))?;
        Ok(String::from_utf8_lossy(&answer).into())
    }
}
