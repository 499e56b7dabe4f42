//! The exact LRU cache for one thread.

use std::{
    borrow::Borrow,
    collections::hash_map::RandomState,
    fmt,
    hash::{BuildHasher, Hash},
    iter::FusedIterator,
};

use crate::{
    builder::Builder,
    entry::{Entry, Listener, Removal},
    error::TooHeavy,
    store::{Slot, Store},
    weight::{ByHeapBytes, HeapBytes, Weigher},
};

/// A least-recently-used cache of at most `max_bytes`.
///
/// [`get`](Self::get) and [`insert`](Self::insert) make an entry the most recent; nothing else
/// changes the order. All operations take constant time, an insertion plus the entries it evicts.
/// Keys are looked up by any borrowed form, `&str` for `String`.
///
/// Memory is charged as [`entry_overhead`](crate::entry_overhead) says. The index grows with the
/// cache and is given back by [`clear`](Self::clear). With `usize::MAX` as the budget nothing is
/// ever evicted. Callers can then choose the moment themselves, with [`pop_lru`](Self::pop_lru).
///
/// A panic of the weigher or the listener reaches the caller, and the cache stays whole: order, sum
/// and budget are right. Further removals of the same call are then not told to the listener.
/// Dropping the cache tells the listener nothing.
///
/// ```
/// use peercache_lru::Cache;
///
/// let mut cache = Cache::<String, u64>::new(1 << 20);
/// cache.insert("a".into(), 1)?;
/// cache.insert("b".into(), 2)?;
/// assert_eq!(cache.insert("b".into(), 3)?, Some(2));
/// cache.get("a");
///
/// let newest_first: Vec<_> = cache.iter().map(|(key, value)| (key.as_str(), *value)).collect();
/// assert_eq!(newest_first, [("a", 1), ("b", 3)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Cache<K, V, S = RandomState> {
    store: Store<K, V, S>,
    weigher: Box<dyn Weigher<K, V> + Send + Sync>,
    /// The bytes that are added to what the weigher says.
    entry_overhead: usize,
    listener: Option<Listener<K, V>>,
}

impl<K: Hash + Eq, V> Cache<K, V> {
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
        Self::builder(max_bytes).build()
    }

    /// Starts a cache of at most `max_bytes`: keys, values and overhead.
    pub fn builder(max_bytes: usize) -> Builder<K, V, RandomState, ByHeapBytes> {
        Builder::new(max_bytes)
    }
}

impl<K: Hash + Eq, V, S: BuildHasher + Clone> Cache<K, V, S> {
    pub(crate) fn from_parts(
        store: Store<K, V, S>,
        weigher: Box<dyn Weigher<K, V> + Send + Sync>,
        entry_overhead: usize,
        listener: Option<Listener<K, V>>,
    ) -> Self {
        Self { store, weigher, entry_overhead, listener }
    }

    /// The value of `key`, whose entry becomes the most recently used.
    pub fn get<Q>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.store.get(key)
    }

    /// The value of `key`, without a change of the order.
    pub fn peek<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.store.peek(key)
    }

    /// The least recently used entry, which [`pop_lru`](Self::pop_lru) would take.
    #[must_use]
    pub fn peek_lru(&self) -> Option<(&K, &V)> {
        self.store.peek_lru()
    }

    /// Whether `key` is in the cache. The order is unchanged.
    #[doc(alias = "contains_key")]
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.peek(key).is_some()
    }

    /// Inserts an entry as the most recently used, and evicts the least recent until it fits.
    ///
    /// Returns the value that it replaced, if any. An equal key that is already there stays and the
    /// new one is dropped, as in a [`HashMap`](std::collections::HashMap).
    ///
    /// # Errors
    /// [`TooHeavy`], with key and value handed back, if the entry alone exceeds the budget. Nothing
    /// is evicted for it. An older value of its key is removed all the same
    /// ([`Removal::Replaced`]), since it is stale from now on.
    #[doc(alias = "put")]
    pub fn insert(&mut self, key: K, value: V) -> Result<Option<V>, TooHeavy<K, V>> {
        let weight = self.weight_of(&key, &value);
        self.insert_weighed(key, value, weight)
    }

    /// Inserts an entry that is charged `weight` bytes, overhead included. The weigher is not
    /// asked.
    ///
    /// # Errors
    /// [`TooHeavy`], as [`insert`](Self::insert).
    pub fn insert_weighed(&mut self, key: K, value: V, weight: usize) -> Result<Option<V>, TooHeavy<K, V>> {
        let change = self.store.insert(key, value, weight);
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
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.remove_entry(key).map(|entry| entry.value)
    }

    /// Removes the entry of `key` and returns it with the cache's own key and its charge
    /// ([`Removal::Removed`]).
    pub fn remove_entry<Q>(&mut self, key: &Q) -> Option<Entry<K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let entry = self.store.remove(key)?;
        self.tell(&entry, Removal::Removed);
        Some(entry)
    }

    /// Removes the least recently used entry and returns it ([`Removal::Removed`]).
    pub fn pop_lru(&mut self) -> Option<Entry<K, V>> {
        let entry = self.store.pop_lru()?;
        self.tell(&entry, Removal::Removed);
        Some(entry)
    }

    /// Removes all entries and gives the index's memory back.
    ///
    /// The listener hears of every entry, least recent first ([`Removal::Cleared`]).
    #[doc(alias = "invalidate_all")]
    pub fn clear(&mut self) {
        let mut cleared = self.store.take();
        if self.listener.is_none() {
            return;
        }
        while let Some(entry) = cleared.pop_lru() {
            self.tell(&entry, Removal::Cleared);
        }
    }

    /// Changes the budget and evicts entries until the rest fits ([`Removal::Size`]).
    pub fn resize(&mut self, max_bytes: usize) {
        for entry in self.store.resize(max_bytes).iter() {
            self.tell(entry, Removal::Size);
        }
    }

    /// Keys and values from the most to the least recently used. `.rev()` is the order of eviction.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter(self.store.iter())
    }

    /// The number of entries.
    #[doc(alias = "entry_count")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.store.len()
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
        self.store.bytes()
    }

    /// The budget, in bytes.
    #[must_use]
    pub fn max_bytes(&self) -> usize {
        self.store.max_bytes()
    }

    /// Tells the listener. The store must be whole again, since the listener may panic.
    fn tell(&self, entry: &Entry<K, V>, why: Removal) {
        if let Some(listener) = &self.listener {
            listener(&entry.key, &entry.value, why);
        }
    }
}

// By hand, so that keys and values need no `Debug` and do not end up in logs.
impl<K: Hash + Eq, V, S: BuildHasher + Clone> fmt::Debug for Cache<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("len", &self.len())
            .field("bytes", &self.bytes())
            .field("max_bytes", &self.max_bytes())
            .finish_non_exhaustive()
    }
}

impl<'a, K: Hash + Eq, V, S: BuildHasher + Clone> IntoIterator for &'a Cache<K, V, S> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

/// Keys and values from the most to the least recently used, made by [`Cache::iter`].
pub struct Iter<'a, K, V>(lru::Iter<'a, K, Slot<V>>);

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, slot)| (key, &slot.value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<K, V> DoubleEndedIterator for Iter<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(key, slot)| (key, &slot.value))
    }
}

impl<K, V> ExactSizeIterator for Iter<'_, K, V> {}
impl<K, V> FusedIterator for Iter<'_, K, V> {}

impl<K, V> Clone for Iter<'_, K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> fmt::Debug for Iter<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("len", &self.len()).finish()
    }
}
