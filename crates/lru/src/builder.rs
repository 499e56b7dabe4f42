//! The settings of both caches, and their defaults.

use std::{
    collections::hash_map::RandomState,
    fmt,
    hash::{BuildHasher, Hash},
    marker::PhantomData,
    sync::Arc,
};

use crate::{
    cache::Cache,
    entry::{Listener, Removal},
    segment::order::EvictionPolicy,
    sharded::{ShardedCache, sharded_entry_overhead},
    sharding::Shards,
    store::Store,
    weight::{ByHeapBytes, Weigher, entry_overhead},
};

/// Makes a [`Cache`] or a [`ShardedCache`].
///
/// ```
/// use peercache_lru::{Cache, ShardedCache};
///
/// struct Film(Vec<u8>);
///
/// let one = Cache::<u64, Film>::builder(1 << 20).weigher(|_key, film| film.0.len()).build();
/// let many = ShardedCache::<u64, u64>::builder(1 << 30).shards(16).build_sharded();
/// assert_eq!((one.max_bytes(), many.max_bytes()), (1 << 20, 1 << 30));
/// ```
#[must_use = "a builder makes nothing until `build` or `build_sharded`"]
pub struct Builder<K, V, S = RandomState, W = ByHeapBytes> {
    max_bytes: usize,
    weigher: W,
    entry_overhead: Option<usize>,
    hasher: S,
    listener: Option<Listener<K, V>>,
    shards: Shards,
    policy: EvictionPolicy,
    types: PhantomData<fn(K, V)>,
}

impl<K, V> Builder<K, V> {
    /// Starts a cache of at most `max_bytes`: keys, values and overhead.
    ///
    /// `usize::MAX` is no limit, and a cache of 0 bytes holds nothing.
    #[doc(alias = "max_capacity")]
    pub fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            weigher: ByHeapBytes,
            entry_overhead: None,
            policy: EvictionPolicy::default(),
            hasher: RandomState::new(),
            listener: None,
            shards: Shards::default(),
            types: PhantomData,
        }
    }
}

impl<K, V, S, W> Builder<K, V, S, W> {
    /// Says how many bytes a key and a value hold on the heap; see [`Weigher`].
    ///
    /// Defaults to [`ByHeapBytes`], which asks key and value for their
    /// [`HeapBytes`](crate::HeapBytes).
    pub fn weigher<F>(self, weigher: F) -> Builder<K, V, S, F>
    where
        F: Fn(&K, &V) -> usize + Send + Sync + 'static,
    {
        let Self { max_bytes, weigher: _, entry_overhead, hasher, listener, shards, policy, types } = self;
        Builder { max_bytes, weigher, entry_overhead, hasher, listener, shards, policy, types }
    }

    /// Adds this many bytes to the weight of every entry.
    ///
    /// With 0, and a weigher that always says 1, `max_bytes` counts entries. Defaults to
    /// [`entry_overhead`], in a [`ShardedCache`] to [`sharded_entry_overhead`].
    pub fn entry_overhead(mut self, bytes: usize) -> Self {
        self.entry_overhead = Some(bytes);
        self
    }

    /// Chooses which entries leave a [`ShardedCache`] first. A [`Cache`] is always an exact LRU.
    ///
    /// Defaults to [`EvictionPolicy::Adaptive`].
    pub fn eviction_policy(mut self, policy: EvictionPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Hashes keys with `hasher`. Take one with random seeds where strangers choose the keys.
    ///
    /// Defaults to [`RandomState`].
    pub fn hasher<T: BuildHasher + Clone>(self, hasher: T) -> Builder<K, V, T, W> {
        let Self { max_bytes, weigher, entry_overhead, hasher: _, listener, shards, policy, types } = self;
        Builder { max_bytes, weigher, entry_overhead, hasher, listener, shards, policy, types }
    }

    /// Calls `listener` for every entry that leaves, with the reason.
    ///
    /// The entry has left by then and is not yet dropped. In a [`ShardedCache`] the listener is
    /// called outside of all locks. Defaults to none.
    pub fn eviction_listener(mut self, listener: impl Fn(&K, &V, Removal) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Sets the number of shards of a [`ShardedCache`]: rounded up to a power of two, at most 256.
    ///
    /// Defaults to [`shard_count`](crate::sharding::shard_count).
    #[doc(alias = "num_segments")]
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Shards::Exactly(shards);
        self
    }

    /// Says how many bytes an entry of a [`ShardedCache`] is expected to be charged, so that no
    /// shard is too small for a fair number of them.
    ///
    /// Say it when entries are larger than 16 KiB. This replaces [`shards`](Self::shards), and is
    /// replaced by it. Defaults to 1 KiB.
    pub fn expected_entry_bytes(mut self, bytes: usize) -> Self {
        self.shards = Shards::ForEntriesOf(bytes);
        self
    }
}

impl<K, V, S, W> Builder<K, V, S, W>
where
    K: Hash + Eq,
    S: BuildHasher + Clone,
    W: Weigher<K, V> + Send + Sync + 'static,
{
    /// Makes a cache for one thread. Settings that are for a [`ShardedCache`] are not looked at.
    #[must_use]
    pub fn build(self) -> Cache<K, V, S> {
        let store = Store::new(self.max_bytes, self.hasher);
        let entry_overhead = self.entry_overhead.unwrap_or(entry_overhead::<K, V>());
        Cache::from_parts(store, Box::new(self.weigher), entry_overhead, self.listener)
    }

    /// Makes a cache for many threads.
    #[must_use]
    pub fn build_sharded(self) -> ShardedCache<K, V, S> {
        let shards = self.shards.count(self.max_bytes);
        ShardedCache::from_parts(
            self.max_bytes,
            shards,
            self.policy,
            self.hasher,
            Box::new(self.weigher),
            self.entry_overhead.unwrap_or(sharded_entry_overhead::<K, V>()),
            self.listener,
        )
    }
}

impl<K, V, S, W> fmt::Debug for Builder<K, V, S, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("max_bytes", &self.max_bytes)
            .field("entry_overhead", &self.entry_overhead)
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}
