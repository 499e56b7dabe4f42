//! Caches of others behind one trait: moka, quick_cache, foyer and 64 locked `lru`s.

use std::{
    hash::BuildHasher,
    sync::{Mutex, MutexGuard},
};

use bytes::Bytes;

use super::workload::{ENTRY_BYTES, Hasher, Key, hasher, weigh};

/// A cache, with what all of them can do.
pub trait Rival: Sync {
    const NAME: &'static str;
    /// A cache that holds `max_bytes`, in which this many entries are expected.
    fn new(max_bytes: usize, entries: usize) -> Self;
    fn get(&self, key: &Key) -> Option<Bytes>;
    fn insert(&self, key: Key, value: Bytes);
}

/// Calls a function for ours and for each of the others.
macro_rules! beside_rivals {
    ($bench:ident::<$ours:ty>($($argument:expr),+)) => {
        $bench::<$ours>($($argument),+);
        $bench::<crate::support::rivals::LockedLru>($($argument),+);
        $bench::<crate::support::rivals::Moka>($($argument),+);
        $bench::<crate::support::rivals::Quick>($($argument),+);
        $bench::<crate::support::rivals::Foyer>($($argument),+);
    };
}
pub(crate) use beside_rivals;

pub struct LockedLru {
    hasher: Hasher,
    shards: Vec<Mutex<lru::LruCache<Key, Bytes, Hasher>>>,
}

impl LockedLru {
    /// Chooses by bits in the middle of the hash, which the map inside does not use.
    fn shard(&self, key: &Key) -> MutexGuard<'_, lru::LruCache<Key, Bytes, Hasher>> {
        let index = (self.hasher.hash_one(key) >> 40) as usize % self.shards.len();
        self.shards[index].lock().expect("nobody panics")
    }
}

impl Rival for LockedLru {
    const NAME: &'static str = "lru x 64";

    fn new(max_bytes: usize, _: usize) -> Self {
        let entries = (max_bytes / ENTRY_BYTES / 64).try_into().expect("at least an entry a shard");
        let shard = |_| {
            // Unbounded at first, or it would make its table as large as it may ever become.
            let mut shard = lru::LruCache::unbounded_with_hasher(hasher());
            shard.resize(entries);
            Mutex::new(shard)
        };
        LockedLru { hasher: hasher(), shards: (0..64).map(shard).collect() }
    }

    #[inline]
    fn get(&self, key: &Key) -> Option<Bytes> {
        self.shard(key).get(key).cloned()
    }

    fn insert(&self, key: Key, value: Bytes) {
        // The guard's life ends with the statement, and what was evicted is dropped after it.
        let evicted = self.shard(&key).push(key, value);
        drop(evicted);
    }
}

pub struct Moka(moka::sync::Cache<Key, Bytes, Hasher>);

impl Rival for Moka {
    const NAME: &'static str = "moka";

    fn new(max_bytes: usize, _: usize) -> Self {
        let builder = moka::sync::Cache::builder().max_capacity(max_bytes as u64);
        Moka(builder.weigher(|key, value| weigh(key, value) as u32).build_with_hasher(hasher()))
    }

    #[inline]
    fn get(&self, key: &Key) -> Option<Bytes> {
        self.0.get(key)
    }

    fn insert(&self, key: Key, value: Bytes) {
        self.0.insert(key, value);
    }
}

pub struct Quick(quick_cache::sync::Cache<Key, Bytes, QuickWeigher, Hasher>);

#[derive(Clone)]
pub struct QuickWeigher;

impl quick_cache::Weighter<Key, Bytes> for QuickWeigher {
    fn weight(&self, key: &Key, value: &Bytes) -> u64 {
        weigh(key, value) as u64
    }
}

impl Rival for Quick {
    const NAME: &'static str = "quick_cache";

    fn new(max_bytes: usize, entries: usize) -> Self {
        let life = Default::default();
        Quick(quick_cache::sync::Cache::with(entries, max_bytes as u64, QuickWeigher, hasher(), life))
    }

    #[inline]
    fn get(&self, key: &Key) -> Option<Bytes> {
        self.0.get(key)
    }

    fn insert(&self, key: Key, value: Bytes) {
        self.0.insert(key, value);
    }
}

pub struct Foyer(foyer_memory::Cache<Key, Bytes, Hasher>);

impl Rival for Foyer {
    const NAME: &'static str = "foyer";

    fn new(max_bytes: usize, _: usize) -> Self {
        let builder = foyer_memory::CacheBuilder::new(max_bytes);
        Foyer(builder.with_weighter(weigh).with_hash_builder(hasher()).build())
    }

    #[inline]
    fn get(&self, key: &Key) -> Option<Bytes> {
        self.0.get(key).map(|entry| entry.value().clone())
    }

    fn insert(&self, key: Key, value: Bytes) {
        self.0.insert(key, value);
    }
}

/// No cache, for it evicts nothing: the yardstick for hits.
pub struct Map(dashmap::DashMap<Key, Bytes, Hasher>);

impl Rival for Map {
    const NAME: &'static str = "DashMap";

    fn new(_: usize, _: usize) -> Self {
        Map(dashmap::DashMap::with_hasher(hasher()))
    }

    #[inline]
    fn get(&self, key: &Key) -> Option<Bytes> {
        self.0.get(key).map(|value| value.clone())
    }

    fn insert(&self, key: Key, value: Bytes) {
        self.0.insert(key, value);
    }
}
