//! Where a call may go that was lost after it had left, if only the process that it was sent to can tell whether it ran.

use crate::error::instance::InstanceId;

/// What a server remembers of this client. A process that has forgotten the client begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) instance: InstanceId,
    /// Grows in the life of a process.
    pub(crate) number: u64,
}

/// A call that may have run, and is known to this memory if it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resume {
    pub(crate) memory: Memory,
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
    pub(crate) memory: Memory,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Connections exist over which it is known.
    Known,
    /// That process has forgotten the client in between, and would take the call for new.
    Forgotten,
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
            if link.memory == self.memory {
                return Way::Known;
            }
            if link.memory.instance == self.memory.instance {
                if link.memory.number > self.memory.number {
                    way = Way::Forgotten;
                }
                continue;
            }
            let successor = link.slot == self.slot && link.connection > self.connection;
            if (successor || self.slot >= warm) && way == Way::Wait {
                way = Way::Replaced(link.memory.instance);
            }
        }
        way
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Memory = Memory { instance: InstanceId([1; 16]), number: 3 };
    const NEW: Memory = Memory { instance: InstanceId([2; 16]), number: 1 };

    fn way(slot: usize, links: &[(usize, u64, Memory)]) -> Way {
        let resume = Resume { memory: OLD, slot, connection: 5 };
        let link = |&(slot, connection, memory)| Seen { slot, connection, memory };
        resume.way(2, links.iter().map(link))
    }

    #[test]
    fn a_connection_to_the_same_process_is_the_way_and_the_next_of_the_slot_tells_that_there_is_none()
     {
        for (links, expected) in [
            (&[][..], Way::Wait),
            (&[(0, 6, OLD)], Way::Known),
            (&[(0, 6, NEW)], Way::Replaced(NEW.instance)),
            (&[(1, 4, NEW)], Way::Wait),
            (&[(1, 7, NEW)], Way::Wait),
            (&[(1, 4, OLD)], Way::Known),
            (&[(0, 6, NEW), (1, 4, OLD)], Way::Known),
            (&[(1, 4, NEW), (0, 6, NEW)], Way::Replaced(NEW.instance)),
        ] {
            assert_eq!(way(0, links), expected, "{links:?}");
        }
    }

    #[test]
    fn a_process_that_has_forgotten_the_client_does_not_know_its_calls_over_any_connection() {
        let [before, after] = [2, 4].map(|number| Memory { number, ..OLD });
        assert_eq!(way(0, &[(1, 7, after)]), Way::Forgotten);
        assert_eq!(way(0, &[(1, 7, after), (0, 6, NEW)]), Way::Forgotten);
        assert_eq!(way(0, &[(1, 4, OLD), (0, 6, after)]), Way::Known);
        // Of a connection that has died since, and it is not known yet.
        assert_eq!(way(0, &[(1, 4, before)]), Way::Wait);
    }

    #[test]
    fn a_slot_that_does_not_come_back_is_not_waited_for_while_another_is_ready() {
        assert_eq!(way(2, &[]), Way::Wait);
        assert_eq!(way(2, &[(1, 4, NEW)]), Way::Replaced(NEW.instance));
        assert_eq!(way(2, &[(1, 4, NEW), (0, 1, OLD)]), Way::Known);
    }
}
