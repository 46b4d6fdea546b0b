//! Where a call may go that was lost after it had left, if only the process that it was sent to can tell whether it ran.

use crate::error::instance::InstanceId;

/// A call that may have run on a server process that would know it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resume {
    pub(crate) instance: InstanceId,
    /// The slot whose connection died. The next one there tells which process answers now.
    pub(crate) slot: usize,
    /// The connection that died.
    pub(crate) connection: u64,
}

/// What is known of a connection that takes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) slot: usize,
    pub(crate) connection: u64,
    pub(crate) instance: InstanceId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Connections to that process exist.
    Known,
    /// Another process answers in that one's place.
    Replaced(InstanceId),
    /// Neither is known yet.
    Wait,
}

impl Resume {
    /// The way that the call has to take, over these connections. Slots from `warm` on do not come back by themselves.
    pub(crate) fn way(&self, warm: usize, links: impl Iterator<Item = Seen>) -> Way {
        let mut way = Way::Wait;
        for link in links {
            if link.instance == self.instance {
                return Way::Known;
            }
            let successor = link.slot == self.slot && link.connection > self.connection;
            if successor || self.slot >= warm {
                way = Way::Replaced(link.instance);
            }
        }
        way
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: InstanceId = InstanceId([1; 16]);
    const NEW: InstanceId = InstanceId([2; 16]);

    fn way(slot: usize, links: &[(usize, u64, InstanceId)]) -> Way {
        let resume = Resume { instance: OLD, slot, connection: 5 };
        let link = |&(slot, connection, instance)| Seen { slot, connection, instance };
        resume.way(2, links.iter().map(link))
    }

    #[test]
    fn a_connection_to_the_same_process_is_the_way_and_the_next_of_the_slot_tells_that_there_is_none()
     {
        for (links, expected) in [
            (&[][..], Way::Wait),
            (&[(0, 6, OLD)], Way::Known),
            (&[(0, 6, NEW)], Way::Replaced(NEW)),
            (&[(1, 4, NEW)], Way::Wait),
            (&[(1, 7, NEW)], Way::Wait),
            (&[(1, 4, OLD)], Way::Known),
            (&[(0, 6, NEW), (1, 4, OLD)], Way::Known),
            (&[(1, 4, NEW), (0, 6, NEW)], Way::Replaced(NEW)),
        ] {
            assert_eq!(way(0, links), expected, "{links:?}");
        }
    }

    #[test]
    fn a_slot_that_does_not_come_back_is_not_waited_for_while_another_is_ready() {
        assert_eq!(way(2, &[]), Way::Wait);
        assert_eq!(way(2, &[(1, 4, NEW)]), Way::Replaced(NEW));
        assert_eq!(way(2, &[(1, 4, NEW), (0, 1, OLD)]), Way::Known);
    }
}
