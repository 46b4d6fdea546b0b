//! Cutting frames off the bytes that came, and putting the length into those that leave.
//!
//! Positions count from the frame's first byte:
//!
//! ```text
//!  0        offset        field_end                            whole
//!  +--------+-------------+----------------- - - --------------+
//!  | magic… | length      | what a user sees if it is stripped |
//!  +--------+-------------+----------------- - - --------------+
//!           counts_from ────────────── length ────────────────►
//! ```
//!
//! All of this holds for a framing that has passed [`check`](Framing::check).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{ByteOrder, Framing};
use crate::error::opening::Opening;
use crate::error::unsendable::Unframeable;
use crate::error::violation::Violation;

impl Framing {
    /// Cuts the next frame off the front of `input`; `None` until it is whole.
    ///
    /// Nothing is reserved here: each part of the header is judged as soon as it is there.
    pub(crate) fn next(&self, input: &mut BytesMut) -> Result<Option<Bytes>, Violation> {
        let Some(whole) = self.whole_length(input)? else {
            return Ok(None);
        };
        if input.len() < whole {
            return Ok(None);
        }
        input.advance(self.stripped());
        Ok(Some(input.split_to(whole - self.stripped()).freeze()))
    }

    /// The length of the whole frame that begins so, in bytes; `None` until its header says.
    pub(crate) fn whole_length(&self, input: &[u8]) -> Result<Option<usize>, Violation> {
        self.judge_magic(input)?;
        let Some(header) = input.get(..self.field_end()) else {
            return Ok(None);
        };
        self.judge_length(self.read(&header[self.header_offset()..]), input).map(Some)
    }

    /// The same with frames that are at most so long.
    pub(crate) fn at_most(self, bytes: usize) -> Self {
        self.limit(self.limit.min(bytes))
    }

    /// How many bytes of a user's frame must stand in the buffer that [`end`](Self::end) gets; all others may follow
    /// as a body of their own.
    pub(crate) fn head(&self) -> usize {
        self.field_end() - self.stripped()
    }

    /// Writes what stands before a user's frame: the magic, and a place for the length. With a kept header: nothing.
    pub(crate) fn begin(&self, out: &mut BytesMut) {
        out.put_bytes(0, self.stripped());
    }

    /// Fills in the length, and the magic, of the frame that [`begin`](Self::begin) began at `start`, and of which
    /// `rest` bytes follow what is in `out`. After an error nothing of it is in `out` any more.
    ///
    /// # Panics
    /// With a kept header, if less than [`head`](Self::head) bytes of the frame are in `out` while the rest follows.
    pub(crate) fn end(
        &self,
        start: usize,
        rest: usize,
        out: &mut BytesMut,
    ) -> Result<(), Unframeable> {
        let framed = self.fill_in(&mut out[start..], rest);
        if framed.is_err() {
            out.truncate(start);
        }
        framed
    }

    fn fill_in(&self, frame: &mut [u8], rest: usize) -> Result<(), Unframeable> {
        let (whole, stripped) = ((frame.len() + rest) as u64, self.stripped() as u64);
        let (length, header) = (whole - stripped, self.shortest() as u64 - stripped);
        if length < header {
            return Err(Unframeable::TooShort { length, header });
        }
        if length > self.longest() {
            return Err(Unframeable::TooLong { length, limit: self.longest() });
        }
        frame[..self.magic.len()].copy_from_slice(self.magic);
        let field = &mut frame[self.header_offset()..self.field_end()];
        self.write(whole - self.count_position() as u64, field);
        Ok(())
    }

    /// As much of the magic as has come, so that a peer is found out that says something else and then waits.
    fn judge_magic(&self, input: &[u8]) -> Result<(), Violation> {
        let length = self.magic.len().min(input.len());
        if input[..length] == self.magic[..length] {
            return Ok(());
        }
        Err(Violation::WrongMagic { magic: self.magic, came: Opening::of(input) })
    }

    /// The length of the whole frame that begins so, in bytes, from the number in its length field.
    fn judge_length(&self, number: u64, input: &[u8]) -> Result<usize, Violation> {
        // A sum that does not fit is far beyond any limit, as the greatest that does fit is.
        let whole = number.saturating_add(self.count_position() as u64);
        let header = self.field_end() as u64;
        if whole < header {
            return Err(Violation::FrameTooShort { length: whole, header });
        }
        let (length, limit) = (whole - self.stripped() as u64, self.limit as u64);
        if length > limit {
            return Err(Violation::FrameTooLong { length, limit, came: Opening::of(input) });
        }
        Ok(whole as usize)
    }

    fn read(&self, mut field: &[u8]) -> u64 {
        match self.order {
            ByteOrder::Big => field.get_uint(self.width),
            ByteOrder::Little => field.get_uint_le(self.width),
        }
    }

    fn write(&self, number: u64, mut field: &mut [u8]) {
        match self.order {
            ByteOrder::Big => field.put_uint(number, self.width),
            ByteOrder::Little => field.put_uint_le(number, self.width),
        }
    }
}
