//! Entries that leave a cache, and the reasons for it.

use std::sync::Arc;

/// An entry that has left the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry<K, V> {
    /// The key it was under.
    pub key: K,
    /// Its value.
    pub value: V,
    /// Its charge in bytes: key, value and overhead.
    pub weight: usize,
}

/// The reason why an entry left the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Removal {
    /// The policy evicted it when another needed room, or when the budget shrank.
    Size,
    /// A new value was inserted under its key, whether or not it fitted the cache.
    Replaced,
    /// The caller removed it, by key or as the least recently used.
    Removed,
    /// The cache was cleared.
    Cleared,
}

/// A callback for every entry that left.
pub(crate) type Listener<K, V> = Arc<dyn Fn(&K, &V, Removal) + Send + Sync>;
