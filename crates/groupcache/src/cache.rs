use std::sync::{Mutex, MutexGuard, PoisonError};

use ahash::RandomState;
use peercache_lru as lru;

use crate::{CacheStats, Key, Source, Value};

/// What a group holds: main, the entries that this node owns, and hot, copies of those that it does not; both exact
/// LRU, under one budget. Every entry is in one of them.
///
/// Room is made as golang/groupcache makes it: hot gives way while it holds more than an eighth of what main holds,
/// else main does.
pub(crate) struct Cache<V> {
    shards: Box<[Padded<V>]>,
    shard_bytes_min: usize,
    /// Picks the shard. Another seed than the maps', whose buckets would else be filled unevenly.
    picker: RandomState,
}

/// Two cache lines, since processors fetch them in pairs.
#[repr(align(128))]
struct Padded<V>(Mutex<Shard<V>>);

struct Shard<V> {
    main: Room<V>,
    hot: Room<V>,
    max_bytes: usize,
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
        let share = |shard: usize| max_bytes / shards + usize::from(shard < max_bytes % shards);
        let shard_bytes_min = max_bytes / shards;
        let shards = (0..shards).map(|shard| Padded(Mutex::new(Shard::new(share(shard))))).collect();
        Cache { shards, shard_bytes_min, picker: RandomState::new() }
    }

    /// Looks as a get does: counted, and the entry becomes the most recent.
    pub(crate) fn get(&self, key: &[u8], reader: Reader, now_ms: u64) -> Option<Hit<V>> {
        let mut shard = self.shard(key);
        shard.main.counts.gets += 1;
        if let Some(entry) = shard.main.entries.get(key).filter(|entry| entry.is_for(reader, now_ms)) {
            let value = entry.value.clone();
            shard.main.counts.hits += 1;
            return Some(Hit { value, source: Source::Main });
        }
        shard.hot.counts.gets += 1;
        let entry = shard.hot.entries.get(key).filter(|entry| entry.is_for(reader, now_ms))?;
        let value = entry.value.clone();
        shard.hot.counts.hits += 1;
        Some(Hit { value, source: Source::Hot })
    }

    /// Looks once more, as the leader of a flight does: not counted, nothing moves.
    pub(crate) fn peek(&self, key: &[u8], reader: Reader, now_ms: u64) -> Option<Hit<V>> {
        let shard = self.shard(key);
        let found = |room: &Room<V>, source| {
            let entry = room.entries.peek(key).filter(|entry| entry.is_for(reader, now_ms))?;
            Some(Hit { value: entry.value.clone(), source })
        };
        found(&shard.main, Source::Main).or_else(|| found(&shard.hot, Source::Hot))
    }

    /// Takes an entry in, where and with what life `place` says under the lock, or not at all. An entry heavier than
    /// the shard's whole share is not taken in and evicts nothing, but what was under its key is gone all the same.
    #[must_use = "what left is to be dropped outside the locks"]
    pub(crate) fn insert(
        &self,
        key: Key,
        weight: usize,
        entry: Entry<V>,
        place: impl FnOnce() -> Option<(Place, u64)>,
    ) -> Evicted<V> {
        let mut shard = self.shard(key.as_bytes());
        let Some((place, expires_ms)) = place() else { return Vec::new() };
        shard.insert(key, weight, Entry { expires_ms, ..entry }, place)
    }

    /// Moves the entries of main that `owns` denies to hot, where they end at `expires_ms`. Shard by shard, so that gets
    /// go on meanwhile. What was fetched is never moved to main: it is not ours to vouch for, and ends soon.
    pub(crate) fn rehome(&self, owns: impl Fn(&Key) -> bool, expires_ms: u64) {
        for shard in &self.shards {
            lock(shard).rehome(&owns, expires_ms);
        }
    }

    /// Whether an entry of so many bytes can be held at all.
    pub(crate) fn fits(&self, weight: usize) -> bool {
        weight <= self.shard_bytes_min
    }

    /// What main and hot have counted and hold.
    pub(crate) fn stats(&self) -> (CacheStats, CacheStats) {
        let mut sum = (CacheStats::default(), CacheStats::default());
        for shard in &self.shards {
            let shard = lock(shard);
            sum.0.add(shard.main.stats());
            sum.1.add(shard.hot.stats());
        }
        sum
    }

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard<V>> {
        match &*self.shards {
            [only] => lock(only),
            shards => lock(&shards[self.picker.hash_one(key) as usize % shards.len()]),
        }
    }
}

/// A panic under the lock can come from the clone of a value only, when nothing is half done.
fn lock<V>(shard: &Padded<V>) -> MutexGuard<'_, Shard<V>> {
    shard.0.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<V: Value> Shard<V> {
    fn new(max_bytes: usize) -> Self {
        Shard { main: Room::new(), hot: Room::new(), max_bytes }
    }

    fn insert(&mut self, key: Key, weight: usize, entry: Entry<V>, place: Place) -> Evicted<V> {
        let mut out: Evicted<V> = Vec::new();
        out.extend(self.main.entries.remove_entry(&key));
        out.extend(self.hot.entries.remove_entry(&key));
        if weight <= self.max_bytes {
            self.make_room(weight, &mut out);
            let room = match place {
                Place::Main => &mut self.main,
                Place::Hot => &mut self.hot,
            };
            room.insert(key, weight, entry);
        }
        out
    }

    fn make_room(&mut self, weight: usize, out: &mut Evicted<V>) {
        while self.main.entries.bytes() + self.hot.entries.bytes() > self.max_bytes - weight {
            let hot_is_large = self.hot.entries.bytes() > self.main.entries.bytes() / 8;
            let victim = if hot_is_large { &mut self.hot } else { &mut self.main };
            victim.counts.evictions += 1;
            out.push(victim.entries.pop_lru().expect("the larger of two sums over some number is not that of nothing"));
        }
    }

    fn rehome(&mut self, owns: &impl Fn(&Key) -> bool, expires_ms: u64) {
        // The least recent first: moved one by one, they keep their order.
        let oldest_first = self.main.entries.iter().rev().map(|(key, _)| key);
        let lost: Vec<Key> = oldest_first.filter(|key| !owns(key)).cloned().collect();
        for key in lost {
            if let Some(moved) = self.main.entries.remove_entry(&key) {
                self.hot.insert(key, moved.weight, Entry { expires_ms, ..moved.value });
            }
        }
    }
}

impl<V: Value> Room<V> {
    fn new() -> Self {
        // The budget spans both rooms, so the shard chooses the victims; weights come with the entries.
        let entries =
            lru::Cache::builder(usize::MAX).weigher(|_: &Key, _: &Entry<V>| 0).hasher(RandomState::new()).build();
        Room { entries, counts: CacheStats::default() }
    }

    fn insert(&mut self, key: Key, weight: usize, entry: Entry<V>) {
        let inserted = self.entries.insert_weighed(key, entry, weight);
        debug_assert!(inserted.is_ok_and(|replaced| replaced.is_none()), "the key was taken out of both rooms before");
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
        (reader == Reader::Caller || self.loaded) && (self.expires_ms == 0 || now_ms < self.expires_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bytes;

    const WEIGHT: usize = 100;

    /// One shard with room for so many entries of the tests' weight.
    fn cache(entries: usize) -> Cache<Bytes> {
        Cache::new(entries * WEIGHT, 1)
    }

    fn put(cache: &Cache<Bytes>, key: &str, place: Place) {
        let entry = Entry { value: Bytes::new(), loaded: true, expires_ms: 0 };
        drop(cache.insert(key.into(), WEIGHT, entry, || Some((place, 0))));
    }

    /// Items in main and in hot.
    fn items(cache: &Cache<Bytes>) -> (u64, u64) {
        let (main, hot) = cache.stats();
        assert_eq!(main.bytes + hot.bytes, (main.items + hot.items) * WEIGHT as u64, "every entry is accounted once");
        (main.items, hot.items)
    }

    #[test]
    fn an_entry_that_comes_again_is_in_one_place() {
        let cache = cache(10);
        for (place, expected) in
            [(Place::Main, (1, 0)), (Place::Main, (1, 0)), (Place::Hot, (0, 1)), (Place::Main, (1, 0))]
        {
            put(&cache, "key", place);
            assert_eq!(items(&cache), expected);
        }
    }

    #[test]
    fn hot_gives_way_while_it_holds_more_than_an_eighth_of_main() {
        let cache = cache(10);
        (0..5).for_each(|n| put(&cache, &format!("hot-{n}"), Place::Hot));
        (0..9).for_each(|n| put(&cache, &format!("main-{n}"), Place::Main));
        assert_eq!(items(&cache), (9, 1));
    }

    #[test]
    fn main_gives_way_while_hot_is_small() {
        let cache = cache(10);
        put(&cache, "hot", Place::Hot);
        (0..20).for_each(|n| put(&cache, &format!("main-{n}"), Place::Main));
        assert_eq!(items(&cache), (9, 1));
    }

    #[test]
    fn the_least_recently_used_leaves_first() {
        let cache = cache(2);
        put(&cache, "a", Place::Main);
        put(&cache, "b", Place::Main);
        assert!(cache.get(b"a", Reader::Caller, 0).is_some());
        put(&cache, "c", Place::Main);
        let there = ["a", "b", "c"].map(|key| cache.peek(key.as_bytes(), Reader::Caller, 0).is_some());
        assert_eq!(there, [true, false, true]);
    }
}
