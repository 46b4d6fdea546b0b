//! A page of whole frames, which can lose messages until it is handed over.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// What has gathered, and where in it messages are.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) bytes: BytesMut,
    /// The end of the only message here, when it is too long to be copied.
    pub(super) rest: Option<Bytes>,
    /// Where each request begins, and its id.
    pub(super) requests: Vec<(usize, u64)>,
    /// Messages that were withdrawn, in no order.
    pub(super) dead: Vec<Range<usize>>,
}

impl Page {
    /// Everything that has gathered here.
    pub(super) fn split(&mut self) -> Self {
        let (requests, dead) = (std::mem::take(&mut self.requests), std::mem::take(&mut self.dead));
        Self { bytes: self.bytes.split(), rest: None, requests, dead }
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
