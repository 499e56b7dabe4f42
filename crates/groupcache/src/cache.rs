//! The entries of a group, main and hot, under one budget and in one index.

pub(crate) mod budget;
pub(crate) mod discarded;
pub(crate) mod entry;
pub(crate) mod expiry;
pub(crate) mod expiry_queue;
pub(crate) mod request_rate;
pub(crate) mod shard;
pub(crate) mod stored;

use peercache_lru::{
    EvictionPolicy,
    segment::Lane,
    sharding::{PerThreadCounters, shard_of},
};

use crate::{
    cache::budget::Budget,
    cache::discarded::Discarded,
    cache::entry::{Entry, Found, Freshness, Requester, expiry_bytes},
    cache::expiry::Expiry,
    cache::expiry_queue::EXPIRY_BYTES,
    cache::shard::{EntryRef, KeyHasher, Lookup, Shard},
    stats::CacheStats,
    sync::Ordering::{Acquire, Release},
    sync::{AtomicU64, RwLock, read, write},
    value::Value,
};

/// The cache of a group: main, the entries that this node owns, and hot, copies of those that it
/// does not.
///
/// All shards share one budget, so that a value may be as large as all of it. A shard makes room
/// for a new entry by evicting its own, as the policy says, and then those of its neighbours. A hit
/// shares its shard's lock with other hits, unless the policy is exact LRU, and is counted in its
/// thread's own counters.
pub(crate) struct Cache<V> {
    /// A power of two of them.
    shards: Box<[Padded<V>]>,
    hasher: KeyHasher,
    policy: EvictionPolicy,
    budget: Budget,
    /// No entry expires before.
    next_expiry_ms: AtomicU64,
    lookups: PerThreadCounters<3>,
}

/// The settings of a cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheConfig {
    pub(crate) max_bytes: usize,
    /// Their number, which is rounded up to a power of two.
    pub(crate) shards: usize,
    pub(crate) policy: EvictionPolicy,
    /// The share of all bytes, from 0 to 1, that hot may have before it is evicted first.
    pub(crate) hot_share: f64,
}

/// The counters of lookups.
const MAIN_HITS: usize = 0;
const HOT_HITS: usize = 1;
const MISSES: usize = 2;

/// A shard on two cache lines of its own, since processors fetch them in pairs.
#[repr(align(128))]
struct Padded<V>(RwLock<Shard<V>>);

impl<V: Value> Cache<V> {
    pub(crate) fn new(config: CacheConfig) -> Self {
        Cache::with_hasher(config, KeyHasher::random())
    }

    pub(crate) fn with_hasher(config: CacheConfig, hasher: KeyHasher) -> Self {
        let CacheConfig { max_bytes, shards, policy, hot_share } = config;
        let shards = shards.next_power_of_two();
        let shard = || Padded(RwLock::new(Shard::new(policy, max_bytes / shards, hot_share, hasher.clone())));
        Cache {
            shards: std::iter::repeat_with(shard).take(shards).collect(),
            hasher,
            policy,
            budget: Budget::new(max_bytes),
            next_expiry_ms: AtomicU64::new(u64::MAX),
            lookups: PerThreadCounters::default(),
        }
    }

    /// Looks up a key for a get: the lookup is counted, and a hit as a use of the entry. `read`
    /// runs under the shard's lock. An expired entry is removed.
    #[inline]
    pub(crate) fn get<R>(
        &self,
        key: &[u8],
        requester: Requester,
        freshness: Freshness,
        now_ms: u64,
        read: impl FnOnce(EntryRef<'_, V>) -> R,
    ) -> Option<R> {
        let (hash, shard) = self.hashed(key);
        let lookup = crate::sync::read(shard).get(hash, key, requester, freshness, now_ms, read);
        match lookup {
            Lookup::Hit(lane, read) => {
                self.lookups.count(if lane == Lane::Main { MAIN_HITS } else { HOT_HITS });
                if self.policy == EvictionPolicy::Lru {
                    self.touch(hash, key);
                }
                Some(read)
            }
            Lookup::Miss => {
                self.lookups.count(MISSES);
                None
            }
            Lookup::Expired => {
                self.lookups.count(MISSES);
                self.remove_expired(hash, key, now_ms);
                None
            }
        }
    }

    #[inline(never)]
    fn touch(&self, hash: u64, key: &[u8]) {
        write(self.shard(hash)).touch(hash, key);
    }

    #[cold]
    #[inline(never)]
    fn remove_expired(&self, hash: u64, key: &[u8], now_ms: u64) {
        let mut discarded = Discarded::default();
        write(self.shard(hash)).remove_expired(hash, key, now_ms, &self.budget, &mut discarded);
        drop(discarded);
    }

    /// Looks up a key without counting a lookup or a use.
    pub(crate) fn peek(&self, key: &[u8], requester: Requester, freshness: Freshness, now_ms: u64) -> Option<Found<V>> {
        let (hash, shard) = self.hashed(key);
        read(shard).peek(hash, key, requester, freshness, now_ms)
    }

    /// The value, however stale, for a requester who cannot have a new one.
    pub(crate) fn stale_fallback(&self, key: &[u8], requester: Requester, now_ms: u64) -> Option<Found<V>> {
        let (hash, shard) = self.hashed(key);
        read(shard).stale_fallback(hash, key, requester, now_ms)
    }

    /// Whether there is an entry for this key, usable or not.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        let (hash, shard) = self.hashed(key);
        read(shard).contains(hash, key)
    }

    /// Whether the key was set less than `age_ms` ago.
    pub(crate) fn was_set_within(&self, key: &[u8], age_ms: u64, now_ms: u64) -> bool {
        let (hash, shard) = self.hashed(key);
        read(shard).was_set_within(hash, key, age_ms, now_ms)
    }

    /// Inserts an entry, in the lane and with the expiry that `place` gives under the lock; `None`
    /// inserts nothing.
    ///
    /// An entry heavier than the budget is not inserted and evicts nothing. Either way, the entry
    /// that was there for its key is gone.
    #[must_use = "the discarded entries are to be dropped outside the locks"]
    pub(crate) fn insert(
        &self,
        weight: usize,
        entry: Entry<V>,
        place: impl FnOnce() -> Option<(Lane, Expiry)>,
    ) -> Discarded<V> {
        let key = entry.stored.key();
        let hash = self.hasher.hash(key);
        let home = shard_of(hash, self.shards.len());
        let mut discarded = Discarded::default();
        {
            let mut shard = write(&self.shards[home].0);
            let inherited = shard.replace(hash, key, &self.budget, &mut discarded);
            let charged = place().and_then(|(lane, expiry)| {
                let weight = self.charge(weight.saturating_add(expiry_bytes(expiry)))?;
                Some((weight, lane, expiry))
            });
            let Some((weight, lane, expiry)) = charged else {
                discarded.push(entry.stored);
                return discarded;
            };
            if let Some(expires_ms) = expiry.expires_ms() {
                self.next_expiry_ms.fetch_min(expires_ms, Release);
            }
            let entry = Entry { expiry, ..entry };
            shard.insert(hash, weight, entry, (lane, inherited), &self.budget, &mut discarded);
        }
        self.make_room_elsewhere(home, &mut discarded);
        discarded
    }

    #[must_use = "the discarded entries are to be dropped outside the locks"]
    pub(crate) fn remove(&self, key: &[u8]) -> Discarded<V> {
        let (hash, shard) = self.hashed(key);
        let mut discarded = Discarded::default();
        write(shard).remove(hash, key, &self.budget, &mut discarded);
        discarded
    }

    /// Removes all entries, shard by shard.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let cleared = write(&shard.0).clear(&self.budget);
            drop(cleared);
        }
    }

    /// Removes all entries but those that were set less than `age_ms` ago, shard by shard.
    pub(crate) fn clear_late(&self, age_ms: u64, now_ms: u64) {
        for shard in &self.shards {
            let mut discarded = Discarded::default();
            write(&shard.0).clear_late(age_ms, now_ms, &self.budget, &mut discarded);
            drop(discarded);
        }
    }

    /// The time before which no entry expires.
    pub(crate) fn next_expiry_ms(&self) -> u64 {
        self.next_expiry_ms.load(Acquire)
    }

    /// Removes expired entries in batches, and runs `between` after each. Costs a look at a number
    /// while nothing has expired.
    pub(crate) fn sweep(&self, now_ms: u64, between: impl Fn()) {
        if now_ms < self.next_expiry_ms.load(Acquire) {
            return;
        }
        // First reset and then found again: an insert in the meantime lowers it itself.
        self.next_expiry_ms.store(u64::MAX, Release);
        for shard in &self.shards {
            loop {
                let mut discarded = Discarded::default();
                let next = write(&shard.0).sweep(now_ms, &self.budget, &mut discarded);
                drop(discarded);
                between();
                match next {
                    Some(expires_ms) if expires_ms <= now_ms => continue,
                    Some(expires_ms) => drop(self.next_expiry_ms.fetch_min(expires_ms, Release)),
                    None => {}
                }
                break;
            }
        }
    }

    /// Moves the entries of main that this node does not own to hot, with the expiry that
    /// `shortened` gives them; removes those that get none.
    ///
    /// It goes shard by shard, so that gets go on meanwhile. Nothing moves from hot to main: what
    /// was fetched must not be shown to peers, and expires soon.
    pub(crate) fn reassign(&self, owns: impl Fn(&[u8]) -> bool, shortened: impl Fn(Expiry) -> Option<Expiry>) {
        let shortened = |expiry| {
            let expiry: Expiry = shortened(expiry)?;
            self.next_expiry_ms.fetch_min(expiry.expires_ms().unwrap_or(u64::MAX), Release);
            Some(expiry)
        };
        for shard in &self.shards {
            let mut discarded = Discarded::default();
            write(&shard.0).reassign(&owns, &shortened, &self.budget, &mut discarded);
            drop(discarded);
        }
    }

    /// Whether an entry of this weight is worth the space that it would take.
    ///
    /// An entry of more than half the budget, and much heavier than others, would evict most of
    /// them. That is worth it only if somebody asks for it to be cached. For exact LRU, all that
    /// fits is equal.
    pub(crate) fn admits(&self, weight: usize) -> bool {
        let is_large = weight > self.budget.max_bytes() / 2 && self.budget.excess(weight) > 0;
        self.charge(weight).is_some()
            && (self.policy == EvictionPolicy::Lru || !is_large || weight as u64 / 2 <= self.mean_weight())
    }

    fn mean_weight(&self) -> u64 {
        let (main, hot) = self.stats();
        (main.bytes + hot.bytes) / (main.items + hot.items).max(1)
    }

    /// Whether an entry of this weight can be cached with an expiry.
    pub(crate) fn fits_with_expiry(&self, weight: usize) -> bool {
        self.charge(weight.saturating_add(EXPIRY_BYTES)).is_some()
    }

    /// The bytes that an entry of this weight is charged; `None` if it is too heavy for the budget,
    /// or has 4 GiB or more.
    fn charge(&self, weight: usize) -> Option<u32> {
        u32::try_from(weight).ok().filter(|_| weight <= self.budget.max_bytes())
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Counts and sizes of main and hot.
    pub(crate) fn stats(&self) -> (CacheStats, CacheStats) {
        let lookups = self.lookups.sums();
        let (main_hits, hot_hits, misses) = (lookups[MAIN_HITS], lookups[HOT_HITS], lookups[MISSES]);
        // Hot is looked up where main has nothing.
        let mut main = CacheStats { gets: main_hits + hot_hits + misses, hits: main_hits, ..CacheStats::default() };
        let mut hot = CacheStats { gets: hot_hits + misses, hits: hot_hits, ..CacheStats::default() };
        for shard in &self.shards {
            let [of_main, of_hot] = read(&shard.0).stats();
            main.add(of_main);
            hot.add(of_hot);
        }
        (main, hot)
    }

    /// Visits all entries, under the lock of their shard.
    pub(crate) fn for_each(&self, now_ms: u64, mut visit: impl FnMut(&[u8], Found<V>)) {
        for shard in &self.shards {
            read(&shard.0).for_each(now_ms, &mut visit);
        }
    }

    /// Evicts from the other shards, one lock at a time: the home shard has nothing left but the
    /// new entry, and the budget is still exceeded.
    fn make_room_elsewhere(&self, home: usize, discarded: &mut Discarded<V>) {
        let others = (1..self.shards.len()).map(|step| (home + step) % self.shards.len());
        for shard in others {
            if self.budget.excess(0) == 0 {
                return;
            }
            write(&self.shards[shard].0).make_room(0, &self.budget, discarded);
        }
    }

    #[inline]
    fn hashed(&self, key: &[u8]) -> (u64, &RwLock<Shard<V>>) {
        let hash = self.hasher.hash(key);
        (hash, self.shard(hash))
    }

    #[inline]
    fn shard(&self, hash: u64) -> &RwLock<Shard<V>> {
        &self.shards[shard_of(hash, self.shards.len())].0
    }
}

#[cfg(all(test, not(peercache_loom)))]
mod tests;
