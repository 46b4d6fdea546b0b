//! Those who wait for a connection and stand in no line, as long as they live.

use crate::proto::resume::Resume;
use crate::proto::wakes::Wakes;
use crate::roster::Standby;
use crate::switchboard::Switchboard;

/// A call that waits to be sent again.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    pub(super) board: &'a Switchboard,
    pub(super) resume: Resume,
    pub(super) call: Standby,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut wake = Wakes::default();
        self.board.lock().end_resuming(self.resume, self.call, &mut wake);
        wake.wake();
    }
}

/// Somebody who waits until something is ready.
#[derive(Debug)]
pub(crate) struct Seeking<'a> {
    pub(super) board: &'a Switchboard,
    pub(super) seeker: Standby,
}

impl Drop for Seeking<'_> {
    fn drop(&mut self) {
        self.board.lock().end_seeking(self.seeker);
    }
}
