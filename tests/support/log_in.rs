//! A protocol of plain frames in which something is said before the first call.

use steadfast::{
    BoxError, Busy, Bytes, BytesMut, Dialect, Frames, Framing, Matching, Meaning, Ordered,
    Permanent, Protocol, Unsendable, Violation,
};

/// Plain frames behind a log-in.
#[derive(Debug, Clone)]
pub(crate) struct LogIn(pub(crate) Ordered);

impl Dialect for LogIn {
    fn framing(&self) -> Framing {
        self.0.framing()
    }

    fn matching(&self) -> Matching {
        self.0.matching()
    }

    fn request(&self, id: u64, body: Bytes, head: &mut BytesMut) -> Result<Bytes, Unsendable> {
        self.0.request(id, body, head)
    }

    fn received(&self, frame: Bytes) -> Result<Meaning, Violation> {
        self.0.received(frame)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the server said {0:?}")]
pub(crate) struct Surprise(Bytes);

impl Protocol for LogIn {
    async fn open(&mut self, frames: &mut Frames<'_>) -> Result<(), BoxError> {
        frames.send("login").await?;
        let answer = frames.recv().await?;
        match &*answer {
            b"welcome" => Ok(()),
            b"full" => Err(Busy::new("no room").into()),
            b"wrong password" => Err(Permanent::new("wrong password").into()),
            _ => Err(Surprise(answer).into()),
        }
    }
}
