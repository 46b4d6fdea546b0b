//! Those who wait for a connection and stand in no line, as long as they live.

use crate::proto::resume::Resume;
use crate::proto::wakes::Wakes;
use crate::switchboard::Switchboard;

/// A call that waits to be sent again.
#[derive(Debug)]
pub(crate) struct Resuming<'a> {
    pub(super) board: &'a Switchboard,
    pub(super) resume: Resume,
}

impl Drop for Resuming<'_> {
    fn drop(&mut self) {
        let mut wake = Wakes::default();
        self.board.lock().end_resuming(self.resume, &mut wake);
        wake.wake();
    }
}

/// Somebody who waits until something is ready.
#[derive(Debug)]
pub(crate) struct Seeking<'a> {
    pub(super) board: &'a Switchboard,
}

impl Drop for Seeking<'_> {
    fn drop(&mut self) {
        self.board.lock().seeking -= 1;
    }
}
