//! The keys in flight: to join a flight or start it, to forget and to detach it, under a lock.

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};

use hashbrown::Equivalent;

use crate::flight::Flight;
use crate::leader::Leader;
use crate::sync::{Arc, MutexGuard};
use crate::table::{Entry, Mapped, Table};
use crate::waiter::Waiter;

/// The default number of shards: threads rarely meet on one, and an idle table takes 8 KiB.
const SHARDS_DEFAULT: usize = 64;

/// The most shards. More would be memory without use.
const MAX_SHARDS: usize = 1 << 16;

/// The keys in flight, each with one leader and any number of waiters.
///
/// It holds a key only while its flight is on, so it is as large as the number of leaders alive.
/// Cloning gives another handle to the same table.
///
/// ```
/// use peercache_singleflight::{Flights, Join};
///
/// let flights: Flights<String, u32> = Flights::new();
/// let join = || flights.lock("a").join("a".to_owned());
/// let Join::Lead(leader) = join() else { panic!("there was no flight") };
/// assert!(matches!(join(), Join::Wait(_)));
/// leader.finish(1);
/// assert!(flights.is_empty());
/// ```
pub struct Flights<K, T, S = RandomState> {
    table: Arc<Table<K, T, S>>,
}

impl<K, T> Flights<K, T> {
    /// Makes a table of 64 shards that hashes keys as std's `HashMap` does.
    ///
    /// The hash is seeded at random, so that nobody can choose keys that collide.
    pub fn new() -> Self {
        Self::with_hasher(RandomState::new())
    }
}

impl<K, T, S> Flights<K, T, S> {
    /// Makes a table of 64 shards with a hasher of your own.
    ///
    /// Where strangers choose the keys, let it be seeded.
    pub fn with_hasher(hasher: S) -> Self {
        Self::with_shards(SHARDS_DEFAULT, hasher)
    }

    /// Makes a table of `shards` shards, rounded up to a power of two between 1 and 65,536.
    ///
    /// Each takes 128 bytes.
    pub fn with_shards(shards: usize, hasher: S) -> Self {
        let shards = shards.clamp(1, MAX_SHARDS).next_power_of_two();
        Self { table: Arc::new(Table::new(shards, hasher)) }
    }

    /// The number of keys in flight, counted shard by shard: exact when nothing moves meanwhile.
    pub fn len(&self) -> usize {
        self.table.shards().map(|mapped| mapped.len()).sum()
    }

    /// Whether no key is in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// [Forgets](Shard::forget) every flight, shard by shard, and returns their number.
    ///
    /// All flights of the moment of the call are forgotten. Those that start meanwhile may be.
    pub fn forget_all(&self) -> usize {
        self.detach_all().len()
    }

    /// [Detaches](Shard::detach) every flight, shard by shard, as
    /// [`forget_all`](Self::forget_all) does.
    pub fn detach_all(&self) -> Vec<Detached<K, T>> {
        self.table.shards().flat_map(|mut mapped| mapped.take_all()).map(|entry| Detached { entry }).collect()
    }
}

impl<K, T, S: BuildHasher> Flights<K, T, S> {
    /// Locks the shard of `key`, which is chosen by its hash alone: keys that hash alike lie in one
    /// shard, under one lock.
    ///
    /// Everything done under the guard is one step to all other threads. So this is where a caller
    /// looks again whether it needs a flight at all. Drop the guard as soon as you have joined, and
    /// take no second one while you hold it.
    pub fn lock<Q: Hash + ?Sized>(&self, key: &Q) -> Shard<'_, K, T, S> {
        let hash = self.table.hash(key);
        Shard { table: &self.table, mapped: self.table.shard(hash), hash }
    }

    /// [Forgets](Shard::forget) the flight of `key`, and says whether there was one.
    pub fn forget<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        self.lock(key).forget(key)
    }
}

/// A locked shard of [`Flights`], for the key it was locked with and for all keys of the same hash.
///
/// A method that is given a key of another hash panics in a debug build. In a release build it
/// behaves as if that key were in another table.
#[must_use = "the shard is locked until this is dropped"]
pub struct Shard<'a, K, T, S = RandomState> {
    table: &'a Arc<Table<K, T, S>>,
    mapped: MutexGuard<'a, Mapped<K, T>>,
    hash: u64,
}

impl<K, T, S: BuildHasher> Shard<'_, K, T, S> {
    /// Joins the flight of `key`, or starts one.
    pub fn join(&mut self, key: K) -> Join<K, T, S>
    where
        K: Hash + Eq,
    {
        match self.find(&key) {
            Some(flight) => Join::wait(flight),
            None => self.lead(key),
        }
    }

    /// Joins the flight of `key`, or starts one with the key that `to_owned` makes.
    ///
    /// A caller that waits allocates no key. The owned key must be equivalent to `key`.
    pub fn join_with<Q: Hash + Equivalent<K> + ?Sized>(
        &mut self,
        key: &Q,
        to_owned: impl FnOnce() -> K,
    ) -> Join<K, T, S>
    where
        K: Hash,
    {
        match self.find(key) {
            Some(flight) => Join::wait(flight),
            None => self.lead(to_owned()),
        }
    }

    /// Whether `key` is in flight.
    pub fn contains<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        self.find(key).is_some()
    }

    /// The key of the flight, as the caller that leads it gave it.
    pub fn key<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<&K> {
        self.check(key);
        self.mapped.find(self.hash, |entry| key.equivalent(&entry.key)).map(|entry| &entry.key)
    }

    /// Removes the flight of `key` from the table, and says whether there was one.
    ///
    /// Its waiters still get its result, but its leader can no longer write it
    /// ([`Leader::publish`]). The next caller starts a new flight.
    pub fn forget<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) -> bool {
        self.detach(key).is_some()
    }

    /// Removes the flight of `key` from the table and returns it.
    ///
    /// This is [`forget`](Self::forget) for when its waiters should not wait on:
    /// [`Detached::tell`] gives them another result at once.
    pub fn detach<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) -> Option<Detached<K, T>> {
        self.check(key);
        let entry = self.mapped.take(self.hash, |entry| key.equivalent(&entry.key))?;
        Some(Detached { entry })
    }

    /// Removes the flight that `waiter` waits for from the table and returns it, if it is still
    /// there. `key` is the key of that flight.
    ///
    /// This is [`detach`](Self::detach) for a caller that has given up one flight, and must not
    /// disturb the one that may have followed it.
    pub fn detach_awaited<Q: Hash + ?Sized>(&mut self, key: &Q, waiter: &Waiter<T>) -> Option<Detached<K, T>> {
        self.check(key);
        let entry = self.mapped.unmap(self.hash, waiter.flight())?;
        Some(Detached { entry })
    }

    fn find<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<&Arc<Flight<T>>> {
        self.check(key);
        self.mapped.find(self.hash, |entry| key.equivalent(&entry.key)).map(|entry| &entry.flight)
    }

    fn lead(&mut self, key: K) -> Join<K, T, S>
    where
        K: Hash,
    {
        self.check(&key);
        let flight = Arc::new(Flight::new());
        let leader = Leader::new(Arc::clone(self.table), Arc::clone(&flight), self.hash);
        self.mapped.insert(Entry { hash: self.hash, key, flight });
        Join::Lead(leader)
    }

    fn check<Q: Hash + ?Sized>(&self, key: &Q) {
        debug_assert_eq!(self.hash, self.table.hash(key), "the shard was locked for a key of another hash");
    }
}

/// The outcome of a join: the first caller of a key leads, the others wait.
#[derive(Debug)]
#[must_use = "a leader that is dropped abandons its flight"]
pub enum Join<K, T, S = RandomState> {
    /// There was no flight. This caller must bring the result.
    Lead(Leader<K, T, S>),
    /// There is a flight. Its leader brings the result.
    Wait(Waiter<T>),
}

impl<K, T, S> Join<K, T, S> {
    fn wait(flight: &Arc<Flight<T>>) -> Self {
        flight.join();
        Self::Wait(Waiter::new(Arc::clone(flight)))
    }
}

/// A flight that is no longer in the table. To drop this changes nothing for leader and waiters.
pub struct Detached<K, T> {
    entry: Entry<K, T>,
}

impl<K, T> Detached<K, T> {
    /// The key of the flight.
    pub fn key(&self) -> &K {
        &self.entry.key
    }

    /// Gives `result` to all waiters, unless the leader was first. A later result of the leader
    /// reaches nobody.
    ///
    /// It wakes tasks: drop the shard's guard before.
    pub fn tell(self, result: T) {
        self.entry.flight.complete(Ok(result));
    }
}

impl<K: fmt::Debug, T> fmt::Debug for Detached<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detached").field("key", self.key()).finish_non_exhaustive()
    }
}

impl<K, T, S> Clone for Flights<K, T, S> {
    /// Makes another handle to the same table.
    fn clone(&self) -> Self {
        Self { table: Arc::clone(&self.table) }
    }
}

impl<K, T, S: Default> Default for Flights<K, T, S> {
    fn default() -> Self {
        Self::with_hasher(S::default())
    }
}

impl<K, T, S> fmt::Debug for Flights<K, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("shards", &self.table.shard_count()).finish_non_exhaustive()
    }
}

impl<K, T, S> fmt::Debug for Shard<'_, K, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("flights", &self.mapped.len()).finish_non_exhaustive()
    }
}
