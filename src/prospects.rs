//! What is known of the next connection of each slot that has none, or is to have another.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use crate::proto::sizing::Wanted;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prospect {
    /// An attempt is under way. While it waits for the handshake, to where it has connected, if the transport knows.
    Dialing(Option<SocketAddr>),
    /// The next attempt is made then at the latest, if the slot's connection is wanted then.
    Waiting(Instant),
}

/// Of all slots together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// To where an attempt under way has connected that waits for the handshake.
    pub(crate) connected: Option<SocketAddr>,
    /// When the next attempt is made at the latest. `None` while one is under way, or if none is to be made.
    pub(crate) next: Option<Instant>,
}

#[derive(Debug, Default)]
pub(crate) struct Prospects(BTreeMap<usize, Prospect>);

impl Prospects {
    pub(crate) fn set(&mut self, slot: usize, prospect: Prospect) {
        self.0.insert(slot, prospect);
    }

    /// There is nothing to come.
    pub(crate) fn forget(&mut self, slot: usize) {
        self.0.remove(&slot);
    }

    /// What is to come of all of them, when this is what each slot is to do. Of several addresses, that of the lowest slot.
    pub(crate) fn outlook(&self, wanted: impl Fn(usize) -> Wanted) -> Outlook {
        let mut outlook = Outlook::default();
        let mut is_dialing = false;
        for (slot, prospect) in &self.0 {
            match (*prospect, wanted(*slot)) {
                (_, Wanted::Gone) => {}
                (Prospect::Dialing(connected), _) => {
                    is_dialing = true;
                    outlook.connected = outlook.connected.or(connected);
                }
                (Prospect::Waiting(_), Wanted::Nothing | Wanted::Rest) => {}
                (Prospect::Waiting(until), Wanted::Connection | Wanted::Now) => {
                    outlook.next = Some(outlook.next.map_or(until, |next| next.min(until)));
                }
            }
        }
        if is_dialing {
            outlook.next = None;
        }
        outlook
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]

    use std::time::Duration;

    use super::*;

    const THERE: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7);

    /// Slot 5 is gone, and of slots 3 and 4 nothing is wanted.
    fn outlook(prospects: &Prospects) -> (Option<SocketAddr>, Option<Instant>) {
        let wanted = [Wanted::Connection, Wanted::Now, Wanted::Now, Wanted::Rest, Wanted::Nothing];
        let wanted = |slot| wanted.get(slot).copied().unwrap_or(Wanted::Gone);
        let Outlook { connected, next } = prospects.outlook(wanted);
        (connected, next)
    }

    #[test]
    fn what_is_under_way_hides_what_waits_and_the_first_that_waits_hides_the_others() {
        let now = Instant::now();
        let [soon, later] = [1, 2].map(|seconds| now + Duration::from_secs(seconds));
        let mut prospects = Prospects::default();
        assert_eq!(outlook(&prospects), (None, None));
        prospects.set(0, Prospect::Waiting(later));
        assert_eq!(outlook(&prospects), (None, Some(later)));
        prospects.set(3, Prospect::Waiting(now));
        prospects.set(4, Prospect::Waiting(now));
        prospects.set(5, Prospect::Waiting(now));
        assert_eq!(outlook(&prospects), (None, Some(later)), "not wanted, gone");
        prospects.set(1, Prospect::Waiting(soon));
        assert_eq!(outlook(&prospects), (None, Some(soon)));
        prospects.set(5, Prospect::Dialing(Some(THERE)));
        assert_eq!(outlook(&prospects), (None, Some(soon)), "gone");
        prospects.set(4, Prospect::Dialing(Some(THERE)));
        assert_eq!(outlook(&prospects), (Some(THERE), None), "not wanted any more, but under way");
        prospects.set(0, Prospect::Dialing(None));
        assert_eq!(outlook(&prospects), (Some(THERE), None));
        prospects.forget(4);
        assert_eq!(outlook(&prospects), (None, None));
        prospects.forget(0);
        assert_eq!(outlook(&prospects), (None, Some(soon)));
    }
}
