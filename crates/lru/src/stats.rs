//! Counters of a sharded cache.

use std::ops::AddAssign;

/// Counters of a [`ShardedCache`](crate::ShardedCache) since it was made.
///
/// Each shard is read under its lock, one after the other, so the numbers of a busy cache are of
/// slightly different moments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Lookups by `get` and `get_with` that found their key. `peek` and `contains` are not counted.
    pub hits: u64,
    /// Lookups by `get` and `get_with` that did not find their key.
    pub misses: u64,
    /// Entries inserted, new and replacing.
    pub insertions: u64,
    /// Entries refused as heavier than the budget.
    pub refusals: u64,
    /// Entries evicted to make room ([`Removal::Size`](crate::Removal::Size)).
    pub evictions: u64,
}

impl Stats {
    /// Hits per lookup, from 0 to 1; 0 before the first lookup.
    #[must_use]
    pub fn hit_ratio(&self) -> f64 {
        let lookups = self.hits + self.misses;
        if lookups == 0 { 0.0 } else { self.hits as f64 / lookups as f64 }
    }
}

impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.hits += other.hits;
        self.misses += other.misses;
        self.insertions += other.insertions;
        self.refusals += other.refusals;
        self.evictions += other.evictions;
    }
}
