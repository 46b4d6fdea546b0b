//! A [`Framing`] as a codec of tokio-util: for servers, tools and tests that have one socket and no pool.
//!
//! Both directions use the functions that a pool uses; nothing about frames is decided here.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use crate::error::config::ConfigError;
use crate::proto::framing::Framing;

impl Decoder for Framing {
    type Item = Bytes;
    type Error = io::Error;

    /// # Errors
    /// `InvalidData` with the [`Violation`](crate::Violation): where the next frame begins is not known any more.
    /// `InvalidInput` with the [`ConfigError`] if the framing makes no sense.
    fn decode(&mut self, input: &mut BytesMut) -> io::Result<Option<Bytes>> {
        self.check().map_err(senseless)?;
        self.next(input).map_err(|violation| io::Error::new(io::ErrorKind::InvalidData, violation))
    }
}

impl Encoder<Bytes> for Framing {
    type Error = io::Error;

    /// # Errors
    /// `InvalidInput` with the [`Unframeable`](crate::Unframeable), nothing was written; or with the [`ConfigError`] if
    /// the framing makes no sense.
    fn encode(&mut self, frame: Bytes, out: &mut BytesMut) -> io::Result<()> {
        self.check().map_err(senseless)?;
        let start = out.len();
        let (head, rest) = frame.split_at(self.head().min(frame.len()));
        self.begin(out);
        out.extend_from_slice(head);
        self.end(start, rest.len(), out)
            .map_err(|unframeable| io::Error::new(io::ErrorKind::InvalidInput, unframeable))?;
        out.extend_from_slice(rest);
        Ok(())
    }
}

fn senseless(error: ConfigError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}
