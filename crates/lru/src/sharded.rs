//! The cache of many threads: one [`Segment`] per shard, each behind its own lock.

use std::{
    borrow::Borrow,
    collections::hash_map::RandomState,
    fmt,
    hash::{BuildHasher, Hash},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use crate::{
    builder::Builder,
    entry::{Entry, Listener, Removal},
    error::TooHeavy,
    segment::order::EvictionPolicy,
    segment::policy_state::PolicyState,
    segment::{HasPolicyState, Lane, Segment},
    sharding::per_thread_counters::PerThreadCounters,
    sharding::{shard_of, share},
    stats::Stats,
    store::{Change, Evicted},
    weight::{ByHeapBytes, HeapBytes, Weigher},
};

/// A cache of at most `max_bytes`, for many threads, which keeps what is used again: see [`EvictionPolicy`].
///
/// Keys are spread over shards, each with its own lock, its own order of use and an equal part of the budget; so **an entry must fit its
/// shard**: [`max_entry_bytes`](Self::max_entry_bytes). How many shards there are follows from the budget by
/// [`shard_count`](crate::sharding::shard_count), one below 8 MiB, or is the builder's to say. Readers share a shard's lock; they wait for those who
/// insert or remove in it, and under [`EvictionPolicy::Lru`] for each other.
///
/// Values are cloned out, so make that cheap: `Arc<T>`, `Bytes`. They lie in slots, of which 64 are taken at a time: box what is larger than a
/// few hundred bytes in itself. Weigher and listener are called outside of the locks and may use the
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
    shards: Box<[Shard<K, V>]>,
    /// One for the choice of the shard and for the index in it: see [`shard_of`].
    hasher: S,
    policy: EvictionPolicy,
    weigher: Box<dyn Weigher<K, V> + Send + Sync>,
    /// Added to what the weigher says.
    entry_overhead: usize,
    listener: Option<Listener<K, V>>,
    lookups: PerThreadCounters<2>,
}

const HITS: usize = 0;
const MISSES: usize = 1;

/// Two cache lines, which is what processors fetch together, so that threads in neighbouring shards do not disturb each other.
#[repr(align(128))]
struct Shard<K, V>(RwLock<Guarded<K, V>>);

struct Guarded<K, V> {
    segment: Segment<Pair<K, V>>,
    max_bytes: usize,
    /// All but the lookups.
    stats: Stats,
}

struct Pair<K, V> {
    key: K,
    value: V,
    standing: PolicyState,
}

/// What the cache spends on an entry of these types, in bytes, beside what key and value hold on the heap: slot, index, history, and the
/// loss in the blocks of types that own some, as [`entry_overhead`](crate::entry_overhead) counts it.
#[must_use]
pub const fn sharded_entry_overhead<K, V>() -> usize {
    Segment::<Pair<K, V>>::overhead() + crate::weight::block_loss::<K>() + crate::weight::block_loss::<V>()
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

impl<K: Hash + Eq, V, S: BuildHasher> ShardedCache<K, V, S> {
    pub(crate) fn from_parts(
        max_bytes: usize,
        shards: usize,
        policy: EvictionPolicy,
        hasher: S,
        weigher: Box<dyn Weigher<K, V> + Send + Sync>,
        entry_overhead: usize,
        listener: Option<Listener<K, V>>,
    ) -> Self {
        let shard = |index| {
            let max_bytes = share(max_bytes, shards, index);
            let segment = Segment::new(policy, max_bytes, 0.0);
            Shard(RwLock::new(Guarded { segment, max_bytes, stats: Stats::default() }))
        };
        let shards = (0..shards).map(shard).collect();
        Self { shards, hasher, policy, weigher, entry_overhead, listener, lookups: PerThreadCounters::default() }
    }

    /// The value of `key`, which counts as used. Counted as a hit or a miss.
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
        let hash = self.hasher.hash_one(key);
        let shard = self.shard(hash);
        let found = match self.policy {
            EvictionPolicy::Lru => shard.write().used(hash, key).map(read),
            _ => shard.read().find(hash, key).map(|pair| {
                pair.standing.count_use();
                read(&pair.value)
            }),
        };
        self.lookups.count(if found.is_some() { HITS } else { MISSES });
        found
    }

    /// The value of `key`, its use not counted.
    pub fn peek<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        let hash = self.hasher.hash_one(key);
        self.shard(hash).read().find(hash, key).map(|pair| pair.value.clone())
    }

    /// Whether `key` is in the cache; its use is not counted.
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hasher.hash_one(key);
        self.shard(hash).read().find(hash, key).is_some()
    }

    /// Takes an entry in, evicting others of its shard until it fits. Returns the value that it replaced, if any; the entry's uses are then
    /// what they were, and it is as new as the value.
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
        let hash = self.hasher.hash_one(&key);
        let change = self.shard(hash).write().insert(hash, key, value, weight, &self.hasher);
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
        let hash = self.hasher.hash_one(key);
        let entry = self.shard(hash).write().remove(hash, key, &self.hasher)?;
        self.tell(&entry, Removal::Removed);
        Some(entry)
    }

    /// Empties the cache, shard by shard, and gives its memory back. What others insert meanwhile may stay. The listener hears of every
    /// entry ([`Removal::Cleared`]), the first to leave first.
    pub fn clear(&self) {
        for shard in &self.shards {
            // Taken out under the lock, which is quick; told and dropped outside of it.
            let mut cleared = shard.write().segment.take();
            if self.listener.is_none() {
                continue;
            }
            while let Some(entry) = pop(&mut cleared, &self.hasher) {
                self.tell(&entry, Removal::Cleared);
            }
        }
    }

    /// Changes the budget, shard by shard, and evicts what no longer fits ([`Removal::Size`]). The number of shards stays.
    pub fn resize(&self, max_bytes: usize) {
        for (index, shard) in self.shards.iter().enumerate() {
            let evicted = {
                let mut guarded = shard.write();
                guarded.max_bytes = share(max_bytes, self.shards.len(), index);
                guarded.make_room(0, &self.hasher)
            };
            for entry in evicted.iter() {
                self.tell(entry, Removal::Size);
            }
        }
    }

    /// Shows every entry to `visit`, shard by shard, those who leave first last. A shard is locked while it is shown, so changing the cache
    /// in `visit` deadlocks.
    pub fn for_each(&self, mut visit: impl FnMut(&K, &V)) {
        for shard in &self.shards {
            shard.read().segment.iter().for_each(|(_, pair)| visit(&pair.key, &pair.value));
        }
    }

    /// The number of entries, each shard's at a slightly different moment.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().segment.len()).sum()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What all entries are charged together, in bytes. Never more than [`max_bytes`](Self::max_bytes).
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().bytes()).sum()
    }

    /// The budget, in bytes: the sum of the shards', which is exactly what was asked for.
    #[must_use]
    pub fn max_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().max_bytes).sum()
    }

    /// The heaviest entry that fits whatever its key, in bytes with overhead: the smallest shard's budget, and less than 4 GiB.
    #[must_use]
    pub fn max_entry_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().max_entry_bytes()).min().unwrap_or(0)
    }

    /// The number of shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Hits, misses and the like since the cache was made.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let [hits, misses] = self.lookups.sums();
        let mut sum = Stats { hits, misses, ..Stats::default() };
        for shard in &self.shards {
            sum += shard.read().stats;
        }
        sum
    }

    fn shard(&self, hash: u64) -> &Shard<K, V> {
        &self.shards[shard_of(hash, self.shards.len())]
    }

    fn tell(&self, entry: &Entry<K, V>, why: Removal) {
        if let Some(listener) = &self.listener {
            listener(&entry.key, &entry.value, why);
        }
    }
}

/// A poisoned lock is taken as it is: a shard is whole whenever code of a user can panic.
impl<K, V> Shard<K, V> {
    fn read(&self) -> RwLockReadGuard<'_, Guarded<K, V>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Guarded<K, V>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq, V> Guarded<K, V> {
    #[inline]
    fn find<Q>(&self, hash: u64, key: &Q) -> Option<&Pair<K, V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.segment.get(hash, |pair| pair.key.borrow() == key).map(|(_, pair)| pair)
    }

    /// Finds it, and makes it the most recently used.
    fn used<Q>(&mut self, hash: u64, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let slot = self.segment.find(hash, |pair| pair.key.borrow() == key)?;
        self.segment.touch(slot);
        Some(&self.segment.entry(slot).value)
    }

    fn insert(&mut self, hash: u64, key: K, value: V, weight: usize, hasher: &impl BuildHasher) -> Change<K, V> {
        let found = self.segment.find(hash, |pair| pair.key == key);
        let before = found.map(|slot| take(&mut self.segment, slot, hasher));
        let max_bytes = self.max_entry_bytes();
        let Some(charged) = u32::try_from(weight).ok().filter(|_| weight <= max_bytes) else {
            self.stats.refusals += 1;
            let refused = TooHeavy { key, value, weight, max_bytes };
            return Change {
                replaced: before.map(|(replaced, _)| replaced),
                refused: Some(refused),
                evicted: Evicted::none(),
            };
        };
        self.stats.insertions += 1;
        let evicted = self.make_room(weight, hasher);
        let hash_of = |pair: &Pair<K, V>| hasher.hash_one(&pair.key);
        let replaced = match before {
            None => {
                let pair = Pair { key, value, standing: PolicyState::new() };
                self.segment.insert(hash, pair, charged, Lane::Main, hash_of);
                None
            }
            // The key that was there stays, as in a map.
            Some((mut replaced, standing)) => {
                let key = std::mem::replace(&mut replaced.key, key);
                self.segment.insert_again(hash, Pair { key, value, standing }, charged, hash_of);
                Some(replaced)
            }
        };
        Change { replaced, refused: None, evicted }
    }

    fn remove<Q>(&mut self, hash: u64, key: &Q, hasher: &impl BuildHasher) -> Option<Entry<K, V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let slot = self.segment.find(hash, |pair| pair.key.borrow() == key)?;
        Some(take(&mut self.segment, slot, hasher).0)
    }

    /// Evicts until `weight` more bytes fit.
    fn make_room(&mut self, weight: usize, hasher: &impl BuildHasher) -> Evicted<K, V> {
        let mut evicted = Evicted::none();
        while self.bytes().saturating_add(weight) > self.max_bytes {
            let Some(entry) = pop(&mut self.segment, hasher) else { break };
            evicted.push(entry);
        }
        self.stats.evictions += evicted.len() as u64;
        evicted
    }

    fn bytes(&self) -> usize {
        self.segment.usage(Lane::Main).bytes
    }

    fn max_entry_bytes(&self) -> usize {
        self.max_bytes.min(u32::MAX as usize)
    }
}

fn take<K: Hash + Eq, V>(
    segment: &mut Segment<Pair<K, V>>,
    slot: u32,
    hasher: &impl BuildHasher,
) -> (Entry<K, V>, PolicyState) {
    let weight = segment.weight(slot);
    let Pair { key, value, standing } = segment.remove(slot, |pair| hasher.hash_one(&pair.key), |_, _| ());
    (Entry { key, value, weight }, standing)
}

/// Takes out who should leave next.
fn pop<K: Hash + Eq, V>(segment: &mut Segment<Pair<K, V>>, hasher: &impl BuildHasher) -> Option<Entry<K, V>> {
    let slot = segment.victim(|pair| hasher.hash_one(&pair.key))?;
    Some(take(segment, slot, hasher).0)
}

impl<K, V> HasPolicyState for Pair<K, V> {
    fn policy_state(&self) -> &PolicyState {
        &self.standing
    }

    fn policy_state_mut(&mut self) -> &mut PolicyState {
        &mut self.standing
    }
}

impl<K: Hash + Eq, V, S: BuildHasher> fmt::Debug for ShardedCache<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardedCache")
            .field("shards", &self.shards())
            .field("len", &self.len())
            .field("bytes", &self.bytes())
            .field("max_bytes", &self.max_bytes())
            .finish_non_exhaustive()
    }
}
