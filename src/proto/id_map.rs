//! A table by call ids. Its hash is one multiplication, by a number that each table draws: a peer that chooses its ids cannot
//! know which of them collide (Dietzfelbinger et al., "A reliable randomized algorithm for the closest-pair problem", 1997).
//! That is the one thing in the core that is random without a seed, and nothing that the core gives out depends on it:
//! see [`in_order`].

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};

pub(crate) type IdMap<V, K = u64> = HashMap<K, V, Multiplier>;
pub(crate) type IdSet = HashSet<u64, Multiplier>;

/// In the order of the ids, which mostly is that in which the calls were made. A table has an order of its own, another one in each
/// run: what one gives out must not depend on it, or a simulation would not repeat itself.
pub(crate) fn in_order<K: Ord + Copy, V>(entries: impl IntoIterator<Item = (K, V)>) -> Vec<(K, V)> {
    let mut entries = Vec::from_iter(entries);
    entries.sort_unstable_by_key(|(id, _)| *id);
    entries
}

/// An odd number.
#[derive(Debug, Clone)]
pub(crate) struct Multiplier(u64);

impl Default for Multiplier {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0) | 1)
    }
}

impl BuildHasher for Multiplier {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher { multiplier: self.0, hash: 0 }
    }
}

#[derive(Debug)]
pub(crate) struct IdHasher {
    multiplier: u64,
    hash: u64,
}

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.hash
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, id: u64) {
        // The high bits of the product are the good ones, and the table takes both low and high bits.
        self.hash = (self.hash ^ id).wrapping_mul(self.multiplier).rotate_left(32);
    }
}
