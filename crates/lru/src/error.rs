//! The one thing that can go wrong.

use std::{error::Error, fmt};

/// The entry is heavier than the budget: it was not taken in, and nothing was evicted for it.
///
/// What was under its key before is gone all the same, because it is no longer the key's value.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TooHeavy<K, V> {
    /// The key, handed back.
    pub key: K,
    /// The value, handed back.
    pub value: V,
    /// What the entry would be charged, in bytes.
    pub weight: usize,
    /// What there is for it, in bytes: the cache's budget, in a [`ShardedCache`](crate::ShardedCache) that of the key's shard.
    pub max_bytes: usize,
}

impl<K, V> fmt::Display for TooHeavy<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an entry of {} bytes exceeds the cache's budget of {}", self.weight, self.max_bytes)
    }
}

// By hand, so that keys and values need no `Debug` and do not end up in logs.
impl<K, V> fmt::Debug for TooHeavy<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TooHeavy")
            .field("weight", &self.weight)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}

impl<K, V> Error for TooHeavy<K, V> {}
