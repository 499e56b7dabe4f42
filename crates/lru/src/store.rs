//! The entries of an LRU cache, their sum and their budget, without weigher or listener.
//!
//! No code of a user runs in here but hashing and comparing, so that nothing is half done when a
//! weigher or a listener panics.

use std::{
    borrow::Borrow,
    hash::{BuildHasher, Hash},
};

use lru::LruCache;
use smallvec::SmallVec;

use crate::{entry::Entry, error::TooHeavy};

pub(crate) struct Store<K, V, S> {
    /// The entries in a list that is unbounded by itself: the budget is kept here.
    entries: LruCache<K, Slot<V>, S>,
    /// The sum of the entries' weights. It never exceeds `max_bytes`, which is why additions below
    /// cannot overflow.
    bytes: usize,
    max_bytes: usize,
    /// The hasher of the next list after `take`.
    hasher: S,
}

/// A value and the charge of its entry, kept because a weigher may not answer the same twice.
pub(crate) struct Slot<V> {
    pub(crate) value: V,
    weight: usize,
}

impl<K: Hash + Eq, V, S: BuildHasher + Clone> Store<K, V, S> {
    pub(crate) fn new(max_bytes: usize, hasher: S) -> Self {
        Self { entries: LruCache::unbounded_with_hasher(hasher.clone()), bytes: 0, max_bytes, hasher }
    }

    pub(crate) fn get<Q>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.entries.get(key).map(|slot| &slot.value)
    }

    pub(crate) fn peek<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.entries.peek(key).map(|slot| &slot.value)
    }

    pub(crate) fn peek_lru(&self) -> Option<(&K, &V)> {
        self.entries.peek_lru().map(|(key, slot)| (key, &slot.value))
    }

    pub(crate) fn insert(&mut self, key: K, value: V, weight: usize) -> Change<K, V> {
        if weight > self.max_bytes {
            let replaced = self.remove(&key);
            let refused = TooHeavy { key, value, weight, max_bytes: self.max_bytes };
            return Change { replaced, refused: Some(refused), evicted: Evicted::new() };
        }
        let replaced = self.entries.push(key, Slot { value, weight }).map(Entry::from);
        self.bytes -= replaced.as_ref().map_or(0, |entry| entry.weight);
        // The new entry is the most recent and not yet in the sum. When all others are gone the sum
        // is 0, so it is never evicted for itself.
        let evicted = self.make_room(weight);
        self.bytes += weight;
        Change { replaced, refused: None, evicted }
    }

    pub(crate) fn remove<Q>(&mut self, key: &Q) -> Option<Entry<K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let entry = Entry::from(self.entries.pop_entry(key)?);
        self.bytes -= entry.weight;
        Some(entry)
    }

    pub(crate) fn pop_lru(&mut self) -> Option<Entry<K, V>> {
        let entry = Entry::from(self.entries.pop_lru()?);
        self.bytes -= entry.weight;
        Some(entry)
    }

    /// Takes all entries out and leaves an empty store, which holds no memory.
    pub(crate) fn take(&mut self) -> Self {
        let fresh = Self::new(self.max_bytes, self.hasher.clone());
        std::mem::replace(self, fresh)
    }

    pub(crate) fn resize(&mut self, max_bytes: usize) -> Evicted<K, V> {
        self.max_bytes = max_bytes;
        self.make_room(0)
    }

    pub(crate) fn iter(&self) -> lru::Iter<'_, K, Slot<V>> {
        self.entries.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Evicts until `weight` more bytes fit. No sum can overflow here.
    fn make_room(&mut self, weight: usize) -> Evicted<K, V> {
        let mut evicted = Evicted::new();
        while self.max_bytes.checked_sub(self.bytes).is_none_or(|free| weight > free) {
            let Some(entry) = self.pop_lru() else { break };
            evicted.push(entry);
        }
        evicted
    }
}

impl<K, V> From<(K, Slot<V>)> for Entry<K, V> {
    fn from((key, Slot { value, weight }): (K, Slot<V>)) -> Self {
        Self { key, value, weight }
    }
}

/// The outcome of an insertion.
pub(crate) struct Change<K, V> {
    pub(crate) replaced: Option<Entry<K, V>>,
    pub(crate) refused: Option<TooHeavy<K, V>>,
    pub(crate) evicted: Evicted<K, V>,
}

impl<K, V> Change<K, V> {
    pub(crate) fn into_result(self) -> Result<Option<V>, TooHeavy<K, V>> {
        match self.refused {
            Some(refused) => Err(refused),
            None => Ok(self.replaced.map(|entry| entry.value)),
        }
    }
}

/// Evicted entries, oldest first. Most insertions evict one or none, which costs no allocation.
pub(crate) type Evicted<K, V> = SmallVec<[Entry<K, V>; 1]>;
