//! The LRU of many threads: one [`Store`] per shard, each behind its own lock.

use std::{
    borrow::Borrow,
    collections::hash_map::RandomState,
    fmt,
    hash::{BuildHasher, Hash},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    Builder, ByHeapBytes, Entry, HeapBytes, Removal, Stats, TooHeavy, Weigher,
    entry::Listener,
    shards::{shard_of, share},
    store::Store,
};

/// A least-recently-used cache of at most `max_bytes`, for many threads.
///
/// Keys are spread over shards, each an exact LRU with its own lock and an equal part of the budget; so the order of use is exact within a
/// shard and approximate over all, and **an entry must fit its shard**: [`max_entry_bytes`](Self::max_entry_bytes). How many
/// shards there are follows from the budget by [`shard_count`](crate::shard_count), one below 8 MiB, or is the builder's to say.
///
/// Values are cloned out, so make that cheap: `Arc<T>`, `Bytes`. Weigher and listener are called outside of the locks and may use the
/// cache; what the listener hears of operations that ran at the same time may come in another order than they happened. If
/// one of the two panics the caller gets the panic and the cache stays whole, as with [`Cache`](crate::Cache).
///
/// ```
/// use std::sync::Arc;
/// use peercache_lru::ShardedCache;
///
/// let cache = ShardedCache::<String, Arc<str>>::new(64 << 20);
/// cache.insert("role".into(), "colonel".into())?;
/// assert_eq!(cache.get("role").as_deref(), Some("colonel"));
/// assert_eq!(cache.stats().hits, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ShardedCache<K, V, S = RandomState> {
    /// A power of two of them.
    shards: Box<[Shard<K, V, S>]>,
    hasher: S,
    weigher: Box<dyn Weigher<K, V> + Send + Sync>,
    /// Added to what the weigher says.
    entry_overhead: usize,
    listener: Option<Listener<K, V>>,
}

/// Two cache lines, which is what processors fetch together, so that threads in neighbouring shards do not disturb each other.
#[repr(align(128))]
struct Shard<K, V, S>(Mutex<Guarded<K, V, S>>);

struct Guarded<K, V, S> {
    store: Store<K, V, S>,
    stats: Stats,
}

impl<K: Hash + Eq, V> ShardedCache<K, V> {
    /// A cache of at most `max_bytes` that asks keys and values for their weight, tells nobody, and hashes as
    /// [`HashMap`](std::collections::HashMap) does. [`builder`](Self::builder) has the choices.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self
    where
        K: HeapBytes,
        V: HeapBytes,
    {
        Self::builder(max_bytes).build_sharded()
    }

    /// Starts a cache of at most `max_bytes`: keys, values and overhead. End with [`build_sharded`](Builder::build_sharded).
    pub fn builder(max_bytes: usize) -> Builder<K, V, RandomState, ByHeapBytes> {
        Builder::new(max_bytes)
    }
}

impl<K: Hash + Eq, V, S: BuildHasher + Clone> ShardedCache<K, V, S> {
    pub(crate) fn from_parts(
        max_bytes: usize,
        shards: usize,
        hasher: S,
        weigher: Box<dyn Weigher<K, V> + Send + Sync>,
        entry_overhead: usize,
        listener: Option<Listener<K, V>>,
    ) -> Self {
        let shard = |index| {
            let store = Store::new(share(max_bytes, shards, index), hasher.clone());
            Shard(Mutex::new(Guarded { store, stats: Stats::default() }))
        };
        Self { shards: (0..shards).map(shard).collect(), hasher, weigher, entry_overhead, listener }
    }

    /// The value of `key`, which becomes its shard's most recently used. Counted as a hit or a miss.
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        self.get_with(key, V::clone)
    }

    /// [`get`](Self::get) without a clone: what `read` makes of the value. It runs under the shard's lock, so keep it short, and
    /// using the cache in it deadlocks.
    pub fn get_with<Q, R>(&self, key: &Q, read: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut guarded = self.shard(key).lock();
        let Guarded { store, stats } = &mut *guarded;
        let found = store.get(key);
        match found {
            Some(_) => stats.hits += 1,
            None => stats.misses += 1,
        }
        found.map(read)
    }

    /// The value of `key`, its place in the order unchanged. Not counted.
    pub fn peek<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        self.shard(key).lock().store.peek(key).cloned()
    }

    /// Whether `key` is in the cache; its place in the order is unchanged. Not counted.
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.shard(key).lock().store.peek(key).is_some()
    }

    /// Takes an entry in as its shard's most recently used, evicting that shard's least recent until it fits. Returns the value that it
    /// replaced, if any.
    ///
    /// # Errors
    /// [`TooHeavy`], with key and value handed back, if the entry alone exceeds the shard's budget. Nothing is evicted for it; what was under its
    /// key is removed all the same ([`Removal::Replaced`]), since it is stale from now on.
    pub fn insert(&self, key: K, value: V) -> Result<Option<V>, TooHeavy<K, V>> {
        let weight = self.weight_of(&key, &value);
        self.insert_weighed(key, value, weight)
    }

    /// [`insert`](Self::insert) without asking the weigher: the entry is charged `weight` bytes, overhead included.
    ///
    /// # Errors
    /// [`TooHeavy`], as [`insert`](Self::insert).
    pub fn insert_weighed(&self, key: K, value: V, weight: usize) -> Result<Option<V>, TooHeavy<K, V>> {
        let change = {
            let mut guarded = self.shard(&key).lock();
            let Guarded { store, stats } = &mut *guarded;
            let change = store.insert(key, value, weight);
            stats.insertions += u64::from(change.refused.is_none());
            stats.refusals += u64::from(change.refused.is_some());
            stats.evictions += change.evicted.len() as u64;
            change
        };
        if let Some(replaced) = &change.replaced {
            self.tell(replaced, Removal::Replaced);
        }
        for entry in change.evicted.iter() {
            self.tell(entry, Removal::Size);
        }
        change.into_result()
    }

    /// What an entry is charged, in bytes: what the weigher says, and the overhead.
    pub fn weight_of(&self, key: &K, value: &V) -> usize {
        self.weigher.weigh(key, value).saturating_add(self.entry_overhead)
    }

    /// Takes out the value of `key` ([`Removal::Removed`]).
    pub fn remove<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.remove_entry(key).map(|entry| entry.value)
    }

    /// Takes out the entry of `key` ([`Removal::Removed`]), with the cache's own key and what it was charged.
    pub fn remove_entry<Q>(&self, key: &Q) -> Option<Entry<K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let entry = self.shard(key).lock().store.remove(key)?;
        self.tell(&entry, Removal::Removed);
        Some(entry)
    }

    /// Empties the cache, shard by shard, and gives the indexes' memory back. What others insert meanwhile may stay. The listener hears of every
    /// entry ([`Removal::Cleared`]).
    pub fn clear(&self) {
        for shard in &self.shards {
            // Taken out under the lock, which is quick; told and dropped outside of it.
            let mut cleared = shard.lock().store.take();
            if self.listener.is_none() {
                continue;
            }
            while let Some(entry) = cleared.pop_lru() {
                self.tell(&entry, Removal::Cleared);
            }
        }
    }

    /// Changes the budget, shard by shard, and evicts what no longer fits ([`Removal::Size`]). The number of shards stays.
    pub fn resize(&self, max_bytes: usize) {
        for (index, shard) in self.shards.iter().enumerate() {
            let evicted = {
                let mut guarded = shard.lock();
                let evicted = guarded.store.resize(share(max_bytes, self.shards.len(), index));
                guarded.stats.evictions += evicted.len() as u64;
                evicted
            };
            for entry in evicted.iter() {
                self.tell(entry, Removal::Size);
            }
        }
    }

    /// Shows every entry to `visit`, shard by shard, each from its most to its least recently used; the order is unchanged. A shard is
    /// locked while it is shown, so using the cache in `visit` deadlocks.
    pub fn for_each(&self, mut visit: impl FnMut(&K, &V)) {
        for shard in &self.shards {
            shard.lock().store.iter().for_each(|(key, slot)| visit(key, &slot.value));
        }
    }

    /// The number of entries, each shard's at a slightly different moment.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().store.len()).sum()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What all entries are charged together, in bytes. Never more than [`max_bytes`](Self::max_bytes).
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().store.bytes()).sum()
    }

    /// The budget, in bytes: the sum of the shards', which is exactly what was asked for.
    #[must_use]
    pub fn max_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().store.max_bytes()).sum()
    }

    /// The heaviest entry that fits whatever its key, in bytes with overhead: the smallest shard's budget.
    #[must_use]
    pub fn max_entry_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().store.max_bytes()).min().unwrap_or(0)
    }

    /// The number of shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Hits, misses and the like since the cache was made.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        for shard in &self.shards {
            sum += shard.lock().stats;
        }
        sum
    }

    fn shard<Q>(&self, key: &Q) -> &Shard<K, V, S>
    where
        Q: Hash + ?Sized,
    {
        match &*self.shards {
            [only] => only,
            shards => &shards[shard_of(self.hasher.hash_one(key), shards.len())],
        }
    }

    fn tell(&self, entry: &Entry<K, V>, why: Removal) {
        if let Some(listener) = &self.listener {
            listener(&entry.key, &entry.value, why);
        }
    }
}

impl<K, V, S> Shard<K, V, S> {
    /// A poisoned lock is taken as it is: a store is whole whenever code of a user can panic.
    fn lock(&self) -> MutexGuard<'_, Guarded<K, V, S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq, V, S: BuildHasher + Clone> fmt::Debug for ShardedCache<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardedCache")
            .field("shards", &self.shards())
            .field("len", &self.len())
            .field("bytes", &self.bytes())
            .field("max_bytes", &self.max_bytes())
            .finish_non_exhaustive()
    }
}
