use ahash::RandomState;
use peercache_lru as lru;

use crate::{
    CacheStats, Key, Value,
    life::Life,
    sync::{
        AtomicU64, AtomicUsize, Mutex,
        Ordering::{Acquire, Relaxed, Release},
        lock,
    },
};

mod entry;
mod shard;

pub(crate) use entry::{Entry, Found, Hit, Look, Origin, Place, Reader};
use shard::{Shard, end_bytes};

/// What a group holds: main, the entries that this node owns, and hot, copies of those that it does not; both exact
/// LRU, under one budget. Every entry is in one of them.
///
/// The budget is one for all shards, so that a value may be as large as all of it. A shard makes room for what it takes in
/// from its own entries, and from its neighbours' when it has none left. Room is made as golang/groupcache makes it: hot
/// gives way while it holds more than an eighth of what main holds, else main does.
pub(crate) struct Cache<V> {
    shards: Box<[Padded<V>]>,
    /// Picks the shard. Another seed than the maps', whose buckets would else be filled unevenly.
    picker: RandomState,
    budget: Budget,
    /// No entry ends before.
    next_end_ms: AtomicU64,
}

/// The bytes that all shards hold together. Each shard counts under its own lock, so while several take entries in at
/// once the sum may be over by those few entries; it is never over when they are done.
pub(crate) struct Budget {
    max_bytes: usize,
    bytes: AtomicUsize,
}

/// Two cache lines, since processors fetch them in pairs.
#[repr(align(128))]
struct Padded<V>(Mutex<Shard<V>>);

/// What left the cache; to be dropped when no lock is held, for a value's drop may take its time.
pub(crate) type Evicted<V> = Vec<lru::Entry<Key, Entry<V>>>;

impl<V: Value> Cache<V> {
    pub(crate) fn new(max_bytes: usize, shards: usize) -> Self {
        Cache::with_hasher(max_bytes, shards, RandomState::new)
    }

    /// With hashers that need not differ from run to run.
    pub(crate) fn with_hasher(max_bytes: usize, shards: usize, hasher: impl Fn() -> RandomState) -> Self {
        Cache {
            shards: (0..shards).map(|_| Padded(Mutex::new(Shard::new(hasher())))).collect(),
            picker: hasher(),
            budget: Budget { max_bytes, bytes: AtomicUsize::new(0) },
            next_end_ms: AtomicU64::new(u64::MAX),
        }
    }

    /// Looks as a get does: counted, and the entry becomes the most recent. One that has ended leaves.
    pub(crate) fn get(&self, key: &[u8], reader: Reader, look: Look, now_ms: u64) -> Option<Hit<V>> {
        let mut out = Evicted::new();
        let hit = lock(self.shard_of(key)).get(key, reader, look, now_ms, &self.budget, &mut out);
        drop(out);
        hit
    }

    /// Looks once more, as the leader of a flight does: not counted, nothing moves.
    pub(crate) fn peek(&self, key: &[u8], reader: Reader, look: Look, now_ms: u64) -> Option<Hit<V>> {
        lock(self.shard_of(key)).peek(key, reader, look, now_ms)
    }

    /// What is left for a caller who cannot have a new value, however stale.
    pub(crate) fn spare(&self, key: &[u8], reader: Reader, now_ms: u64) -> Option<Hit<V>> {
        lock(self.shard_of(key)).spare(key, reader, now_ms)
    }

    /// Whether anything is under this key, of use or not.
    pub(crate) fn holds(&self, key: &[u8]) -> bool {
        lock(self.shard_of(key)).holds(key)
    }

    /// Takes an entry in, where and with what life `place` says under the lock, or not at all. An entry heavier than the
    /// budget is not taken in and evicts nothing. Either way, what was under its key is gone.
    #[must_use = "what left is to be dropped outside the locks"]
    pub(crate) fn insert(
        &self,
        key: Key,
        weight: usize,
        entry: Entry<V>,
        place: impl FnOnce() -> Option<(Place, Life)>,
    ) -> Evicted<V> {
        let home = self.position_of(key.as_bytes());
        let mut out = Evicted::new();
        {
            let mut shard = lock(&self.shards[home].0);
            shard.replace(&key, &self.budget, &mut out);
            let Some((place, life)) = place() else { return out };
            let entry = Entry { life, ..entry };
            let weight = weight.saturating_add(end_bytes(&entry));
            if !self.fits(weight) {
                return out;
            }
            if let Some(ends_ms) = life.ends_ms() {
                self.next_end_ms.fetch_min(ends_ms, Release);
            }
            shard.insert(key, weight, entry, place, &self.budget, &mut out);
        }
        self.make_room_elsewhere(home, &mut out);
        out
    }

    #[must_use = "what left is to be dropped outside the locks"]
    pub(crate) fn remove(&self, key: &[u8]) -> Evicted<V> {
        let mut out = Evicted::new();
        lock(self.shard_of(key)).remove(key, &self.budget, &mut out);
        out
    }

    /// Whether what is under the key was set after a moment that is so long ago.
    pub(crate) fn was_set_within(&self, key: &[u8], age_ms: u64, now_ms: u64) -> bool {
        lock(self.shard_of(key)).was_set_within(key, age_ms, now_ms)
    }

    /// Removes all but what was set since a moment that is so long ago, shard by shard.
    pub(crate) fn clear_but(&self, age_ms: u64, now_ms: u64) {
        for shard in &self.shards {
            let mut out = Evicted::new();
            lock(&shard.0).clear_but(age_ms, now_ms, &self.budget, &mut out);
            drop(out);
        }
    }

    /// Removes everything, shard by shard.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let mut out = Evicted::new();
            lock(&shard.0).clear(&self.budget, &mut out);
            drop(out);
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
                let mut out = Evicted::new();
                let next = lock(&shard.0).sweep(now_ms, &self.budget, &mut out);
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
    pub(crate) fn rehome(&self, owns: impl Fn(&Key) -> bool, copied: impl Fn(Life) -> Option<Life>) {
        let copied = |life| {
            let life: Life = copied(life)?;
            self.next_end_ms.fetch_min(life.ends_ms().unwrap_or(u64::MAX), Release);
            Some(life)
        };
        for shard in &self.shards {
            let mut out = Evicted::new();
            lock(&shard.0).rehome(&owns, &copied, &self.budget, &mut out);
            drop(out);
        }
    }

    /// Whether an entry of so many bytes can be held at all.
    pub(crate) fn fits(&self, weight: usize) -> bool {
        weight <= self.budget.max_bytes
    }

    /// The same for an entry that may have an end.
    pub(crate) fn fits_with_end(&self, weight: usize) -> bool {
        self.fits(weight.saturating_add(shard::END_BYTES))
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What main and hot have counted and hold.
    pub(crate) fn stats(&self) -> (CacheStats, CacheStats) {
        let mut sum = (CacheStats::default(), CacheStats::default());
        for shard in &self.shards {
            let (main, hot) = lock(&shard.0).stats();
            sum.0.add(main);
            sum.1.add(hot);
        }
        sum
    }

    /// Has every entry looked at, under its shard's lock.
    pub(crate) fn for_each(&self, mut look: impl FnMut(Place, &Key, &Entry<V>)) {
        for shard in &self.shards {
            lock(&shard.0).for_each(&mut look);
        }
    }

    /// The home shard has only the new entry left and it is still too much: the others give way, one after another, with
    /// one lock held at a time.
    fn make_room_elsewhere(&self, home: usize, out: &mut Evicted<V>) {
        let others = (1..self.shards.len()).map(|step| (home + step) % self.shards.len());
        for shard in others {
            if self.budget.excess(0) == 0 {
                return;
            }
            lock(&self.shards[shard].0).make_room(0, &self.budget, out);
        }
    }

    fn shard_of(&self, key: &[u8]) -> &Mutex<Shard<V>> {
        &self.shards[self.position_of(key)].0
    }

    fn position_of(&self, key: &[u8]) -> usize {
        match self.shards.len() {
            1 => 0,
            shards => self.picker.hash_one(key) as usize % shards,
        }
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
