//! The loads, here and at other members, that wait for a value: so that none waits for itself.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::key::Key;

/// The most loads that are remembered across members. A circle through more of them is not found,
/// and ends with `load_timeout`.
const MAX_LOADS: usize = 4;

/// The loads whose loaders wait for a value, by the hashes of their groups and keys: the latest of
/// them. A member passes them on with what its loaders ask of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadChain {
    /// The latest last; zero is none.
    hashes: [u64; MAX_LOADS],
}

impl LoadChain {
    /// The chain of these hashes, of which the latest are kept.
    pub fn from_hashes(hashes: impl IntoIterator<Item = u64>) -> Self {
        hashes.into_iter().fold(LoadChain::default(), LoadChain::with)
    }

    /// Whether no load waits.
    pub fn is_empty(&self) -> bool {
        *self == LoadChain::default()
    }

    /// The hashes, the latest last, at most four. XXH3 of the key, of 64 bits, with that of the
    /// group's name as its seed.
    pub fn hashes(&self) -> impl Iterator<Item = u64> {
        self.hashes.into_iter().filter(|hash| *hash != 0)
    }

    pub(crate) fn with_keys(self, group: &str, keys: &[Key]) -> Self {
        let first_kept = keys.len().saturating_sub(MAX_LOADS);
        keys[first_kept..].iter().fold(self, |chain, key| chain.with(hash(group, key.as_bytes())))
    }

    /// Whether this key is being loaded by one who waits.
    pub(crate) fn contains(&self, group: &str, key: &[u8]) -> bool {
        !self.is_empty() && self.hashes.contains(&hash(group, key))
    }

    fn with(mut self, hash: u64) -> Self {
        if hash != 0 {
            self.hashes.rotate_left(1);
            self.hashes[MAX_LOADS - 1] = hash;
        }
        self
    }
}

fn hash(group: &str, key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, xxh3_64(group.as_bytes())).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_loads_are_remembered() {
        let keys: Vec<Key> = (0..6).map(|nth: u32| Key::from(nth.to_string())).collect();
        let chain = LoadChain::default().with_keys("g", &keys[..1]).with_keys("h", &keys[1..]);
        let has = |group, key: &str| chain.contains(group, key.as_bytes());
        assert!(!has("g", "0") && !has("h", "1"), "they are too long ago");
        assert!(has("h", "2") && has("h", "5") && !has("g", "5") && !has("h", "6"));
        assert_eq!(LoadChain::from_hashes(chain.hashes()), chain);
        assert_eq!(chain.hashes().count(), MAX_LOADS);
    }

    /// The hash is that of `docs/wire.md`, for members of other releases.
    #[test]
    fn a_load_is_known_by_a_hash_that_all_members_make() {
        assert_eq!(hash("g", b"k"), 0x60a2_2601_36d9_d087);
    }

    #[test]
    fn nothing_is_in_an_empty_one() {
        assert!(LoadChain::from_hashes([0]).is_empty() && !LoadChain::default().contains("g", b"k"));
    }
}
