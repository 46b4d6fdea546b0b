use bytes::{Buf, BufMut, Bytes, BytesMut};
use steadfast::{BoxError, ConfigError, Dialect, Frames, Framing, Matching, Meaning, Permanent};
use steadfast::{Pool, Protocol, Subscription, To, Unsendable, Violation};

#[derive(Clone)]
pub struct Shop;

impl Dialect for Shop {
    fn framing(&self) -> Framing {
        Framing::u32_le()
    }

    /// 0 is an event.
    fn matching(&self) -> Matching {
        Matching::ById { min: 1, max: u32::MAX.into() }
    }

    fn request(&self, id: u64, body: Bytes, head: &mut BytesMut) -> Result<Bytes, Unsendable> {
        head.put_u32_le(id as u32);
        Ok(body)
    }

    fn received(&self, mut frame: Bytes) -> Result<Meaning, Violation> {
        match frame.try_get_u32_le() {
            Ok(0) => Ok(Meaning::Push(frame)),
            Ok(id) => Ok(Meaning::Reply { to: To::Id(id.into()), body: frame }),
            Err(_) => Err(Violation::Malformed { what: "it ends before its id does" }),
        }
    }

    /// The events.
    fn has_pushes(&self) -> bool {
        true
    }

    fn ping(&self, id: u64) -> Option<Bytes> {
        Some([&(id as u32).to_le_bytes(), &b"ping"[..]].concat().into())
    }
}

impl Protocol for Shop {
    /// On every connection, before anything else is said.
    async fn open(&mut self, frames: &mut Frames<'_>) -> Result<(), BoxError> {
        frames.send(&b"\x01\x00\x00\x00login alice"[..]).await?;
        match &frames.recv().await?[4..] {
            b"welcome" => Ok(()),
            _ => Err(Permanent::new("the shop does not know alice").into()),
        }
    }
}

/// Also returns the events of the server.
pub fn connect(server: &str) -> Result<(Pool, Subscription<Bytes>), ConfigError> {
    let mut builder = Pool::builder(server).protocol(Shop);
    let events = builder.pushes();
    Ok((builder.build()?, events))
}
