//! The table of keys in flight: shards, each behind a lock.

use std::hash::{BuildHasher, Hash};
use std::mem;

use hashbrown::HashTable;

use crate::flight::Flight;
use crate::sync::{Arc, Mutex, MutexGuard, lock};

/// The flights that an empty shard keeps memory for. It gives the rest back after a burst.
const CAPACITY_KEPT: usize = 64;

/// The table that handles and leaders share.
pub(crate) struct Table<K, T, S> {
    shards: Box<[Padded<K, T>]>,
    hasher: S,
}

/// A shard, aligned to two cache lines, which processors fetch together, so that a busy shard does
/// not slow its neighbour.
#[repr(align(128))]
struct Padded<K, T>(Mutex<Mapped<K, T>>);

impl<K, T, S> Table<K, T, S> {
    /// A table of `shards` shards, a power of two.
    pub(crate) fn new(shards: usize, hasher: S) -> Self {
        let shards = (0..shards).map(|_| Padded(Mutex::new(Mapped(HashTable::new())))).collect();
        Self { shards, hasher }
    }

    pub(crate) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// Locks one shard after the other, each for as long as it is looked at.
    pub(crate) fn shards(&self) -> impl Iterator<Item = MutexGuard<'_, Mapped<K, T>>> {
        self.shards.iter().map(|shard| lock(&shard.0))
    }

    /// Locks the shard of a hash.
    ///
    /// Bits from the middle choose it, for the map inside a shard uses those at both ends.
    pub(crate) fn shard(&self, hash: u64) -> MutexGuard<'_, Mapped<K, T>> {
        let shard = (hash >> 32) as usize & (self.shards.len() - 1);
        lock(&self.shards[shard].0)
    }
}

impl<K, T, S: BuildHasher> Table<K, T, S> {
    pub(crate) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }
}

/// The flights of one shard.
///
/// While a key is mapped its leader is alive, so no flight is dropped under the lock.
pub(crate) struct Mapped<K, T>(HashTable<Entry<K, T>>);

/// A key in flight. Its hash is kept, so that neither to grow nor to remove hashes a key again.
pub(crate) struct Entry<K, T> {
    pub(crate) hash: u64,
    pub(crate) key: K,
    pub(crate) flight: Arc<Flight<T>>,
}

impl<K, T> Mapped<K, T> {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn find(&self, hash: u64, is_it: impl FnMut(&Entry<K, T>) -> bool) -> Option<&Entry<K, T>> {
        self.0.find(hash, is_it)
    }

    pub(crate) fn insert(&mut self, entry: Entry<K, T>) {
        self.0.insert_unique(entry.hash, entry, |entry| entry.hash);
    }

    pub(crate) fn maps(&self, hash: u64, flight: &Arc<Flight<T>>) -> bool {
        self.0.find(hash, |entry| Arc::ptr_eq(&entry.flight, flight)).is_some()
    }

    /// Frees the key if it is still this flight's. After a forget it may be free, or another's.
    ///
    /// The caller drops the entry when it has unlocked.
    pub(crate) fn unmap(&mut self, hash: u64, flight: &Arc<Flight<T>>) -> Option<Entry<K, T>> {
        self.take(hash, |entry| Arc::ptr_eq(&entry.flight, flight))
    }

    pub(crate) fn take(&mut self, hash: u64, is_it: impl FnMut(&Entry<K, T>) -> bool) -> Option<Entry<K, T>> {
        let (entry, _) = self.0.find_entry(hash, is_it).ok()?.remove();
        if self.0.is_empty() && self.0.capacity() > CAPACITY_KEPT {
            self.0 = HashTable::new();
        }
        Some(entry)
    }

    /// Takes all entries out, and gives the shard's memory back.
    pub(crate) fn take_all(&mut self) -> HashTable<Entry<K, T>> {
        mem::take(&mut self.0)
    }
}

#[cfg(all(test, not(peercache_loom)))]
mod tests {
    use std::hash::RandomState;

    use super::*;

    #[test]
    fn memory_is_given_back_after_a_burst() {
        let table: Table<u64, (), _> = Table::new(1, RandomState::new());
        let mut shard = table.shard(0);
        for key in 0..1000 {
            shard.insert(Entry { hash: key, key, flight: Arc::new(Flight::new()) });
        }
        for key in 0..1000 {
            assert!(shard.take(key, |entry| entry.key == key).is_some());
        }
        assert!(shard.0.capacity() <= CAPACITY_KEPT);
    }
}
