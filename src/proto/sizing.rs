//! Which of a pool's slots should have a connection. Knows no socket: counts go in, what to do comes out.
//!
//! ```text
//!   0 ............ min ....................... max ............
//!   kept: always   on demand: the first that   surplus: only until enough
//!                  has none, one at a time     of the others are ready
//! ```
//!
//! That it is the turn of the first which has none bounds the attempts by what is needed, and makes one plan's backoff rule
//! them: a server that turns connections away is not asked anew for each slot.

use crate::proto::tenure::Standing;

/// How many slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) min: usize,
    pub(crate) max: usize,
}

/// How the pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scene {
    /// Connections that take calls.
    pub(crate) ready: usize,
    /// Calls that wait for a place on any of them.
    pub(crate) waiting: usize,
    /// Others that wait for a connection, and need no more than one.
    pub(crate) others: usize,
    /// Calls wait that only the next connection of the slot in question can help.
    pub(crate) stranded: bool,
    /// The first slot on demand that takes no calls.
    pub(crate) first_shut: Option<usize>,
    /// Attempts have failed, and nothing is ready since.
    pub(crate) outage: bool,
}

/// What a slot without a connection should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Nothing,
    /// Make a connection that will be needed.
    Connection,
    /// Make one that is needed now: nothing is ready, or there are calls that only this slot's next connection can help.
    Now,
    /// Nobody asks any more. The outage is over when an attempt could be made again, because then it is made for whoever asks.
    Rest,
    /// The pool has become smaller.
    Gone,
}

impl Size {
    pub(crate) fn wanted(&self, slot: usize, scene: &Scene) -> Wanted {
        let Self { min, max } = *self;
        let is_down = scene.ready == 0;
        let needed = scene.waiting > 0 || (is_down && scene.others > 0);
        let urgent = (is_down && needed) || scene.stranded;
        match slot {
            _ if slot >= max => Wanted::Gone,
            _ if slot < min && urgent => Wanted::Now,
            _ if slot < min => Wanted::Connection,
            _ if scene.first_shut != Some(slot) => Wanted::Nothing,
            // Those that are kept are on their way.
            _ if is_down && min > 0 => Wanted::Nothing,
            _ if needed && urgent => Wanted::Now,
            _ if needed => Wanted::Connection,
            _ if is_down && scene.outage => Wanted::Rest,
            _ => Wanted::Nothing,
        }
    }

    /// What a slot with a connection is to the pool, in which so many are ready. Not one of them is let go while the pool
    /// would have fewer without it than it is to keep, and none for its number alone while there are no more than it may have.
    pub(crate) fn standing(&self, slot: usize, ready: usize) -> Standing {
        match slot {
            _ if slot < self.min || ready <= self.min => Standing::Kept,
            _ if slot < self.max || ready <= self.max => Standing::Spare,
            _ => Standing::Surplus,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Scene =
        Scene { ready: 0, waiting: 0, others: 0, stranded: false, first_shut: None, outage: false };

    /// What slots 0 to 4 should do.
    fn all(min: usize, max: usize, scene: Scene) -> [Wanted; 5] {
        [0, 1, 2, 3, 4].map(|slot| Size { min, max }.wanted(slot, &scene))
    }

    #[test]
    fn what_a_slot_should_do_follows_from_its_number_and_from_who_waits() {
        use Wanted::{Connection, Gone, Nothing, Now, Rest};
        let scene = |ready, waiting, others| Scene { ready, waiting, others, ..QUIET };
        let down_on_demand = Scene { first_shut: Some(0), ..QUIET };
        for (min, max, scene, expected) in [
            // Those to be kept are made without being asked for.
            (2, 4, QUIET, [Connection, Connection, Nothing, Nothing, Gone]),
            (2, 4, scene(0, 1, 0), [Now, Now, Nothing, Nothing, Gone]),
            (2, 4, scene(0, 0, 1), [Now, Now, Nothing, Nothing, Gone]),
            (2, 4, scene(1, 0, 1), [Connection, Connection, Nothing, Nothing, Gone]),
            // While none of them is ready, no other is.
            (
                2,
                4,
                Scene { first_shut: Some(2), ..scene(0, 9, 9) },
                [Now, Now, Nothing, Nothing, Gone],
            ),
            // One at a time, in turn, and only for calls without a place.
            (
                1,
                4,
                Scene { first_shut: Some(2), ..scene(2, 9, 0) },
                [Connection, Nothing, Connection, Nothing, Gone],
            ),
            (
                1,
                4,
                Scene { first_shut: Some(2), ..scene(2, 0, 9) },
                [Connection, Nothing, Nothing, Nothing, Gone],
            ),
            // Others are ready, and do not help.
            (
                1,
                4,
                Scene { first_shut: Some(2), stranded: true, ..scene(2, 0, 1) },
                [Now, Nothing, Nothing, Nothing, Gone],
            ),
            (
                1,
                4,
                Scene { first_shut: Some(2), stranded: true, ..scene(2, 1, 0) },
                [Now, Nothing, Now, Nothing, Gone],
            ),
            // Nothing is kept: nothing is made before somebody asks.
            (0, 4, down_on_demand, [Nothing, Nothing, Nothing, Nothing, Gone]),
            (
                0,
                4,
                Scene { waiting: 200, ..down_on_demand },
                [Now, Nothing, Nothing, Nothing, Gone],
            ),
            (0, 4, Scene { others: 1, ..down_on_demand }, [Now, Nothing, Nothing, Nothing, Gone]),
            // Nobody asks any more.
            (
                0,
                4,
                Scene { outage: true, ..down_on_demand },
                [Rest, Nothing, Nothing, Nothing, Gone],
            ),
            (
                0,
                4,
                Scene { outage: true, waiting: 1, ..down_on_demand },
                [Now, Nothing, Nothing, Nothing, Gone],
            ),
        ] {
            assert_eq!(all(min, max, scene), expected, "{min}..={max} {scene:?}");
        }
    }

    #[test]
    fn no_connection_is_let_go_that_would_be_missed() {
        use Standing::{Kept, Spare, Surplus};
        for (min, max, ready, expected) in [
            (1, 3, 4, [Kept, Spare, Spare, Surplus, Surplus]),
            (1, 3, 3, [Kept, Spare, Spare, Spare, Spare]),
            (1, 3, 1, [Kept; 5]),
            (2, 2, 2, [Kept; 5]),
            // The others may have none.
            (0, 2, 1, [Spare; 5]),
            (0, 2, 3, [Spare, Spare, Surplus, Surplus, Surplus]),
        ] {
            let standing = |slot| Size { min, max }.standing(slot, ready);
            assert_eq!([0, 1, 2, 3, 4].map(standing), expected, "{min}..={max}, {ready} ready");
        }
    }
}
