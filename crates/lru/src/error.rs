//! The one error: an entry that is too heavy.

use std::{error::Error, fmt};

/// The error of an entry heavier than the budget: it was not inserted, and nothing was evicted for
/// it.
///
/// An older value of its key is gone all the same, because it is no longer the key's value.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TooHeavy<K, V> {
    /// The key, handed back.
    pub key: K,
    /// The value, handed back.
    pub value: V,
    /// The charge that the entry would have, in bytes.
    pub weight: usize,
    /// The budget that it exceeds, in bytes: the cache's, or in a
    /// [`ShardedCache`](crate::ShardedCache) the shard's.
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
