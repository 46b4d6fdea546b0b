//! The common framings by name, each drawn with the frame `hello`.

use super::{ByteOrder, Framing};

/// The common ones. The first row of each drawing is what is on the wire.
impl Framing {
    /// One byte; frames of up to 255.
    ///
    /// ```text
    ///  05 | 68 65 6c 6c 6f
    ///  5    h  e  l  l  o
    /// ```
    pub const fn u8() -> Self {
        Self::new(1, ByteOrder::Big)
    }

    /// Two bytes, the most significant first; frames of up to 65,535.
    ///
    /// ```text
    ///  00 05 | 68 65 6c 6c 6f
    ///  5       h  e  l  l  o
    /// ```
    pub const fn u16_be() -> Self {
        Self::new(2, ByteOrder::Big)
    }

    /// Two bytes, the least significant first; frames of up to 65,535.
    ///
    /// ```text
    ///  05 00 | 68 65 6c 6c 6f
    ///  5       h  e  l  l  o
    /// ```
    pub const fn u16_le() -> Self {
        Self::new(2, ByteOrder::Little)
    }

    /// Three bytes, the most significant first; frames of up to 16 MiB less a byte.
    ///
    /// ```text
    ///  00 00 05 | 68 65 6c 6c 6f
    ///  5          h  e  l  l  o
    /// ```
    pub const fn u24_be() -> Self {
        Self::new(3, ByteOrder::Big)
    }

    /// Three bytes, the least significant first; frames of up to 16 MiB less a byte.
    ///
    /// ```text
    ///  05 00 00 | 68 65 6c 6c 6f
    ///  5          h  e  l  l  o
    /// ```
    pub const fn u24_le() -> Self {
        Self::new(3, ByteOrder::Little)
    }

    /// Four bytes, the most significant first: the most common of all.
    ///
    /// ```text
    ///  00 00 00 05 | 68 65 6c 6c 6f
    ///  5             h  e  l  l  o
    /// ```
    pub const fn u32_be() -> Self {
        Self::new(4, ByteOrder::Big)
    }

    /// Four bytes, the least significant first: what a C or C++ program on a PC sends that writes a `struct` as it is.
    ///
    /// ```text
    ///  05 00 00 00 | 68 65 6c 6c 6f
    ///  5             h  e  l  l  o
    /// ```
    pub const fn u32_le() -> Self {
        Self::new(4, ByteOrder::Little)
    }

    /// Eight bytes, the most significant first.
    ///
    /// ```text
    ///  00 00 00 00 00 00 00 05 | 68 65 6c 6c 6f
    ///  5                         h  e  l  l  o
    /// ```
    pub const fn u64_be() -> Self {
        Self::new(8, ByteOrder::Big)
    }

    /// Eight bytes, the least significant first.
    ///
    /// ```text
    ///  05 00 00 00 00 00 00 00 | 68 65 6c 6c 6f
    ///  5                         h  e  l  l  o
    /// ```
    pub const fn u64_le() -> Self {
        Self::new(8, ByteOrder::Little)
    }
}
