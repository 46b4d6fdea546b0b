//! How much the shell may hold of what goes out: little while the kernel leaves some of it, because a control frame has to wait
//! behind that; more while it takes all of it at once, because each write costs.
//!
//! ```text
//!  256 KiB ◄── more was left than was accepted ── so much ── all of it was accepted ──► 1 MiB
//! ```

use crate::proto::head::MAX_PART;

/// The shell holds at most about so many bytes, what a control frame may have to wait for, ...
const IN_HAND: usize = 4 * MAX_PART;
/// ... and so many as long as all of it is accepted at once, so that nothing has to wait for it.
const IN_HAND_MOST: usize = 16 * MAX_PART;

/// How much the shell may hold.
#[derive(Debug)]
pub(super) struct Allowance {
    size: usize,
    /// How much it held when it was last filled.
    filled: usize,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { size: IN_HAND, filled: 0 }
    }
}

impl Allowance {
    pub(super) fn has_room(&self, held: usize) -> bool {
        held < self.size
    }

    /// It was filled, and holds so many bytes now.
    pub(super) fn filled(&mut self, held: usize) {
        self.filled = held;
    }

    /// So many bytes were accepted, and so many were not.
    pub(super) fn learn(&mut self, accepted: usize, left: usize) {
        if accepted == self.filled && accepted >= self.size {
            self.size = (2 * self.size).min(IN_HAND_MOST);
        } else if left > accepted {
            self.size = (self.size / 2).max(IN_HAND);
        }
    }
}
