//! Counting the frames in a stream of bytes, however it is cut, without keeping them.

use super::Framing;

/// Looks at nothing but the headers.
#[derive(Debug)]
pub(crate) struct FramingCount {
    framing: Framing,
    whole: u64,
    /// What has passed of the header, up to the end of the length field.
    header: Vec<u8>,
    /// How much of the rest of the frame has not.
    missing: usize,
}

impl FramingCount {
    pub(crate) fn new(framing: Framing) -> Self {
        Self { framing, whole: 0, header: Vec::new(), missing: 0 }
    }

    pub(crate) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let wanted = match self.missing {
                0 => self.framing.field_end() - self.header.len(),
                missing => missing,
            };
            let (taken, rest) = bytes.split_at(wanted.min(bytes.len()));
            bytes = rest;
            if self.missing > 0 {
                self.missing -= taken.len();
            } else {
                self.header.extend_from_slice(taken);
                self.missing = self.behind_header();
            }
            if self.missing == 0 && self.header.len() == self.framing.field_end() {
                self.whole += 1;
                self.header.clear();
            }
        }
    }

    /// How many bytes follow the header, if it is whole. What is no frame has no end.
    fn behind_header(&self) -> usize {
        match self.framing.whole_length(&self.header) {
            Ok(Some(whole)) => whole - self.header.len(),
            Ok(None) => 0,
            Err(_) => usize::MAX,
        }
    }

    /// Frames that have passed to their last byte.
    pub(crate) fn whole(&self) -> u64 {
        self.whole
    }

    /// Whether a part of another one has passed.
    pub(crate) fn is_in_the_middle(&self) -> bool {
        !self.header.is_empty()
    }
}
