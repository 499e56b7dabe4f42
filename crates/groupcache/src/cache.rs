pub(crate) mod discarded;
pub(crate) mod entry;
pub(crate) mod expiry;
pub(crate) mod expiry_queue;
pub(crate) mod request_rate;
pub(crate) mod shard;
pub(crate) mod stored;

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::SeedableRandomState as RandomState;
use peercache_lru::{
    EvictionPolicy,
    sharding::{PerThreadCounters, shard_of},
};

use crate::{
    cache::expiry::Expiry,
    stats::CacheStats,
    sync::Ordering::{Acquire, Relaxed, Release},
    sync::{self, AtomicU64, AtomicUsize, RwLock, read, write},
    value::Value,
};

use crate::cache::discarded::Discarded;
use crate::cache::entry::{Entry, Found, Freshness, Place, Requester};
use crate::cache::shard::Seen;
use crate::cache::stored::Stored;
use shard::{Looked, Shard};

/// What a group holds: main, the entries that this node owns, and hot, copies of those that it does not, under one budget and in one index.
///
/// The budget is one for all shards, so that a value may be as large as all of it. A shard makes room for what it takes in from its own
/// entries, as its policy says, and from its neighbours' when it has none left. A hit shares its shard's lock with other hits, unless the
/// policy is exact LRU, and counts in its thread's own counters.
pub(crate) struct Cache<V> {
    /// A power of two of them.
    shards: Box<[Padded<V>]>,
    /// One for the choice of the shard and for the index in it. Never one that anybody outside knows: a ring's hashes are public.
    hasher: RandomState,
    policy: EvictionPolicy,
    budget: Budget,
    /// No entry ends before.
    next_end_ms: AtomicU64,
    lookups: PerThreadCounters<3>,
}

/// What look-ups are counted as.
const MAIN_HITS: usize = 0;
const HOT_HITS: usize = 1;
const MISSES: usize = 2;

/// How a cache is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) max_bytes: usize,
    /// Rounded up to a power of two.
    pub(crate) shards: usize,
    pub(crate) policy: EvictionPolicy,
    /// The share of what is held that hot may have, from 0 to 1, before it gives way.
    pub(crate) hot_share: f64,
}

/// The hash of a key. Without the length that hashing a slice would add: there is nothing else to tell the key from.
#[inline]
fn hash_of(hasher: &RandomState, key: &[u8]) -> u64 {
    let mut hashing = hasher.build_hasher();
    hashing.write(key);
    hashing.finish()
}

/// The bytes that all shards hold together. Each shard counts under its own lock, so while several take entries in at
/// once the sum may be over by those few entries; it is never over when they are done.
pub(crate) struct Budget {
    max_bytes: usize,
    bytes: AtomicUsize,
}

/// Two cache lines, since processors fetch them in pairs.
#[repr(align(128))]
struct Padded<V>(RwLock<Shard<V>>);

impl<V: Value> Cache<V> {
    pub(crate) fn new(shape: Shape) -> Self {
        Cache::with_hasher(shape, RandomState::random())
    }

    /// With a hasher that need not differ from run to run.
    pub(crate) fn with_hasher(shape: Shape, hasher: RandomState) -> Self {
        let Shape { max_bytes, shards, policy, .. } = shape;
        let shard = |_| Padded(RwLock::new(Shard::new(shape, hasher.clone())));
        Cache {
            shards: (0..shards.next_power_of_two()).map(shard).collect(),
            hasher,
            policy,
            budget: Budget { max_bytes, bytes: AtomicUsize::new(0) },
            next_end_ms: AtomicU64::new(u64::MAX),
            lookups: PerThreadCounters::default(),
        }
    }

    /// Looks as a get does: counted, and the entry's use with it. What `read` makes of it is made under the shard's lock. One that has ended
    /// leaves.
    #[inline]
    pub(crate) fn get<R>(
        &self,
        key: &[u8],
        requester: Requester,
        freshness: Freshness,
        now_ms: u64,
        read: impl FnOnce(Seen<'_, V>) -> R,
    ) -> Option<R> {
        let (hash, shard) = self.hashed(key);
        let looked = sync::read(shard).get(hash, key, requester, freshness, now_ms, read);
        match looked {
            Looked::Hit(place, seen) => {
                self.lookups.count(if place == Place::Main { MAIN_HITS } else { HOT_HITS });
                if self.policy == EvictionPolicy::Lru {
                    self.touch(hash, key);
                }
                Some(seen)
            }
            Looked::Nothing => {
                self.lookups.count(MISSES);
                None
            }
            Looked::Ended => {
                self.lookups.count(MISSES);
                self.remove_ended(hash, key, now_ms);
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
    fn remove_ended(&self, hash: u64, key: &[u8], now_ms: u64) {
        let mut out = Discarded::default();
        write(self.shard(hash)).remove_ended(hash, key, now_ms, &self.budget, &mut out);
        drop(out);
    }

    /// Looks once more, as the leader of a flight does: not counted, nothing moves.
    pub(crate) fn peek(&self, key: &[u8], requester: Requester, freshness: Freshness, now_ms: u64) -> Option<Found<V>> {
        let (hash, shard) = self.hashed(key);
        read(shard).peek(hash, key, requester, freshness, now_ms)
    }

    /// What is left for a caller who cannot have a new value, however stale.
    pub(crate) fn spare(&self, key: &[u8], requester: Requester, now_ms: u64) -> Option<Found<V>> {
        let (hash, shard) = self.hashed(key);
        read(shard).spare(hash, key, requester, now_ms)
    }

    /// Whether anything is under this key, of use or not.
    pub(crate) fn holds(&self, key: &[u8]) -> bool {
        let (hash, shard) = self.hashed(key);
        read(shard).holds(hash, key)
    }

    /// Takes an entry in, where and with what life `place` says under the lock, or not at all. An entry heavier than the
    /// budget is not taken in and evicts nothing. Either way, what was under its key is gone.
    #[must_use = "what left is to be dropped outside the locks"]
    pub(crate) fn insert(
        &self,
        weight: usize,
        entry: Entry<V>,
        place: impl FnOnce() -> Option<(Place, Expiry)>,
    ) -> Discarded<V> {
        let key = entry.stored.key();
        let hash = hash_of(&self.hasher, key);
        let home = shard_of(hash, self.shards.len());
        let mut out = Discarded::default();
        {
            let mut shard = write(&self.shards[home].0);
            let before = shard.replace(hash, key, &self.budget, &mut out);
            let Some((place, expiry)) = place() else { return out };
            let entry = Entry { expiry, ..entry };
            let Some(weight) = self.charge(weight.saturating_add(entry.end_bytes())) else { return out };
            if let Some(ends_ms) = expiry.ends_ms() {
                self.next_end_ms.fetch_min(ends_ms, Release);
            }
            shard.insert(hash, weight, entry, (place, before), &self.budget, &mut out);
        }
        self.make_room_elsewhere(home, &mut out);
        out
    }

    #[must_use = "what left is to be dropped outside the locks"]
    pub(crate) fn remove(&self, key: &[u8]) -> Discarded<V> {
        let (hash, shard) = self.hashed(key);
        let mut out = Discarded::default();
        write(shard).remove(hash, key, &self.budget, &mut out);
        out
    }

    /// Whether what is under the key was set after a moment that is so long ago.
    pub(crate) fn was_set_within(&self, key: &[u8], age_ms: u64, now_ms: u64) -> bool {
        let (hash, shard) = self.hashed(key);
        read(shard).was_set_within(hash, key, age_ms, now_ms)
    }

    /// Removes all but what was set since a moment that is so long ago, shard by shard.
    pub(crate) fn clear_but(&self, age_ms: u64, now_ms: u64) {
        for shard in &self.shards {
            let mut out = Discarded::default();
            write(&shard.0).clear_but(age_ms, now_ms, &self.budget, &mut out);
            drop(out);
        }
    }

    /// Removes everything, shard by shard.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let cleared = write(&shard.0).clear(&self.budget);
            drop(cleared);
        }
    }

    /// Takes out what has ended, some at a time and something else `between`. Costs a look at a number while nothing has.
    pub(crate) fn sweep(&self, now_ms: u64, between: impl Fn()) {
        if now_ms < self.next_end_ms.load(Acquire) {
            return;
        }
        // First forgotten and then found anew: what comes in meanwhile says so itself.
        self.next_end_ms.store(u64::MAX, Release);
        for shard in &self.shards {
            loop {
                let mut out = Discarded::default();
                let next = write(&shard.0).sweep(now_ms, &self.budget, &mut out);
                drop(out);
                between();
                match next {
                    Some(ends_ms) if ends_ms <= now_ms => continue,
                    Some(ends_ms) => drop(self.next_end_ms.fetch_min(ends_ms, Release)),
                    None => {}
                }
                break;
            }
        }
    }

    /// Moves the entries of main that `owns` denies to hot with the life that `copied` gives them, or out.
    /// Shard by shard, so that gets go on meanwhile. What was fetched is never moved to main: it is not ours to vouch for,
    /// and ends soon.
    pub(crate) fn reassign(&self, owns: impl Fn(&[u8]) -> bool, copied: impl Fn(Expiry) -> Option<Expiry>) {
        let copied = |expiry| {
            let expiry: Expiry = copied(expiry)?;
            self.next_end_ms.fetch_min(expiry.ends_ms().unwrap_or(u64::MAX), Release);
            Some(expiry)
        };
        for shard in &self.shards {
            let mut out = Discarded::default();
            write(&shard.0).reassign(&owns, &copied, &self.budget, &mut out);
            drop(out);
        }
    }

    /// Whether an entry of so many bytes is taken in of its own accord. One that takes more than half the budget, and much more than others do, would
    /// have most of them leave for it, which is worth it only if somebody wants it held; to exact LRU all that fits is equal.
    pub(crate) fn admits(&self, weight: usize) -> bool {
        let is_large = weight > self.budget.max_bytes / 2 && self.budget.excess(weight) > 0;
        self.fits(weight)
            && (self.policy == EvictionPolicy::Lru || !is_large || weight as u64 / 2 <= self.mean_weight())
    }

    fn mean_weight(&self) -> u64 {
        let (main, hot) = self.stats();
        (main.bytes + hot.bytes) / (main.items + hot.items).max(1)
    }

    /// Whether an entry of so many bytes can be held at all.
    pub(crate) fn fits(&self, weight: usize) -> bool {
        self.charge(weight).is_some()
    }

    /// The same for an entry that may have an end.
    pub(crate) fn fits_with_end(&self, weight: usize) -> bool {
        self.fits(weight.saturating_add(expiry_queue::END_BYTES))
    }

    /// What is charged for an entry of so many bytes, if it can be held: one of 4 GiB cannot.
    fn charge(&self, weight: usize) -> Option<u32> {
        u32::try_from(weight).ok().filter(|_| weight <= self.budget.max_bytes)
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What main and hot have counted and hold.
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

    /// Has every entry looked at, under its shard's lock.
    pub(crate) fn for_each(&self, now_ms: u64, mut freshness: impl FnMut(Place, &[u8], Found<V>)) {
        for shard in &self.shards {
            read(&shard.0).for_each(now_ms, &mut freshness);
        }
    }

    /// The home shard has only the new entry left and it is still too much: the others give way, one after another, with
    /// one lock held at a time.
    fn make_room_elsewhere(&self, home: usize, out: &mut Discarded<V>) {
        let others = (1..self.shards.len()).map(|step| (home + step) % self.shards.len());
        for shard in others {
            if self.budget.excess(0) == 0 {
                return;
            }
            write(&self.shards[shard].0).make_room(0, &self.budget, out);
        }
    }

    #[inline]
    fn hashed(&self, key: &[u8]) -> (u64, &RwLock<Shard<V>>) {
        let hash = hash_of(&self.hasher, key);
        (hash, self.shard(hash))
    }

    #[inline]
    fn shard(&self, hash: u64) -> &RwLock<Shard<V>> {
        &self.shards[shard_of(hash, self.shards.len())].0
    }
}

impl Budget {
    pub(crate) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    pub(crate) fn add(&self, weight: usize) {
        self.bytes.fetch_add(weight, Relaxed);
    }

    pub(crate) fn subtract(&self, weight: usize) {
        self.bytes.fetch_sub(weight, Relaxed);
    }

    /// By how much an entry of `weight` more bytes would be too much.
    fn excess(&self, weight: usize) -> usize {
        self.bytes.load(Relaxed).saturating_add(weight).saturating_sub(self.max_bytes)
    }
}

#[cfg(all(test, not(peercache_loom)))]
mod tests;
