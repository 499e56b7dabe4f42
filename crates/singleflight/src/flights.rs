//! Which keys are in flight: the table, the guard under which it is asked, and what joining it
//! gives.

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};

use hashbrown::Equivalent;

use crate::flight::Flight;
use crate::leader::Leader;
use crate::sync::{Arc, MutexGuard};
use crate::table::{Entry, Mapped, Table};
use crate::waiter::Waiter;

/// Enough that threads seldom meet on one, while an idle table stays at 8 KiB.
const SHARDS_DEFAULT: usize = 64;
/// More would be memory without use.
const SHARDS_MAX: usize = 1 << 16;
/// The keys in flight, each with one leader and any number of waiters.
///
/// It holds a key only while its flight is on, so it is as large as the number of leaders alive.
/// Cloning gives another handle to the same table.
///
/// ```
/// use peercache_singleflight::{Flights, Join};
///
/// let flights: Flights<String, u32> = Flights::new();
/// let Join::Lead(leader) = flights.lock("a").join("a".to_owned()) else { panic!("nobody flies yet") };
/// assert!(matches!(flights.lock("a").join("a".to_owned()), Join::Wait(_)));
/// leader.finish(1);
/// assert!(flights.is_empty());
/// ```
pub struct Flights<K, T, S = RandomState> {
    table: Arc<Table<K, T, S>>,
}

impl<K, T> Flights<K, T> {
    /// A table of 64 shards that hashes keys as std's `HashMap` does: seeded at random, so that
    /// nobody can choose keys that collide.
    pub fn new() -> Self {
        Self::with_hasher(RandomState::new())
    }
}

impl<K, T, S> Flights<K, T, S> {
    /// A table of 64 shards with a hasher of your own. Where strangers choose the keys, let it be
    /// seeded.
    pub fn with_hasher(hasher: S) -> Self {
        Self::with_shards(SHARDS_DEFAULT, hasher)
    }

    /// A table of `shards` shards, rounded up to a power of two between 1 and 65,536; 128 bytes
    /// each.
    pub fn with_shards(shards: usize, hasher: S) -> Self {
        let shards = shards.clamp(1, SHARDS_MAX).next_power_of_two();
        Self { table: Arc::new(Table::new(shards, hasher)) }
    }

    /// How many keys are in flight: a count shard by shard, exact when nothing moves meanwhile.
    pub fn len(&self) -> usize {
        self.table.shards().map(|mapped| mapped.len()).sum()
    }

    /// Whether no key is in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// [Forgets](Shard::forget) every flight, shard by shard, and returns how many. Flights that
    /// start meanwhile may be forgotten or not; those that were on when it was called all are.
    pub fn forget_all(&self) -> usize {
        self.detach_all().len()
    }

    /// [Detaches](Shard::detach) every flight, shard by shard, as [`forget_all`](Self::forget_all).
    pub fn detach_all(&self) -> Vec<Detached<K, T>> {
        self.table.shards().flat_map(|mut mapped| mapped.take_all()).map(|entry| Detached { entry }).collect()
    }
}

impl<K, T, S: BuildHasher> Flights<K, T, S> {
    /// Locks the shard of `key`, which is chosen by its hash alone: keys that hash alike lie in one
    /// shard, under one lock.
    ///
    /// What is done under the guard is one step to everyone else, so this is where a caller looks
    /// once more whether it needs a flight at all. Drop the guard as soon as you have joined, and
    /// take no second one while you hold it.
    pub fn lock<Q: Hash + ?Sized>(&self, key: &Q) -> Shard<'_, K, T, S> {
        let hash = self.table.hash(key);
        Shard { table: &self.table, mapped: self.table.shard(hash), hash }
    }

    /// Locks, [forgets](Shard::forget), unlocks.
    pub fn forget<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        self.lock(key).forget(key)
    }
}

/// A locked shard of [`Flights`], for the key it was locked with and for all keys of the same hash.
///
/// A method that is given a key of another hash panics in a debug build; otherwise it behaves as if
/// that were another table.
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

    /// As [`join`](Self::join), making the owned key only if a flight starts: one who merely waits
    /// allocates none. The key that `own` returns must be equivalent to `key`.
    pub fn join_with<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q, own: impl FnOnce() -> K) -> Join<K, T, S>
    where
        K: Hash,
    {
        match self.find(key) {
            Some(flight) => Join::wait(flight),
            None => self.lead(own()),
        }
    }

    /// Whether `key` is in flight.
    pub fn contains<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        self.find(key).is_some()
    }

    /// Detaches the flight of `key` and says whether there was one. Those who wait for it still get
    /// its result; its leader can no longer write what it brings ([`Leader::publish`]); the next
    /// caller starts a new flight.
    pub fn forget<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) -> bool {
        self.detach(key).is_some()
    }

    /// As [`forget`](Self::forget), for those who do not want its waiters to wait on:
    /// [`Detached::tell`] gives them another result, there and then.
    pub fn detach<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) -> Option<Detached<K, T>> {
        self.check(key);
        let entry = self.mapped.take(self.hash, |entry| key.equivalent(&entry.key))?;
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

/// What joining gives: the first caller of a key leads, the others wait.
#[derive(Debug)]
#[must_use = "a leader that is dropped abandons its flight"]
pub enum Join<K, T, S = RandomState> {
    /// Nobody was flying: it is on us to bring the result.
    Lead(Leader<K, T, S>),
    /// Someone is: it will bring ours too.
    Wait(Waiter<T>),
}

impl<K, T, S> Join<K, T, S> {
    fn wait(flight: &Arc<Flight<T>>) -> Self {
        flight.join();
        Self::Wait(Waiter::new(Arc::clone(flight)))
    }
}

/// A flight that the table no longer maps to its key. Its leader flies on; dropping this changes
/// nothing for those who wait.
pub struct Detached<K, T> {
    entry: Entry<K, T>,
}

impl<K, T> Detached<K, T> {
    /// The key it was for.
    pub fn key(&self) -> &K {
        &self.entry.key
    }

    /// Gives `result` to everyone who waits, unless the leader was first. What the leader brings
    /// later reaches nobody.
    ///
    /// It wakes tasks: drop the shard's guard before.
    pub fn tell(self, result: T) {
        self.entry.flight.land(Ok(result));
    }
}

impl<K: fmt::Debug, T> fmt::Debug for Detached<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detached").field("key", self.key()).finish_non_exhaustive()
    }
}

impl<K, T, S> Clone for Flights<K, T, S> {
    /// Another handle to the same table.
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
