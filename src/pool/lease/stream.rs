//! A lease as a stream of frames and a sink for them.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Sink, Stream};

use super::Lease;
use crate::error::lease::LeaseError;

/// Ends after its first error.
impl Stream for Lease {
    type Item = Result<Bytes, LeaseError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let polled = self.poll_frame(cx);
        self.is_over = matches!(polled, Poll::Ready(Err(_)));
        polled.map(Some)
    }
}

/// Closing it flushes, and no more.
impl Sink<Bytes> for Lease {
    type Error = LeaseError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), LeaseError>> {
        self.poll_room(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Bytes) -> Result<(), LeaseError> {
        self.queue(frame)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), LeaseError>> {
        self.poll_flushed(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), LeaseError>> {
        self.poll_flush(cx)
    }
}
