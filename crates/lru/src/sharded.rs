//! The cache for many threads: one [`Segment`] for each shard, behind a lock of its own.

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
    segment::Segment,
    segment::order::EvictionPolicy,
    segment::policy_state::{HasPolicyState, Lane, PolicyState},
    sharding::per_thread_counters::PerThreadCounters,
    sharding::{shard_of, share},
    stats::Stats,
    store::{Change, Evicted},
    weight::{ByHeapBytes, HeapBytes, Weigher, block_loss},
};

/// A cache of at most `max_bytes` for many threads, which keeps entries that are used again: see
/// [`EvictionPolicy`].
///
/// Keys are spread over shards. Each has a lock, an order of use and an equal part of the budget,
/// so **an entry must fit its shard**: [`max_entry_bytes`](Self::max_entry_bytes). The number of
/// shards follows from the budget by [`shard_count`](crate::sharding::shard_count), unless the
/// builder says another. Below 8 MiB there is one. Readers share a shard's lock. They wait for
/// threads that insert or remove in it, and under [`EvictionPolicy::Lru`] for each other.
///
/// Values are cloned out, so make that cheap: `Arc<T>`, `Bytes`. They lie in slots, of which 64 are
/// allocated at a time: box a value whose `size_of` is more than a few hundred bytes.
///
/// Weigher and listener are called outside of the locks and may use the cache. The listener may
/// hear of concurrent operations in another order than they happened. A panic of either reaches the
/// caller, and the cache stays whole, as with [`Cache`](crate::Cache).
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
    /// Their number is a power of two.
    shards: Box<[Shard<K, V>]>,
    /// One hash chooses the shard and finds the entry in it: see [`shard_of`].
    hasher: S,
    policy: EvictionPolicy,
    weigher: Box<dyn Weigher<K, V> + Send + Sync>,
    /// The bytes that are added to what the weigher says.
    entry_overhead: usize,
    listener: Option<Listener<K, V>>,
    lookups: PerThreadCounters<2>,
}

const HITS: usize = 0;
const MISSES: usize = 1;

/// A shard on two cache lines of its own, which processors fetch together, so that threads in
/// neighbouring shards do not disturb each other.
#[repr(align(128))]
struct Shard<K, V>(RwLock<Guarded<K, V>>);

struct Guarded<K, V> {
    segment: Segment<Pair<K, V>>,
    max_bytes: usize,
    /// All counters but those of lookups.
    stats: Stats,
}

struct Pair<K, V> {
    key: K,
    value: V,
    policy_state: PolicyState,
}

/// The overhead of an entry of a [`ShardedCache`] in bytes, beside the heap bytes of key and value.
///
/// It is the slot, the index, the history of the policy, and the loss in the heap blocks of types
/// that own some, as [`entry_overhead`](crate::entry_overhead) counts it.
#[must_use]
pub const fn sharded_entry_overhead<K, V>() -> usize {
    Segment::<Pair<K, V>>::overhead() + block_loss::<K>() + block_loss::<V>()
}

impl<K: Hash + Eq, V> ShardedCache<K, V> {
    /// Makes a cache of at most `max_bytes`, with the defaults of [`builder`](Self::builder).
    ///
    /// It asks keys and values for their weight, has no listener, and hashes as
    /// [`HashMap`](std::collections::HashMap) does.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self
    where
        K: HeapBytes,
        V: HeapBytes,
    {
        Self::builder(max_bytes).build_sharded()
    }

    /// Starts a cache of at most `max_bytes`: keys, values and overhead. End with
    /// [`build_sharded`](Builder::build_sharded).
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

    /// The value of `key`. Its use is counted, and so is the hit or miss.
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        self.get_with(key, V::clone)
    }

    /// Calls `read` with the value of `key` and returns its result: a [`get`](Self::get) without a
    /// clone.
    ///
    /// It runs under the shard's lock, so keep it short. To use the cache in it deadlocks.
    pub fn get_with<Q, R>(&self, key: &Q, read: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hasher.hash_one(key);
        let shard = self.shard(hash);
        let found = match self.policy {
            EvictionPolicy::Lru => shard.write().find_and_touch(hash, key).map(read),
            _ => shard.read().find(hash, key).map(|pair| {
                pair.policy_state.count_use();
                read(&pair.value)
            }),
        };
        self.lookups.count(if found.is_some() { HITS } else { MISSES });
        found
    }

    /// The value of `key`, without counting the use.
    pub fn peek<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        let hash = self.hasher.hash_one(key);
        self.shard(hash).read().find(hash, key).map(|pair| pair.value.clone())
    }

    /// Whether `key` is in the cache. No use is counted.
    #[doc(alias = "contains_key")]
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hasher.hash_one(key);
        self.shard(hash).read().find(hash, key).is_some()
    }

    /// Inserts an entry, and evicts others of its shard until it fits.
    ///
    /// Returns the value that it replaced, if any. The entry then keeps its count of uses, and is
    /// as new as its value.
    ///
    /// # Errors
    /// [`TooHeavy`], with key and value handed back, if the entry alone exceeds the shard's budget.
    /// Nothing is evicted for it. An older value of its key is removed all the same
    /// ([`Removal::Replaced`]), since it is stale from now on.
    #[doc(alias = "put")]
    pub fn insert(&self, key: K, value: V) -> Result<Option<V>, TooHeavy<K, V>> {
        let weight = self.weight_of(&key, &value);
        self.insert_weighed(key, value, weight)
    }

    /// Inserts an entry that is charged `weight` bytes, overhead included. The weigher is not
    /// asked.
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

    /// The charge of an entry in bytes: its weight by the weigher, and the overhead.
    pub fn weight_of(&self, key: &K, value: &V) -> usize {
        self.weigher.weigh(key, value).saturating_add(self.entry_overhead)
    }

    /// Removes the entry of `key` and returns its value ([`Removal::Removed`]).
    #[doc(alias = "invalidate")]
    pub fn remove<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.remove_entry(key).map(|entry| entry.value)
    }

    /// Removes the entry of `key` and returns it with the cache's own key and its charge
    /// ([`Removal::Removed`]).
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

    /// Removes all entries, shard by shard, and gives their memory back.
    ///
    /// Entries that are inserted meanwhile may stay. The listener hears of every entry, in the
    /// order of eviction ([`Removal::Cleared`]).
    #[doc(alias = "invalidate_all")]
    pub fn clear(&self) {
        for shard in &self.shards {
            // The entries are taken out under the lock, which is quick, and dropped outside of it.
            let mut cleared = shard.write().segment.take();
            if self.listener.is_none() {
                continue;
            }
            while let Some(entry) = pop(&mut cleared, &self.hasher) {
                self.tell(&entry, Removal::Cleared);
            }
        }
    }

    /// Changes the budget, shard by shard, and evicts entries until the rest fits
    /// ([`Removal::Size`]). The number of shards stays.
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

    /// Calls `visit` with every entry, shard by shard, roughly in the reverse order of eviction.
    ///
    /// A shard is locked meanwhile, so that to change the cache in `visit` deadlocks.
    pub fn for_each(&self, mut visit: impl FnMut(&K, &V)) {
        for shard in &self.shards {
            shard.read().segment.iter().for_each(|(_, pair)| visit(&pair.key, &pair.value));
        }
    }

    /// The number of entries, each shard's at a slightly different moment.
    #[doc(alias = "entry_count")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().segment.len()).sum()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sum of all charges, in bytes. Never more than [`max_bytes`](Self::max_bytes).
    #[doc(alias = "weighted_size")]
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().bytes()).sum()
    }

    /// The budget, in bytes: the sum of the shards' budgets, which is exactly the one given.
    #[must_use]
    pub fn max_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().max_bytes).sum()
    }

    /// The heaviest entry that fits every shard, in bytes with overhead: less than 4 GiB.
    #[must_use]
    pub fn max_entry_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().max_entry_bytes()).min().unwrap_or(0)
    }

    /// The number of shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Counters of hits, misses, evictions and more since the cache was made.
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

/// Poison is ignored: a shard is whole whenever a user's code can panic.
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

    /// Finds a value, and makes its entry the most recently used.
    fn find_and_touch<Q>(&mut self, hash: u64, key: &Q) -> Option<&V>
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
                evicted: Evicted::new(),
            };
        };
        self.stats.insertions += 1;
        let evicted = self.make_room(weight, hasher);
        let hash_of = |pair: &Pair<K, V>| hasher.hash_one(&pair.key);
        let replaced = match before {
            None => {
                let pair = Pair { key, value, policy_state: PolicyState::new() };
                self.segment.insert(hash, pair, charged, Lane::Main, hash_of);
                None
            }
            // The key that was there stays, as in a map.
            Some((mut replaced, policy_state)) => {
                let key = std::mem::replace(&mut replaced.key, key);
                self.segment.insert_again(hash, Pair { key, value, policy_state }, charged, hash_of);
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
        let mut evicted = Evicted::new();
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

/// Removes the entry in a slot, and returns it with its policy state.
fn take<K: Hash + Eq, V>(
    segment: &mut Segment<Pair<K, V>>,
    slot: u32,
    hasher: &impl BuildHasher,
) -> (Entry<K, V>, PolicyState) {
    let weight = segment.weight(slot);
    let Pair { key, value, policy_state } = segment.remove(slot, |pair| hasher.hash_one(&pair.key), |_, _| ());
    (Entry { key, value, weight }, policy_state)
}

/// Removes the entry that should leave next.
fn pop<K: Hash + Eq, V>(segment: &mut Segment<Pair<K, V>>, hasher: &impl BuildHasher) -> Option<Entry<K, V>> {
    let slot = segment.victim(|pair| hasher.hash_one(&pair.key))?;
    Some(take(segment, slot, hasher).0)
}

impl<K, V> HasPolicyState for Pair<K, V> {
    fn policy_state(&self) -> &PolicyState {
        &self.policy_state
    }

    fn policy_state_mut(&mut self) -> &mut PolicyState {
        &mut self.policy_state
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
