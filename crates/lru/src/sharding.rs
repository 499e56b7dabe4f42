//! Building block for caches of your own: the number of shards, the choice of one, and counters.

pub(crate) mod per_thread_counters;

pub use crate::sharding::per_thread_counters::PerThreadCounters;

/// The number of shards that a [`ShardedCache`](crate::ShardedCache) of `max_bytes` has by default.
///
/// It is one for each 4 MiB, or fewer, so that a shard has room for 256 entries of
/// `expected_entry_bytes`. It is a power of two from 1 to 256.
///
/// ```
/// use peercache_lru::sharding::shard_count;
///
/// assert_eq!(shard_count(1 << 20, 1 << 10), 1);
/// assert_eq!(shard_count(64 << 20, 1 << 10), 16);
/// assert_eq!(shard_count(64 << 20, 100 << 10), 2);
/// ```
#[must_use]
pub fn shard_count(max_bytes: usize, expected_entry_bytes: usize) -> usize {
    let shard_bytes = expected_entry_bytes.saturating_mul(MIN_SHARD_ENTRIES).max(SHARD_BYTES);
    let shards = (max_bytes / shard_bytes).clamp(1, MAX_SHARDS);
    1 << shards.ilog2()
}

/// The least budget of a shard. Its loss of exactness is not seen in the hit ratio, and a value of
/// a megabyte does not fill it alone.
const SHARD_BYTES: usize = 4 << 20;

/// The least number of expected entries of a shard. With fewer, the uneven spread of keys over
/// shards costs hits: a share varies by about 1/sqrt(n), here 6 %.
const MIN_SHARD_ENTRIES: usize = 256;

/// The most shards: more than the threads of any machine need. An empty one takes some 300 bytes.
const MAX_SHARDS: usize = 256;

/// The number of shards as the builder was told it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shards {
    Exactly(usize),
    ForEntriesOf(usize),
}

impl Shards {
    pub(crate) fn count(self, max_bytes: usize) -> usize {
        match self {
            Self::Exactly(shards) => shards.clamp(1, MAX_SHARDS).next_power_of_two(),
            Self::ForEntriesOf(bytes) => shard_count(max_bytes, bytes),
        }
    }
}

impl Default for Shards {
    fn default() -> Self {
        Self::ForEntriesOf(1 << 10)
    }
}

/// The budget of shard `index`: an equal part. The remainder goes to the first shards, a byte each.
pub(crate) fn share(max_bytes: usize, shards: usize, index: usize) -> usize {
    max_bytes / shards + usize::from(index < max_bytes % shards)
}

/// The shard of a hash, among a power of two.
///
/// The map inside a shard takes its bucket from the lowest bits of the same hash and its tag from
/// the highest seven. Neither may choose the shard: they would be alike in all keys of a shard, and
/// leave most buckets empty. The product's high bits depend on all bits of the hash (Fibonacci
/// hashing: Knuth, The Art of Computer Programming, volume 3, section 6.4).
///
/// # Panics
/// If there are no shards.
#[inline]
#[must_use]
pub fn shard_of(hash: u64, shards: usize) -> usize {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    // Two shifts, because one by all 64 bits, for one shard, would be none.
    (hash.wrapping_mul(GOLDEN) >> 1 >> (u64::BITS - 1 - shards.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn small_budgets_are_not_cut() {
        let counts = [0, 1 << 20, (8 << 20) - 1, 8 << 20, 256 << 20].map(|budget| shard_count(budget, 1 << 10));
        assert_eq!(counts, [1, 1, 1, 2, 64]);
    }

    #[test]
    fn shards_hold_256_entries() {
        let counts = [0, 16 << 10, 17 << 10, 1 << 20, usize::MAX].map(|entry| shard_count(512 << 20, entry));
        assert_eq!(counts, [128, 128, 64, 2, 1]);
    }

    #[test]
    fn shards_are_capped() {
        assert_eq!(shard_count(usize::MAX, 0), 256);
        assert_eq!([0, 3, 200, usize::MAX].map(|shards| Shards::Exactly(shards).count(1)), [1, 4, 256, 256]);
    }

    #[test]
    fn shares_add_up_to_the_budget() {
        for budget in [0, 1, 15, 16, 1_000_003, usize::MAX] {
            let shares = (0..16).map(|index| share(budget, 16, index));
            assert_eq!(shares.clone().sum::<usize>(), budget);
            assert!(shares.clone().max().unwrap() - shares.min().unwrap() <= 1);
        }
    }

    /// The hardest case is hashes that are plain numbers.
    #[test]
    fn shards_share_no_bits_with_the_buckets() {
        let mut low_bits = vec![HashSet::new(); 16];
        let mut keys = [0; 16];
        for hash in 0..16_384_u64 {
            low_bits[shard_of(hash, 16)].insert(hash % 256);
            keys[shard_of(hash, 16)] += 1;
        }
        assert!(low_bits.iter().all(|seen| seen.len() == 256), "all buckets are used in each shard");
        assert!(keys.iter().all(|keys| (1_000..1_050).contains(keys)), "keys are spread evenly: {keys:?}");
    }

    /// The map's tag is the seven highest bits.
    #[test]
    fn shards_share_no_bits_with_the_tags() {
        let mut tags = vec![HashSet::new(); 16];
        for number in 0..65_536_u64 {
            let hash = ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(number);
            tags[shard_of(hash, 16)].insert(hash >> 57);
        }
        assert!(tags.iter().all(|seen| seen.len() == 128));
    }
}
