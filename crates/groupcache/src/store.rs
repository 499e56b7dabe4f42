//! The state of a group's keys (cached values, flights, recent failures) and the order of changes.
//!
//! The lock of a key's shard in the flight table orders everything about the key. The second
//! lookup, publishing, removing and setting happen under it. The locks of the cache and of the
//! back-off nest inside. A hit takes the lock of its cache shard alone.
//!
//! Three rules prevent the races below. `tests/loom.rs` checks the interleavings of this file.
//!
//! 1. A flight publishes only while the table maps the key to that very flight.
//! 2. A change detaches the key's flights under the same lock as it changes the cache.
//! 3. A flight starts only after a second lookup, under the lock.
//!
//! # A removed key must not come back
//!
//! ```text
//! load                                    remove (or set)
//! 1. reads "old" at the origin
//!                                         2. locks the shard, detaches the load, drops the entry
//! 3. locks the shard: the key is no
//!    longer mapped to it, so it writes
//!    nothing
//! ```
//!
//! If the load locks first, it writes "old", and the remove drops that.
//!
//! # A waiter must not get the old value after the remove has returned
//!
//! ```text
//! load                    waiter                     remove
//! 1. reads "old"
//!                         2. joins the load
//!                                                    3. detaches the load
//!                                                    4. tells the waiter to retry, returns
//!                         5. starts a load of its own
//! 6. ends: nobody waits
//! ```
//!
//! # A key must not be loaded twice in a row
//!
//! ```text
//! get A                                   get B
//! 1. misses
//!                                         2. misses, leads, loads, publishes: the flight is over
//! 3. locks the shard, looks up again,
//!    finds the value of B
//! ```
//!
//! # A flight from before a clear must not publish after it
//!
//! ```text
//! clear                                   flight
//! 1. detaches all flights
//!                                         2. a new one starts: it began after the clear did
//! 3. drops all entries
//!                                         4. publishes: as new as the clear asks for
//! ```
//!
//! With 3 before 1, a flight from before the clear could publish in between.

pub(crate) mod backoff;
pub(crate) mod flight;
pub(crate) mod set_order;

use std::sync::Arc;

use peercache_lru::segment::Lane;
use peercache_singleflight::Join;
#[cfg(peercache_loom)]
use {crate::cache::shard::KeyHasher, peercache_lru::EvictionPolicy};

use crate::{
    cache::discarded::Discarded,
    cache::entry::{Entry, Found, Freshness, Requester},
    cache::expiry::Expiry,
    cache::shard::EntryRef,
    cache::{Cache, CacheConfig},
    carrier::Carrier,
    catch_panic::caught,
    error::{Error, ErrorKind},
    key::Key,
    stats::CacheStats,
    store::backoff::{Backoff, BackoffConfig},
    store::flight::{FlightKey, FlightResult, Leader, Outcome, Table, Waiter},
    store::set_order::{SetOrder, Turn},
    value::Value,
};

/// The cache, the flights and the recent failures of a group, changed together.
pub(crate) struct Store<V> {
    cache: Cache<V>,
    flights: Table<V>,
    backoff: Backoff,
    set_order: SetOrder,
}

/// The result of joining the flight of a key.
pub(crate) enum Joined<V> {
    /// The flight is ours: we bring the value.
    Lead(Leader<V>),
    /// Somebody else brings the value, in work that this runtime carries.
    Wait(Waiter<V>, Option<Arc<Carrier>>),
    /// The value has been cached since we missed it.
    Hit(Found<V>),
    /// The key is in back-off, with this error.
    BackedOff(Error),
}

/// The change that a flight makes to the cache.
pub(crate) enum Write<V> {
    /// Caches the entry, charged this many bytes.
    Insert(usize, Entry<V>),
    /// Removes the entry: it holds no more.
    Remove,
    /// Leaves the entry as it is.
    Keep,
}

impl<V: Value> Store<V> {
    pub(crate) fn new(cache: CacheConfig, backoff: BackoffConfig) -> Self {
        let backoff = Backoff::new(backoff, cache.max_bytes, ahash::RandomState::new());
        let set_order = SetOrder::new(ahash::RandomState::new());
        Store { cache: Cache::new(cache), flights: Table::default(), backoff, set_order }
    }

    /// A store with one lock for all flights, and hashes that are the same in every run.
    #[cfg(peercache_loom)]
    pub(crate) fn for_model_check(max_bytes: usize) -> Self {
        let hasher = || ahash::RandomState::with_seeds(1, 2, 3, 4);
        let second = std::time::Duration::from_secs(1);
        let backoff = BackoffConfig { first: second, longest: second, memory: second };
        let cache = CacheConfig { max_bytes, shards: 1, policy: EvictionPolicy::default(), hot_share: 0.125 };
        Store {
            cache: Cache::with_hasher(cache, KeyHasher::fixed()),
            flights: Table::with_shards(1, hasher()),
            backoff: Backoff::new(backoff, max_bytes, hasher()),
            set_order: SetOrder::new(hasher()),
        }
    }

    // Looking up.

    /// Looks up a key for a get: `read` is run on a hit under the cache's lock, and the lookup is
    /// counted.
    #[inline]
    pub(crate) fn get<R>(
        &self,
        key: &[u8],
        requester: Requester,
        freshness: Freshness,
        now_ms: u64,
        read: impl FnOnce(EntryRef<'_, V>) -> R,
    ) -> Option<R> {
        self.cache.get(key, requester, freshness, now_ms, read)
    }

    /// Looks up a key without counting a lookup or a use.
    pub(crate) fn peek(&self, key: &[u8], requester: Requester, freshness: Freshness, now_ms: u64) -> Option<Found<V>> {
        self.cache.peek(key, requester, freshness, now_ms)
    }

    /// Replaces a loader's error by a stale value, if the group allows one for it.
    pub(crate) fn or_stale(&self, key: &[u8], requester: Requester, error: Error, now_ms: u64) -> Outcome<V> {
        let stale = match error.kind() {
            ErrorKind::LoadFailed | ErrorKind::LoadTimedOut | ErrorKind::Overloaded | ErrorKind::RecursiveLoad => {
                self.cache.stale_fallback(key, requester, now_ms)
            }
            _ => None,
        };
        stale.ok_or(error)
    }

    /// Whether an entry is cached for this key, usable or not.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.cache.contains(key)
    }

    /// Whether an entry of this weight is worth the space that it would take.
    pub(crate) fn admits(&self, weight: usize) -> bool {
        self.cache.admits(weight)
    }

    /// Whether an entry of this weight fits the budget, with an expiry.
    pub(crate) fn fits_with_expiry(&self, weight: usize) -> bool {
        self.cache.fits_with_expiry(weight)
    }

    /// Visits all entries, shard by shard.
    pub(crate) fn for_each(&self, now_ms: u64, visit: impl FnMut(&[u8], Found<V>)) {
        self.cache.for_each(now_ms, visit);
    }

    /// Counts and sizes of main and hot.
    pub(crate) fn cache_stats(&self) -> (CacheStats, CacheStats) {
        self.cache.stats()
    }

    /// The number of loads and fetches in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    // Flights: how one starts, and the two ways in which it ends.

    /// Joins the flight of `key` or starts one. A flight in another runtime that is known not to be
    /// driven is given up.
    pub(crate) fn join(&self, key: FlightKey, requester: Requester, freshness: Freshness, now_ms: u64) -> Joined<V> {
        let mut shard = self.flights.lock(&key);
        // The second lookup: a flight may have published since our miss. A publish happens under
        // this lock, so either its value is here or its flight is still in the table.
        if let Some(found) = self.cache.peek(key.key.as_bytes(), requester, freshness, now_ms) {
            return Joined::Hit(found);
        }
        if key.is_load()
            && !shard.contains(&key)
            && let Some(error) = self.backoff.error(&key.key, now_ms)
        {
            return Joined::BackedOff(error);
        }
        let carrier = shard.key(&key).and_then(|found| found.carrier.clone());
        let is_stranded = carrier.as_ref().is_some_and(|carrier| !carrier.is_alive() && !key.is_carried_by(carrier));
        let stranded = if is_stranded { shard.detach(&key) } else { None };
        let joined = match shard.join(key) {
            Join::Wait(waiter) => Joined::Wait(waiter, carrier),
            Join::Lead(leader) => Joined::Lead(leader),
        };
        drop(shard);
        if let Some(stranded) = stranded {
            stranded.tell(FlightResult::Abandoned);
        }
        joined
    }

    /// Gives up the flight that `waiter` waits for: its waiters start again, and its result will
    /// not be written.
    pub(crate) fn give_up(&self, key: &FlightKey, waiter: &Waiter<V>) {
        let detached = self.flights.lock(key).detach_awaited(key, waiter);
        if let Some(detached) = detached {
            detached.tell(FlightResult::Abandoned);
        }
    }

    /// Ends a load from outside with an error, which has the key pause. If it was still in
    /// progress, `before_told` runs before its waiters go on.
    pub(crate) fn end_overdue(
        &self,
        key: &Key,
        waiter: &Waiter<V>,
        error: Error,
        now_ms: u64,
        before_told: impl FnOnce(),
    ) {
        let flight = FlightKey::load(key.clone());
        let mut shard = self.flights.lock(&flight);
        let Some(detached) = shard.detach_awaited(&flight, waiter) else { return };
        self.backoff.record_failure(key, error.clone(), now_ms, self.cache.budget());
        drop(shard);
        before_told();
        detached.tell(FlightResult::Done(Err(error)));
    }

    /// Ends a flight with a value or a "not found". `place` is asked under the lock for the lane
    /// and the expiry of an entry to insert; `None` caches nothing.
    pub(crate) fn publish(
        &self,
        leader: Leader<V>,
        key: &Key,
        outcome: Outcome<V>,
        write: Write<V>,
        place: impl FnOnce() -> Option<(Lane, Expiry)>,
    ) {
        // Both outlive the lock, so that the values in them are dropped outside of it.
        let mut unpublished = Some((outcome, write));
        let mut discarded = Discarded::default();
        leader.finish_with(|still_mapped| {
            if !still_mapped {
                return FlightResult::Retry;
            }
            let (outcome, write) = unpublished.take().expect("it is taken here only");
            self.backoff.forget(key, self.cache.budget());
            discarded = match write {
                Write::Insert(weight, entry) => self.cache.insert(weight, entry, place),
                Write::Remove => self.cache.remove(key.as_bytes()),
                Write::Keep => Discarded::default(),
            };
            FlightResult::Done(outcome)
        });
        drop(discarded);
    }

    /// Ends a flight with an error, and has the key pause if that is wanted.
    pub(crate) fn fail(&self, leader: Leader<V>, key: &Key, error: Error, back_off: bool, now_ms: u64) {
        // Outside the lock: it asks the loader's error for its text.
        let kept = (back_off && self.backoff.is_on()).then(|| kept(&error));
        leader.finish_with(|still_mapped| {
            if !still_mapped {
                return FlightResult::Retry;
            }
            if let Some(kept) = kept {
                self.backoff.record_failure(key, kept, now_ms, self.cache.budget());
            }
            FlightResult::Done(Err(error))
        });
    }

    // Changes that come from outside a flight.

    /// Runs `change` on the cache, so that no flight of the key from before it publishes after it.
    /// If it changes nothing, which is `None`, the flights go on.
    ///
    /// Every remove and set comes through here. The steps are: lock the key's shard, change, detach
    /// its flights, unlock, drop the discarded values, tell the waiters to retry. The last two are
    /// outside the lock: a value's drop may take its time, and a waiter that wakes may ask for the
    /// key at once.
    fn change(&self, key: &Key, change: impl FnOnce() -> Option<Discarded<V>>) {
        let (load, fetch) = (FlightKey::load(key.clone()), FlightKey::fetch(key.clone()));
        let mut shard = self.flights.lock(&load);
        let discarded = change();
        let detached = discarded.is_some().then(|| [shard.detach(&load), shard.detach(&fetch)]);
        drop(shard);
        drop(discarded);
        detached.into_iter().flatten().flatten().for_each(|flight| flight.tell(FlightResult::Retry));
    }

    /// The same of all keys, for a clear.
    fn change_all(&self, change: impl FnOnce()) {
        // Shard by shard, with no lock held after: see the last race above.
        let mut detached = self.flights.detach_all();
        // The table's order differs from run to run. Retries must not, so that a simulated run can
        // be repeated.
        detached.sort_unstable_by(|one, other| one.key().cmp(other.key()));
        change();
        detached.into_iter().for_each(|flight| flight.tell(FlightResult::Retry));
    }

    /// The order of this group's sets.
    pub(crate) fn set_order(&self) -> &SetOrder {
        &self.set_order
    }

    /// Removes the key, and with it its back-off.
    pub(crate) fn remove(&self, key: &Key) {
        self.change(key, || {
            self.backoff.forget(key, self.cache.budget());
            Some(self.cache.remove(key.as_bytes()))
        });
    }

    /// Removes the key for a removal made `age_ms` ago, unless it was set since.
    pub(crate) fn remove_late(&self, key: &Key, age_ms: u64, now_ms: u64) {
        self.change(key, || {
            let is_newer = self.cache.was_set_within(key.as_bytes(), age_ms, now_ms);
            Some(if is_newer { Discarded::default() } else { self.cache.remove(key.as_bytes()) })
        });
    }

    /// Caches this value for the key, whatever is in flight for it, if `turn` says under the lock
    /// that it is the latest change. Otherwise the cache stays as it is, and flights go on.
    pub(crate) fn set(
        &self,
        key: &Key,
        weight: usize,
        entry: Entry<V>,
        place: impl FnOnce() -> Option<(Lane, Expiry)>,
        turn: impl FnOnce() -> Turn,
    ) -> Turn {
        let mut taken = Turn::Superseded;
        // It outlives the lock, so that the value in it is dropped outside of it.
        let mut entry = Some(entry);
        self.change(key, || {
            taken = turn();
            let entry = entry.take_if(|_| taken == Turn::Latest)?;
            self.backoff.forget(key, self.cache.budget());
            Some(self.cache.insert(weight, entry, place))
        });
        taken
    }

    /// Removes all keys, and all back-offs.
    pub(crate) fn clear(&self) {
        self.change_all(|| {
            self.cache.clear();
            self.backoff.clear(self.cache.budget());
        });
    }

    /// Removes all keys for a clear made `age_ms` ago, but for those that were set since.
    pub(crate) fn clear_late(&self, age_ms: u64, now_ms: u64) {
        self.change_all(|| self.cache.clear_late(age_ms, now_ms));
    }

    // Changes that no flight can undo, and that need no order with flights.

    /// The time before which [`sweep`](Store::sweep) has nothing to do.
    pub(crate) fn next_due_ms(&self) -> u64 {
        self.cache.next_expiry_ms().min(self.backoff.next_due_ms())
    }

    /// Takes out what has expired; `between` runs between batches.
    pub(crate) fn sweep(&self, now_ms: u64, between: impl Fn()) {
        self.cache.sweep(now_ms, between);
        self.backoff.sweep(now_ms, self.cache.budget());
    }

    /// Moves entries that have another owner now from main to hot.
    pub(crate) fn reassign(&self, owns: impl Fn(&[u8]) -> bool, shortened: impl Fn(Expiry) -> Option<Expiry>) {
        self.cache.reassign(owns, shortened);
    }
}

/// The part of an error that may be kept for longer than its waiters hold it.
fn kept(error: &Error) -> Error {
    caught("the error's text", || error.to_text()).unwrap_or_else(|panic| panic)
}
