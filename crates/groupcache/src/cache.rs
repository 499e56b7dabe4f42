use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use ahash::RandomState;
use peercache_lru as lru;

use crate::{CacheStats, Key, Source, Value};

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
}

/// The bytes that all shards hold together. Each shard counts under its own lock, so while several take entries in at
/// once the sum may be over by those few entries; it is never over when they are done.
struct Budget {
    max_bytes: usize,
    bytes: AtomicUsize,
}

/// Two cache lines, since processors fetch them in pairs.
#[repr(align(128))]
struct Padded<V>(Mutex<Shard<V>>);

struct Shard<V> {
    main: Room<V>,
    hot: Room<V>,
}

/// One of the two caches, with what it counted.
struct Room<V> {
    entries: lru::Cache<Key, Entry<V>, RandomState>,
    counts: CacheStats,
}

/// A value and what must be known of it.
#[derive(Clone)]
pub(crate) struct Entry<V> {
    pub(crate) value: V,
    /// Whether it came from the loader of this node, which alone may answer peers, or from a peer.
    pub(crate) loaded: bool,
    /// When it may not be answered any more, in the clock's milliseconds; 0 is never.
    pub(crate) expires_ms: u64,
}

/// Where an entry goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Main,
    Hot,
}

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A caller at this node may see everything.
    Caller,
    /// A peer may see what was loaded here, never what was fetched.
    Peer,
}

/// A value that was found.
pub(crate) struct Hit<V> {
    pub(crate) value: V,
    pub(crate) source: Source,
}

/// What left the cache; to be dropped when no lock is held, for a value's drop may take its time.
pub(crate) type Evicted<V> = Vec<lru::Entry<Key, Entry<V>>>;

impl<V: Value> Cache<V> {
    pub(crate) fn new(max_bytes: usize, shards: usize) -> Self {
        let shards = (0..shards).map(|_| Padded(Mutex::new(Shard { main: Room::new(), hot: Room::new() }))).collect();
        let budget = Budget { max_bytes, bytes: AtomicUsize::new(0) };
        Cache { shards, picker: RandomState::new(), budget }
    }

    /// Looks as a get does: counted, and the entry becomes the most recent.
    pub(crate) fn get(&self, key: &[u8], reader: Reader, now_ms: u64) -> Option<Hit<V>> {
        let mut shard = self.lock(self.shard_of(key));
        shard.main.counts.gets += 1;
        if let Some(value) = shard.main.get(key, reader, now_ms) {
            return Some(Hit { value, source: Source::Main });
        }
        shard.hot.counts.gets += 1;
        if let Some(value) = shard.hot.get_copy(key, reader, now_ms) {
            return Some(Hit { value, source: Source::Hot });
        }
        let expired = shard.hot.remove_expired(key, now_ms, &self.budget);
        drop(shard);
        drop(expired);
        None
    }

    /// Looks once more, as the leader of a flight does: not counted, nothing moves.
    pub(crate) fn peek(&self, key: &[u8], reader: Reader, now_ms: u64) -> Option<Hit<V>> {
        let shard = self.lock(self.shard_of(key));
        let found = |room: &Room<V>, source| {
            let entry = room.entries.peek(key).filter(|entry| entry.is_for(reader, now_ms))?;
            Some(Hit { value: entry.value.clone(), source })
        };
        found(&shard.main, Source::Main).or_else(|| found(&shard.hot, Source::Hot))
    }

    /// Takes an entry in, where and with what life `place` says under the lock, or not at all. An entry heavier than the
    /// budget is not taken in and evicts nothing, but what was under its key is gone all the same.
    #[must_use = "what left is to be dropped outside the locks"]
    pub(crate) fn insert(
        &self,
        key: Key,
        weight: usize,
        entry: Entry<V>,
        now_ms: u64,
        place: impl FnOnce() -> Option<(Place, u64)>,
    ) -> Evicted<V> {
        let home = self.shard_of(key.as_bytes());
        let mut out = Vec::new();
        {
            let mut shard = self.lock(home);
            let Some((place, expires_ms)) = place() else { return out };
            shard.remove(&key, &self.budget, &mut out);
            if !self.fits(weight) {
                return out;
            }
            shard.hot.remove_oldest_expired(now_ms, &self.budget, &mut out);
            shard.make_room(weight, &self.budget, &mut out);
            shard.room(place).insert(key, weight, Entry { expires_ms, ..entry }, &self.budget);
        }
        self.make_room_elsewhere(home, &mut out);
        out
    }

    /// Moves the entries of main that `owns` denies to hot, where they end at `expires_ms`, or out if there is no such time.
    /// Shard by shard, so that gets go on meanwhile. What was fetched is never moved to main: it is not ours to vouch for,
    /// and ends soon.
    pub(crate) fn rehome(&self, owns: impl Fn(&Key) -> bool, expires_ms: Option<u64>) {
        for shard in 0..self.shards.len() {
            let lost = self.lock(shard).rehome(&owns, expires_ms, &self.budget);
            drop(lost);
        }
    }

    /// Whether an entry of so many bytes can be held at all.
    pub(crate) fn fits(&self, weight: usize) -> bool {
        weight <= self.budget.max_bytes
    }

    /// What main and hot have counted and hold.
    pub(crate) fn stats(&self) -> (CacheStats, CacheStats) {
        let mut sum = (CacheStats::default(), CacheStats::default());
        for shard in 0..self.shards.len() {
            let shard = self.lock(shard);
            sum.0.add(shard.main.stats());
            sum.1.add(shard.hot.stats());
        }
        sum
    }

    /// The home shard has only the new entry left and it is still too much: the others give way, one after another, with
    /// one lock held at a time.
    fn make_room_elsewhere(&self, home: usize, out: &mut Evicted<V>) {
        let others = (1..self.shards.len()).map(|step| (home + step) % self.shards.len());
        for shard in others {
            if self.budget.excess(0) == 0 {
                return;
            }
            self.lock(shard).make_room(0, &self.budget, out);
        }
    }

    fn shard_of(&self, key: &[u8]) -> usize {
        match self.shards.len() {
            1 => 0,
            shards => self.picker.hash_one(key) as usize % shards,
        }
    }

    /// A panic under the lock can come from the clone of a value only, when nothing is half done.
    fn lock(&self, shard: usize) -> MutexGuard<'_, Shard<V>> {
        self.shards[shard].0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Budget {
    fn add(&self, weight: usize) {
        self.bytes.fetch_add(weight, Relaxed);
    }

    fn subtract(&self, weight: usize) {
        self.bytes.fetch_sub(weight, Relaxed);
    }

    /// By how much an entry of `weight` more bytes would be too much.
    fn excess(&self, weight: usize) -> usize {
        self.bytes.load(Relaxed).saturating_add(weight).saturating_sub(self.max_bytes)
    }
}

impl<V: Value> Shard<V> {
    fn room(&mut self, place: Place) -> &mut Room<V> {
        match place {
            Place::Main => &mut self.main,
            Place::Hot => &mut self.hot,
        }
    }

    fn remove(&mut self, key: &Key, budget: &Budget, out: &mut Evicted<V>) {
        out.extend(self.main.remove(key, budget));
        out.extend(self.hot.remove(key, budget));
    }

    /// Evicts until `weight` more bytes fit the budget or nothing is left here.
    fn make_room(&mut self, weight: usize, budget: &Budget, out: &mut Evicted<V>) {
        while budget.excess(weight) > 0 {
            let hot_is_large = self.hot.entries.bytes() > self.main.entries.bytes() / 8;
            let victim = if hot_is_large { &mut self.hot } else { &mut self.main };
            let Some(evicted) = victim.pop_lru(budget) else { return };
            victim.counts.evictions += 1;
            out.push(evicted);
        }
    }

    fn rehome(&mut self, owns: &impl Fn(&Key) -> bool, expires_ms: Option<u64>, budget: &Budget) -> Evicted<V> {
        // The least recent first: moved one by one, they keep their order.
        let oldest_first = self.main.entries.iter().rev().map(|(key, _)| key);
        let lost: Vec<Key> = oldest_first.filter(|key| !owns(key)).cloned().collect();
        let mut out = Vec::new();
        for key in lost {
            let Some(moved) = self.main.remove(&key, budget) else { continue };
            match expires_ms {
                Some(expires_ms) => self.hot.insert(key, moved.weight, Entry { expires_ms, ..moved.value }, budget),
                None => out.push(moved),
            }
        }
        out
    }
}

impl<V: Value> Room<V> {
    fn new() -> Self {
        // The budget spans all rooms, so the shard chooses the victims; weights come with the entries.
        let entries =
            lru::Cache::builder(usize::MAX).weigher(|_: &Key, _: &Entry<V>| 0).hasher(RandomState::new()).build();
        Room { entries, counts: CacheStats::default() }
    }

    /// For main, where all there is may be answered to anyone: one look in the index.
    fn get(&mut self, key: &[u8], reader: Reader, now_ms: u64) -> Option<V> {
        let value = self.entries.get(key).filter(|entry| entry.is_for(reader, now_ms))?.value.clone();
        self.counts.hits += 1;
        Some(value)
    }

    /// For hot: a copy that may not be answered is not made the most recent either.
    fn get_copy(&mut self, key: &[u8], reader: Reader, now_ms: u64) -> Option<V> {
        self.entries.peek(key).filter(|entry| entry.is_for(reader, now_ms))?;
        let value = self.entries.get(key)?.value.clone();
        self.counts.hits += 1;
        Some(value)
    }

    fn insert(&mut self, key: Key, weight: usize, entry: Entry<V>, budget: &Budget) {
        let inserted = self.entries.insert_weighed(key, entry, weight);
        debug_assert!(inserted.is_ok_and(|replaced| replaced.is_none()), "the key was taken out of both rooms before");
        budget.add(weight);
    }

    fn remove(&mut self, key: &Key, budget: &Budget) -> Option<lru::Entry<Key, Entry<V>>> {
        let removed = self.entries.remove_entry(key)?;
        budget.subtract(removed.weight);
        Some(removed)
    }

    fn pop_lru(&mut self, budget: &Budget) -> Option<lru::Entry<Key, Entry<V>>> {
        let popped = self.entries.pop_lru()?;
        budget.subtract(popped.weight);
        Some(popped)
    }

    fn remove_expired(&mut self, key: &[u8], now_ms: u64, budget: &Budget) -> Option<lru::Entry<Key, Entry<V>>> {
        self.entries.peek(key).filter(|entry| entry.is_expired(now_ms))?;
        let removed = self.entries.remove_entry(key)?;
        budget.subtract(removed.weight);
        Some(removed)
    }

    /// Takes out what has expired among the least recent, a few at a time: what nobody asks for any more ends here.
    fn remove_oldest_expired(&mut self, now_ms: u64, budget: &Budget, out: &mut Evicted<V>) {
        const AT_A_TIME: usize = 4;
        for _ in 0..AT_A_TIME {
            if !self.entries.peek_lru().is_some_and(|(_, entry)| entry.is_expired(now_ms)) {
                return;
            }
            out.extend(self.pop_lru(budget));
        }
    }

    fn stats(&self) -> CacheStats {
        CacheStats { bytes: self.entries.bytes() as u64, items: self.entries.len() as u64, ..self.counts }
    }
}

impl<V> Entry<V> {
    /// What an entry costs beside key and value, in bytes.
    pub(crate) const fn overhead() -> usize {
        /// The share count that `Bytes` keeps beside its buffer once it has been cloned, as the allocator rounds it.
        const SHARE_COUNT: usize = 32;
        lru::entry_overhead::<Key, Entry<V>>() + SHARE_COUNT + SHARE_COUNT
    }

    fn is_for(&self, reader: Reader, now_ms: u64) -> bool {
        (reader == Reader::Caller || self.loaded) && !self.is_expired(now_ms)
    }

    fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_ms != 0 && self.expires_ms <= now_ms
    }
}

#[cfg(test)]
mod tests;
