//! What leaves a cache, and why.

use std::sync::Arc;

/// An entry that has left the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry<K, V> {
    /// The key it was under.
    pub key: K,
    /// Its value.
    pub value: V,
    /// What it was charged, in bytes: key, value and overhead.
    pub weight: usize,
}

/// Why an entry left the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Removal {
    /// The policy chose it when room was needed for another, or when the budget shrank: the least recently used, where that is exact LRU.
    Size,
    /// A new value came for its key, whether or not the cache could hold that one.
    Replaced,
    /// Its owner took it out, by key or as the least recently used.
    Removed,
    /// The cache was cleared.
    Cleared,
}

/// Hears of every entry that left.
pub(crate) type Listener<K, V> = Arc<dyn Fn(&K, &V, Removal) + Send + Sync>;
