//! A page of whole frames, which can lose messages until it is handed over.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// What has gathered, and where in it messages are.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// No other page has it, before or after.
    pub(super) number: u64,
    pub(super) bytes: BytesMut,
    /// The end of the only message here, when it is too long to be copied.
    pub(super) rest: Option<Bytes>,
    /// Where each request begins, and its id.
    pub(super) requests: Vec<(usize, u64)>,
    /// Messages that were not withdrawn. Bytes do not tell: a frame can be empty.
    pub(super) live: usize,
    /// Messages that were withdrawn, in no order.
    pub(super) dead: Vec<Range<usize>>,
}

impl Page {
    /// Everything that has gathered here. What comes now is another page.
    pub(super) fn split(&mut self) -> Self {
        let split = Self {
            number: self.number,
            bytes: self.bytes.split(),
            rest: None,
            requests: std::mem::take(&mut self.requests),
            live: std::mem::take(&mut self.live),
            dead: std::mem::take(&mut self.dead),
        };
        self.number += 1;
        split
    }

    /// A page before this one, which is empty, with one request alone.
    pub(super) fn before(&mut self, bytes: BytesMut, rest: Bytes, request: u64) -> Self {
        let number = self.number;
        self.number += 1;
        let requests = vec![(0, request)];
        Self { number, bytes, rest: Some(rest), requests, live: 1, dead: Vec::new() }
    }

    /// An empty page behind this one.
    pub(super) fn successor(&self) -> Self {
        Self { number: self.number + 1, ..Self::default() }
    }

    /// Begins anew, as another page, in the same memory.
    pub(super) fn clear(&mut self) {
        self.number += 1;
        self.bytes.clear();
        self.requests.clear();
        self.live = 0;
        self.dead.clear();
    }

    /// Whether there is any that was not withdrawn.
    pub(super) fn has_messages(&self) -> bool {
        self.live > 0
    }

    /// Loses the message that is there.
    pub(super) fn withdraw(&mut self, range: Range<usize>) {
        self.live -= 1;
        self.dead.push(range);
    }

    /// Takes over the memory of a list that has been dealt with, if it has none.
    pub(super) fn reuse(&mut self, requests: &mut Vec<(usize, u64)>) {
        if self.requests.capacity() == 0 {
            requests.clear();
            self.requests = std::mem::take(requests);
        }
    }

    /// In bytes, with what was withdrawn.
    pub(super) fn length(&self) -> usize {
        self.bytes.len() + self.rest.as_ref().map_or(0, Bytes::len)
    }

    /// The ids of the requests that were not withdrawn, in order. `dead` is sorted.
    pub(super) fn live_requests(&self) -> impl Iterator<Item = u64> + '_ {
        let is_dead =
            |start: usize| self.dead.binary_search_by_key(&start, |range| range.start).is_ok();
        self.requests.iter().filter(move |(start, _)| !is_dead(*start)).map(|(_, id)| *id)
    }

    /// The bytes without the withdrawn messages. `dead` is sorted.
    pub(super) fn compact(self) -> (Bytes, Vec<Range<usize>>) {
        let Self { bytes, dead, .. } = self;
        if dead.is_empty() {
            return (bytes.freeze(), dead);
        }
        let mut live = BytesMut::with_capacity(bytes.len());
        let mut from = 0;
        for range in &dead {
            live.extend_from_slice(&bytes[from..range.start]);
            from = range.end;
        }
        live.extend_from_slice(&bytes[from..]);
        (live.freeze(), dead)
    }
}
