//! How the frames of a server that nobody can change are cut: by a length field somewhere in a header.
//!
//! This is the description, checked at the door; [`cut`] does what it says. `Native` does not come here, its frames
//! are [`frame`](crate::proto::frame)'s business, and what is in a frame is the user's.

use crate::error::config::ConfigError;
use crate::range::number;

pub(crate) mod count;
mod cut;
mod named;

/// How frames are cut by a length field, for servers that have a protocol of their own.
///
/// A frame is a header and what follows it. In the header, at its end unless said otherwise, stands a number of 1 to 8
/// bytes: how many bytes follow. The named constructors are the usual ones; the other methods say what differs.
///
/// | | default | else |
/// |---|---|---|
/// | before the length field | nothing | [`magic`](Self::magic), [`offset`](Self::offset) |
/// | the number counts | what is behind the length field | [`counts_itself`], [`counts_everything`], [`counts_from`] |
/// | a user sees | what is behind the length field | the whole frame: [`keep_header`](Self::keep_header) |
/// | longest frame | 16 MiB | [`limit`](Self::limit) |
///
/// [`counts_itself`]: Self::counts_itself
/// [`counts_everything`]: Self::counts_everything
/// [`counts_from`]: Self::counts_from
///
/// An empty frame, with nothing behind the header, is a frame.
///
/// It is also a codec of tokio-util, to be used with [`Framed`](tokio_util::codec::Framed), `FramedRead` and
/// `FramedWrite`.
///
/// # Examples
/// ```
/// use futures::{SinkExt, StreamExt};
/// use steadfast::{Bytes, Framing};
/// use tokio_util::codec::Framed;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (socket, peer) = tokio::io::duplex(1024);
/// let mut socket = Framed::new(socket, Framing::u32_le());
/// let mut peer = Framed::new(peer, Framing::u32_le());
/// socket.send(Bytes::from("hello")).await?;
/// assert_eq!(peer.next().await.unwrap()?, "hello");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framing {
    width: usize,
    order: ByteOrder,
    magic: &'static [u8],
    /// `None`: right behind the magic.
    offset: Option<usize>,
    counted: Counted,
    header: Header,
    limit: usize,
}

/// Which byte of a number comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// The most significant: network byte order, as in Java and most of the protocols of RFCs.
    Big,
    /// The least significant: as it lies in the memory of most machines.
    Little,
}

/// Where the bytes begin that the number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    BehindItself,
    WithItself,
    From(usize),
}

/// Whether a user sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    Stripped,
    Kept,
}

impl Framing {
    /// A length field of so many bytes, 1 to 8.
    pub const fn new(width: usize, order: ByteOrder) -> Self {
        Self {
            width,
            order,
            magic: &[],
            offset: None,
            counted: Counted::BehindItself,
            header: Header::Stripped,
            limit: 16 << 20,
        }
    }

    /// Every frame begins with these bytes, at most 16; the length field follows, unless [`offset`](Self::offset) says
    /// otherwise. Default: none. `Framing::u16_be().magic(b"\xab\xcd")`:
    ///
    /// ```text
    ///  ab cd | 00 05 | 68 65 6c 6c 6f
    ///  magic   5       h  e  l  l  o
    /// ```
    ///
    /// They are written into every frame that is sent, and a frame that comes with others is a
    /// [violation](crate::Violation::WrongMagic) which shows both: the peer speaks something else, or its frames were
    /// cut in the wrong place.
    ///
    /// # Examples
    /// ```
    /// use bytes::BytesMut;
    /// use steadfast::{Bytes, Framing};
    /// use tokio_util::codec::{Decoder, Encoder};
    ///
    /// let (mut framing, mut line) = (Framing::u16_be().magic(b"\xab\xcd"), BytesMut::new());
    /// framing.encode(Bytes::from("hello"), &mut line)?;
    /// assert_eq!(line, &b"\xab\xcd\x00\x05hello"[..]);
    /// assert_eq!(framing.decode(&mut line)?.unwrap(), "hello");
    ///
    /// let error = framing.decode(&mut BytesMut::from("HTTP/1.1 400 Bad Request")).unwrap_err();
    /// let text = r#"frame begins with "HTTP/1.1 400 Bad", as HTTP does, not with "\xab\xcd""#;
    /// assert_eq!(error.to_string(), text);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub const fn magic(self, bytes: &'static [u8]) -> Self {
        Self { magic: bytes, ..self }
    }

    /// The length field begins so many bytes into the frame, at most 65,536. Default: behind the magic.
    ///
    /// What stands there must be known when a frame is sent: [`magic`](Self::magic) gives it, or
    /// [`keep_header`](Self::keep_header) leaves it to the user. Anything else is refused when the pool is built.
    #[must_use]
    pub const fn offset(self, bytes: usize) -> Self {
        Self { offset: Some(bytes), ..self }
    }

    /// The number counts the bytes of the length field as well. `Framing::u32_be().counts_itself()`:
    ///
    /// ```text
    ///  00 00 00 09 | 68 65 6c 6c 6f
    ///  4 + 5         h  e  l  l  o
    /// ```
    ///
    /// # Examples
    /// ```
    /// # use steadfast::{Bytes, Framing};
    /// # use tokio_util::codec::Encoder;
    /// # let mut line = bytes::BytesMut::new();
    /// Framing::u32_be().counts_itself().encode(Bytes::from("hello"), &mut line)?;
    /// assert_eq!(line, &b"\x00\x00\x00\x09hello"[..]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub const fn counts_itself(self) -> Self {
        Self { counted: Counted::WithItself, ..self }
    }

    /// The number counts the whole frame, from its first byte.
    /// `Framing::u16_be().magic(b"\xab\xcd").counts_everything()`:
    ///
    /// ```text
    ///  ab cd | 00 09     | 68 65 6c 6c 6f
    ///  magic   2 + 2 + 5   h  e  l  l  o
    /// ```
    ///
    /// # Examples
    /// ```
    /// # use steadfast::{Bytes, Framing};
    /// # use tokio_util::codec::Encoder;
    /// # let mut line = bytes::BytesMut::new();
    /// let mut framing = Framing::u16_be().magic(b"\xab\xcd").counts_everything();
    /// framing.encode(Bytes::from("hello"), &mut line)?;
    /// assert_eq!(line, &b"\xab\xcd\x00\x09hello"[..]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub const fn counts_everything(self) -> Self {
        self.counts_from(0)
    }

    /// The number counts the bytes from this one of the frame on, at most 65,536. Default: from the one behind the
    /// length field. More than that: fixed fields follow the length field and are not counted, see
    /// [`keep_header`](Self::keep_header).
    #[must_use]
    pub const fn counts_from(self, position: usize) -> Self {
        Self { counted: Counted::From(position), ..self }
    }

    /// A user sees whole frames, header and length field included. Default: what is behind the length field.
    ///
    /// A frame that is sent must have its header; what stands in the places of the length and the magic does not
    /// matter, they are filled in. memcached's binary protocol has a header of 24 bytes with a length in the middle
    /// that counts what is behind the header: `Framing::u32_be().offset(8).counts_from(24).keep_header()`:
    ///
    /// ```text
    ///  0                         8             12                                      24
    ///  80 00 00 05 00 00 00 00 | 00 00 00 05 | 00 00 00 00 00 00 00 00 00 00 00 00   | 68 65 6c 6c 6f
    ///  request, GET, key of 5    5             opaque, CAS                             h  e  l  l  o
    /// ```
    ///
    /// # Examples
    /// ```
    /// # use steadfast::{Bytes, Framing};
    /// # use tokio_util::codec::{Decoder, Encoder};
    /// # let mut line = bytes::BytesMut::new();
    /// let mut memcached = Framing::u32_be().offset(8).counts_from(24).keep_header();
    /// let mut get = [0; 29];
    /// get[0] = 0x80; // a request, GET
    /// get[3] = 5; // the length of its key
    /// get[24..].copy_from_slice(b"hello");
    /// memcached.encode(Bytes::copy_from_slice(&get), &mut line)?;
    ///
    /// get[11] = 5; // was filled in
    /// assert_eq!(line, &get[..]);
    /// assert_eq!(memcached.decode(&mut line)?.unwrap(), &get[..]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub const fn keep_header(self) -> Self {
        Self { header: Header::Kept, ..self }
    }

    /// The longest frame in either direction, in bytes, as the user sees it. 1 to 2^31, default 16 MiB. In a pool
    /// [`Limits::message`](crate::Limits::message) bounds it, too: for longer frames both must be set.
    ///
    /// Too little: longer frames cannot be sent, and one that comes ends the connection, because there is no way
    /// around it. Too much: a peer, or garbage that is read as a length, can make this side hold a frame of this size
    /// on each connection while it comes in.
    #[must_use]
    pub const fn limit(self, bytes: usize) -> Self {
        Self { limit: bytes, ..self }
    }

    /// Whether it makes sense: there are frames that it can cut and make.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        number("framing width", self.width as u64, 1..=8)?;
        number("framing magic", self.magic.len() as u64, 0..=MAX_MAGIC)?;
        let (offset, known) = (self.header_offset(), self.magic.len());
        number("framing offset", offset as u64, known as u64..=MAX_HEADER)?;
        if matches!(self.header, Header::Stripped) && known < offset {
            return Err(ConfigError::UnknownHeader { offset, known });
        }
        // Before that, the greatest number would still be less than the header.
        let first = (self.field_end() as u64).saturating_sub(self.greatest());
        let last = MAX_HEADER.max(self.field_end() as u64);
        number("framing counts_from", self.count_position() as u64, first..=last)?;
        let shortest = (self.shortest() - self.stripped()) as u64;
        number("framing limit", self.limit as u64, shortest.max(1)..=1 << 31)
    }

    fn header_offset(&self) -> usize {
        self.offset.unwrap_or(self.magic.len())
    }

    /// Where the length field ends.
    fn field_end(&self) -> usize {
        self.header_offset() + self.width
    }

    /// Where the bytes begin that the number counts.
    fn count_position(&self) -> usize {
        match self.counted {
            Counted::BehindItself => self.field_end(),
            Counted::WithItself => self.header_offset(),
            Counted::From(position) => position,
        }
    }

    /// How many of a frame's first bytes the user does not see.
    fn stripped(&self) -> usize {
        match self.header {
            Header::Stripped => self.field_end(),
            Header::Kept => 0,
        }
    }

    /// The shortest whole frame.
    fn shortest(&self) -> usize {
        self.field_end().max(self.count_position())
    }

    /// The longest frame as the user sees it: what the limit allows and the length field can say.
    fn longest(&self) -> u64 {
        let whole = self.greatest().saturating_add(self.count_position() as u64);
        (self.limit as u64).min(whole - self.stripped() as u64)
    }

    /// The greatest number that the length field can hold.
    fn greatest(&self) -> u64 {
        u64::MAX >> (64 - 8 * self.width)
    }
}

/// The longest header, in bytes. No protocol has one near this; it keeps sums small.
const MAX_HEADER: u64 = 65_536;
/// The longest magic, in bytes: as many as a violation shows.
const MAX_MAGIC: u64 = 16;

#[cfg(test)]
mod tests;
