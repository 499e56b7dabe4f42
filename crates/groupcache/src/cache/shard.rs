//! One shard of the cache: what is done under its lock.

use std::collections::BTreeSet;

use ahash::RandomState;
use peercache_lru as lru;

use super::{
    Budget, Evicted,
    entry::{Entry, Hit, Look, Origin, Place, Reader},
};
use crate::{
    CacheStats, Key, Value,
    life::{Life, Stage},
};

pub(super) struct Shard<V> {
    main: Room<V>,
    hot: Room<V>,
    /// The entries that end, by when they do: each entry of a room that has an end, once.
    ends: BTreeSet<(u64, Key)>,
}

/// One of the two caches, with what it counted.
struct Room<V> {
    entries: lru::Cache<Key, Entry<V>, RandomState>,
    counts: CacheStats,
}

/// Why an entry leaves.
#[derive(Clone, Copy)]
enum Leaving {
    Evicted,
    Expired,
    Replaced,
    Removed,
    /// To the other room.
    Moved,
}

const PLACES: [Place; 2] = [Place::Main, Place::Hot];

/// An entry of the set of ends: the time and the key, with a B-tree's share of empty places.
pub(super) const END_BYTES: usize = 64;

/// What an entry is charged beyond its weight, in bytes.
pub(super) fn end_bytes<V>(entry: &Entry<V>) -> usize {
    if entry.life.ends_ms().is_some() { END_BYTES } else { 0 }
}

fn was_set_within<V>(entry: &Entry<V>, age_ms: u64, now_ms: u64) -> bool {
    entry.origin == Origin::Set && entry.life.age_ms(now_ms) < age_ms
}

impl<V: Value> Shard<V> {
    pub(super) fn new(hasher: RandomState) -> Self {
        Shard { main: Room::new(hasher.clone()), hot: Room::new(hasher), ends: BTreeSet::new() }
    }

    /// One look in the index for a hit of main, where all there is may be answered to anyone. In hot, a copy that may not be
    /// answered is not made the most recent either.
    pub(super) fn get(
        &mut self,
        key: &[u8],
        reader: Reader,
        look: Look,
        now_ms: u64,
        budget: &Budget,
        out: &mut Evicted<V>,
    ) -> Option<Hit<V>> {
        for place in PLACES {
            let room = self.room(place);
            room.counts.gets += 1;
            let found = match place {
                Place::Main => room.entries.get(key),
                Place::Hot => room.entries.peek(key),
            };
            let Some(entry) = found else { continue };
            if let Some(stage) = entry.meets(reader, look, now_ms) {
                let hit = entry.hit(place, stage, now_ms);
                room.counts.hits += 1;
                if place == Place::Hot {
                    room.entries.get(key);
                }
                return Some(hit);
            }
            if entry.life.stage(now_ms) == Stage::Ended {
                self.take_from(place, key, Leaving::Expired, budget, out);
            }
        }
        None
    }

    pub(super) fn peek(&self, key: &[u8], reader: Reader, look: Look, now_ms: u64) -> Option<Hit<V>> {
        let (place, entry) = self.find(key)?;
        entry.meets(reader, look, now_ms).map(|stage| entry.hit(place, stage, now_ms))
    }

    /// The value for a caller who cannot have a new one.
    pub(super) fn spare(&self, key: &[u8], reader: Reader, now_ms: u64) -> Option<Hit<V>> {
        let (place, entry) = self.find(key)?;
        let stage = entry.life.stage(now_ms);
        let usable = entry.is_for(reader) && entry.value.is_some() && stage < Stage::Ended;
        usable.then(|| entry.hit(place, stage, now_ms))
    }

    pub(super) fn holds(&self, key: &[u8]) -> bool {
        self.find(key).is_some()
    }

    fn find(&self, key: &[u8]) -> Option<(Place, &Entry<V>)> {
        let main = self.main.entries.peek(key).map(|entry| (Place::Main, entry));
        main.or_else(|| self.hot.entries.peek(key).map(|entry| (Place::Hot, entry)))
    }

    /// Takes an entry in whose key is in no room, after as many others have left as must.
    pub(super) fn insert(
        &mut self,
        key: Key,
        weight: usize,
        entry: Entry<V>,
        place: Place,
        budget: &Budget,
        out: &mut Evicted<V>,
    ) {
        self.make_room(weight, budget, out);
        if let Some(ends_ms) = entry.life.ends_ms() {
            self.ends.insert((ends_ms, key.clone()));
        }
        let inserted = self.room(place).entries.insert_weighed(key, entry, weight);
        debug_assert!(inserted.is_ok_and(|replaced| replaced.is_none()), "the key was taken out of both rooms before");
        budget.add(weight);
    }

    /// What is under the key makes way for another value of it.
    pub(super) fn replace(&mut self, key: &Key, budget: &Budget, out: &mut Evicted<V>) {
        PLACES.into_iter().for_each(|place| self.take_from(place, key.as_bytes(), Leaving::Replaced, budget, out));
    }

    pub(super) fn remove(&mut self, key: &[u8], budget: &Budget, out: &mut Evicted<V>) {
        PLACES.into_iter().for_each(|place| self.take_from(place, key, Leaving::Removed, budget, out));
    }

    /// Whether what is under the key was set after a moment that is so long ago.
    pub(super) fn was_set_within(&self, key: &[u8], age_ms: u64, now_ms: u64) -> bool {
        self.find(key).is_some_and(|(_, entry)| was_set_within(entry, age_ms, now_ms))
    }

    /// Removes all but what was set since a moment that is so long ago.
    pub(super) fn clear_but(&mut self, age_ms: u64, now_ms: u64, budget: &Budget, out: &mut Evicted<V>) {
        for place in PLACES {
            let entries = self.room(place).entries.iter();
            let older = entries.filter(|(_, entry)| !was_set_within(entry, age_ms, now_ms)).map(|(key, _)| key.clone());
            for key in older.collect::<Vec<_>>() {
                self.take_from(place, key.as_bytes(), Leaving::Removed, budget, out);
            }
        }
    }

    pub(super) fn clear(&mut self, budget: &Budget, out: &mut Evicted<V>) {
        for place in PLACES {
            while self.pop_lru(place, Leaving::Removed, budget, out) {}
        }
    }

    /// Evicts until `weight` more bytes fit the budget or nothing is left here.
    pub(super) fn make_room(&mut self, weight: usize, budget: &Budget, out: &mut Evicted<V>) {
        while budget.excess(weight) > 0 {
            let hot_is_large = self.hot.entries.bytes() > self.main.entries.bytes() / 8;
            let victim = if hot_is_large { Place::Hot } else { Place::Main };
            if !self.pop_lru(victim, Leaving::Evicted, budget, out) {
                return;
            }
        }
    }

    /// Takes out some of what has ended, so that the lock is not held for long. Returns when the next one ends: now, if there are more.
    pub(super) fn sweep(&mut self, now_ms: u64, budget: &Budget, out: &mut Evicted<V>) -> Option<u64> {
        const AT_A_TIME: usize = 256;
        for _ in 0..AT_A_TIME {
            let (ends_ms, key) = self.ends.first()?;
            if *ends_ms > now_ms {
                break;
            }
            let key = key.clone();
            PLACES.into_iter().for_each(|place| self.take_from(place, key.as_bytes(), Leaving::Expired, budget, out));
        }
        self.ends.first().map(|(ends_ms, _)| *ends_ms)
    }

    /// Moves what `owns` denies from main to hot with the life that `copied` gives it, or out.
    pub(super) fn rehome(
        &mut self,
        owns: &impl Fn(&Key) -> bool,
        copied: &impl Fn(Life) -> Option<Life>,
        budget: &Budget,
        out: &mut Evicted<V>,
    ) {
        // The least recent first: moved one by one, they keep their order.
        let oldest_first = self.main.entries.iter().rev().map(|(key, _)| key);
        let lost: Vec<Key> = oldest_first.filter(|key| !owns(key)).cloned().collect();
        for key in lost {
            let Some(life) = self.main.entries.peek(&key).and_then(|entry| copied(entry.life)) else {
                self.take_from(Place::Main, key.as_bytes(), Leaving::Removed, budget, out);
                continue;
            };
            let mut moved = Evicted::new();
            self.take_from(Place::Main, key.as_bytes(), Leaving::Moved, budget, &mut moved);
            for lru::Entry { key, value, weight, .. } in moved {
                let weight = weight - end_bytes(&value);
                let copy = Entry { life, ..value };
                self.insert(key, weight + end_bytes(&copy), copy, Place::Hot, budget, out);
            }
        }
    }

    pub(super) fn for_each(&self, look: &mut impl FnMut(Place, &Key, &Entry<V>)) {
        for (place, room) in [(Place::Main, &self.main), (Place::Hot, &self.hot)] {
            room.entries.iter().for_each(|(key, entry)| look(place, key, entry));
        }
    }

    /// What main and hot have counted and hold.
    pub(super) fn stats(&self) -> (CacheStats, CacheStats) {
        (self.main.stats(), self.hot.stats())
    }

    fn room(&mut self, place: Place) -> &mut Room<V> {
        match place {
            Place::Main => &mut self.main,
            Place::Hot => &mut self.hot,
        }
    }

    fn take_from(&mut self, place: Place, key: &[u8], why: Leaving, budget: &Budget, out: &mut Evicted<V>) {
        if let Some(taken) = self.room(place).entries.remove_entry(key) {
            self.left(place, taken, why, budget, out);
        }
    }

    fn pop_lru(&mut self, place: Place, why: Leaving, budget: &Budget, out: &mut Evicted<V>) -> bool {
        let popped = self.room(place).entries.pop_lru();
        popped.map(|popped| self.left(place, popped, why, budget, out)).is_some()
    }

    /// The one way out.
    fn left(
        &mut self,
        place: Place,
        entry: lru::Entry<Key, Entry<V>>,
        why: Leaving,
        budget: &Budget,
        out: &mut Evicted<V>,
    ) {
        budget.subtract(entry.weight);
        if let Some(ends_ms) = entry.value.life.ends_ms() {
            self.ends.remove(&(ends_ms, entry.key.clone()));
        }
        let counts = &mut self.room(place).counts;
        let count = match why {
            Leaving::Evicted => &mut counts.evictions,
            Leaving::Expired => &mut counts.expirations,
            Leaving::Replaced => &mut counts.replacements,
            Leaving::Removed => &mut counts.removals,
            Leaving::Moved => return out.push(entry),
        };
        *count += 1;
        out.push(entry);
    }
}

impl<V: Value> Room<V> {
    fn new(hasher: RandomState) -> Self {
        // The budget spans all rooms, so the shard chooses the victims; weights come with the entries.
        let entries = lru::Cache::builder(usize::MAX).weigher(|_: &Key, _: &Entry<V>| 0).hasher(hasher).build();
        Room { entries, counts: CacheStats::default() }
    }

    fn stats(&self) -> CacheStats {
        CacheStats { bytes: self.entries.bytes() as u64, items: self.entries.len() as u64, ..self.counts }
    }
}
