//! What a node knows of its keys: what is cached, what is on its way, what has just failed; and the order in which that changes.
//!
//! The lock of a key's shard in the flight table orders everything about the key: the second look, publishing, removing and
//! setting happen under it, and the locks of the cache and of the failures nest inside. A flight publishes only while the table
//! maps the key to that very flight, and remove and set detach it. So a removed key never comes back. The model check in
//! `tests/loom.rs` runs this file.

pub(crate) mod backoff;
pub(crate) mod flight;

use peercache_singleflight::{Detached, Join};
#[cfg(peercache_loom)]
use {crate::cache::Shape, ahash::RandomState, peercache_lru::EvictionPolicy};

use crate::{
    cache::Cache,
    cache::discarded::Discarded,
    cache::entry::{Entry, Found, Freshness, Place, Requester},
    cache::expiry::Expiry,
    cache::shard::Seen,
    error::Error,
    key::Key,
    stats::CacheStats,
    store::backoff::Backoff,
    store::flight::{FlightKey, FlightResult, Leader, Outcome, Table, Waiter},
    value::Value,
};

pub(crate) struct Store<V> {
    cache: Cache<V>,
    flights: Table<V>,
    backoff: Backoff,
}

/// Where one stands who asked for a flight.
pub(crate) enum Joined<V> {
    /// It is on us to bring the value.
    Lead(Leader<V>),
    /// Another brings it.
    Wait(Waiter<V>),
    /// It is there by now.
    Hit(Found<V>),
    /// It failed a moment ago.
    BackedOff(Error),
}

/// What a flight brings to the cache.
pub(crate) enum Write<V> {
    /// An entry, charged so many bytes.
    Entry(usize, Entry<V>),
    /// That what is there holds no more.
    Nothing,
    /// No news.
    Keep,
}

impl<V: Value> Store<V> {
    pub(crate) fn new(cache: Cache<V>, backoff: Backoff) -> Self {
        Store { cache, flights: Table::default(), backoff }
    }

    /// Under a model check: one lock for all flights, and hashes that do not differ from run to run.
    #[cfg(peercache_loom)]
    pub(crate) fn for_model_check(max_bytes: usize) -> Self {
        let hasher = || RandomState::with_seeds(1, 2, 3, 4);
        let second = std::time::Duration::from_secs(1);
        Store {
            cache: Cache::with_hasher(
                Shape { max_bytes, shards: 1, policy: EvictionPolicy::default(), hot_share: 0.125 },
                foldhash::fast::SeedableRandomState::fixed(),
            ),
            flights: Table::with_shards(1, hasher()),
            backoff: Backoff::new(second, second, second, max_bytes, hasher()),
        }
    }

    /// Joins the flight of `key` or starts one.
    pub(crate) fn join(&self, key: FlightKey, requester: Requester, freshness: Freshness, now_ms: u64) -> Joined<V> {
        let mut shard = self.flights.lock(&key);
        // Look again: a flight may have landed between our miss and our turn, and its value is in the cache by now.
        // Both happen under the shard's lock, so there is no moment between them.
        if let Some(found) = self.cache.peek(key.key.as_bytes(), requester, freshness, now_ms) {
            return Joined::Hit(found);
        }
        if key.is_load()
            && !shard.contains(&key)
            && let Some(error) = self.backoff.error(&key.key, now_ms)
        {
            return Joined::BackedOff(error);
        }
        match shard.join(key) {
            Join::Wait(waiter) => Joined::Wait(waiter),
            Join::Lead(leader) => Joined::Lead(leader),
        }
    }

    /// Ends a flight with a value or a "not found", where and with what life `place` says under the lock.
    pub(crate) fn publish(
        &self,
        leader: Leader<V>,
        key: Key,
        outcome: Outcome<V>,
        write: Write<V>,
        place: impl FnOnce() -> Option<(Place, Expiry)>,
    ) {
        let mut left = (None, Discarded::default());
        let mut brought = Some((outcome, write));
        leader.finish_with(|still_mapped| {
            // What is not wanted any more is dropped outside the lock.
            if !still_mapped {
                return FlightResult::Retry;
            }
            let (outcome, write) = brought.take().expect("it is taken here only");
            self.backoff.forget(&key, self.cache.budget());
            left.1 = match write {
                Write::Entry(weight, entry) => self.cache.insert(weight, entry, place),
                Write::Nothing => self.cache.remove(key.as_bytes()),
                Write::Keep => Discarded::default(),
            };
            left.0 = Some(key);
            FlightResult::Done(outcome)
        });
    }

    /// Ends a flight with an error.
    pub(crate) fn fail(&self, leader: Leader<V>, key: &Key, error: Error, back_off: bool, now_ms: u64) {
        leader.finish_with(|still_mapped| {
            if !still_mapped {
                return FlightResult::Retry;
            }
            if back_off {
                self.backoff.failed(key, &error, now_ms, self.cache.budget());
            }
            FlightResult::Done(Err(error))
        });
    }

    /// The error, or a stale value if the group allows one for it.
    pub(crate) fn or_stale(&self, key: &[u8], requester: Requester, error: Error, now_ms: u64) -> Outcome<V> {
        use crate::ErrorKind::{LoadFailed, LoadTimedOut, Overloaded};
        let rescue = match error.kind() {
            LoadFailed | LoadTimedOut | Overloaded => self.cache.spare(key, requester, now_ms),
            _ => None,
        };
        rescue.ok_or(error)
    }

    /// Forgets the key. What is on its way reaches neither the cache nor those who wait for it: they depart anew.
    pub(crate) fn remove(&self, key: &Key) {
        let (load, fetch) = (FlightKey::load(key.clone()), FlightKey::fetch(key.clone()));
        let mut shard = self.flights.lock(&load);
        let detached = [shard.detach(&load), shard.detach(&fetch)];
        let removed = self.cache.remove(key.as_bytes());
        self.backoff.forget(key, self.cache.budget());
        drop(shard);
        drop(removed);
        detached.into_iter().flatten().for_each(send_back);
    }

    /// Forgets the key because of a removal that is so long ago, unless it was set since.
    pub(crate) fn remove_late(&self, key: &Key, age_ms: u64, now_ms: u64) {
        let (load, fetch) = (FlightKey::load(key.clone()), FlightKey::fetch(key.clone()));
        let mut shard = self.flights.lock(&load);
        let detached = [shard.detach(&load), shard.detach(&fetch)];
        let removed = if self.cache.was_set_within(key.as_bytes(), age_ms, now_ms) {
            Discarded::default()
        } else {
            self.cache.remove(key.as_bytes())
        };
        drop(shard);
        drop(removed);
        detached.into_iter().flatten().for_each(send_back);
    }

    /// Forgets everything because of a clear that is so long ago, but for what was set since.
    pub(crate) fn clear_late(&self, age_ms: u64, now_ms: u64) {
        let mut detached = self.flights.detach_all();
        detached.sort_unstable_by(|one, other| one.key().cmp(other.key()));
        self.cache.clear_but(age_ms, now_ms);
        detached.into_iter().for_each(send_back);
    }

    /// Holds this value for the key, whatever is on its way.
    pub(crate) fn set(
        &self,
        key: &Key,
        weight: usize,
        entry: Entry<V>,
        place: impl FnOnce() -> Option<(Place, Expiry)>,
    ) {
        let (load, fetch) = (FlightKey::load(key.clone()), FlightKey::fetch(key.clone()));
        let mut shard = self.flights.lock(&load);
        let detached = [shard.detach(&load), shard.detach(&fetch)];
        let replaced = self.cache.insert(weight, entry, place);
        self.backoff.forget(key, self.cache.budget());
        drop(shard);
        drop(replaced);
        detached.into_iter().flatten().for_each(send_back);
    }

    /// Forgets everything. The flights first: one that starts after that began after the clear did.
    pub(crate) fn clear(&self) {
        let mut detached = self.flights.detach_all();
        // The table's order differs from run to run, and what departs anew is not to: a simulated run can be repeated.
        detached.sort_unstable_by(|one, other| one.key().cmp(other.key()));
        self.cache.clear();
        self.backoff.clear(self.cache.budget());
        detached.into_iter().for_each(send_back);
    }

    /// Frees what has ended.
    pub(crate) fn sweep(&self, now_ms: u64, between: impl Fn()) {
        self.cache.sweep(now_ms, between);
        self.backoff.sweep(now_ms, self.cache.budget());
    }

    /// Loads and fetches under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// A hit, with what `read` makes of it; it counts as a look-up.
    #[inline]
    pub(crate) fn get<R>(
        &self,
        key: &[u8],
        requester: Requester,
        freshness: Freshness,
        now_ms: u64,
        read: impl FnOnce(Seen<'_, V>) -> R,
    ) -> Option<R> {
        self.cache.get(key, requester, freshness, now_ms, read)
    }

    /// What is cached, without counting a look-up or a use.
    pub(crate) fn peek(&self, key: &[u8], requester: Requester, freshness: Freshness, now_ms: u64) -> Option<Found<V>> {
        self.cache.peek(key, requester, freshness, now_ms)
    }

    /// Visits what is cached, shard by shard.
    pub(crate) fn for_each(&self, now_ms: u64, visit: impl FnMut(Place, &[u8], Found<V>)) {
        self.cache.for_each(now_ms, visit);
    }

    /// Moves entries that have changed hands between main and hot.
    pub(crate) fn reassign(&self, owns: impl Fn(&[u8]) -> bool, copied: impl Fn(Expiry) -> Option<Expiry>) {
        self.cache.reassign(owns, copied);
    }

    /// Whether anything is cached under this key, of use or not.
    pub(crate) fn holds(&self, key: &[u8]) -> bool {
        self.cache.holds(key)
    }

    /// Whether an entry of this weight is worth the room that it would take.
    pub(crate) fn admits(&self, weight: usize) -> bool {
        self.cache.admits(weight)
    }

    /// Whether an entry of this weight that expires fits the budget.
    pub(crate) fn fits_with_end(&self, weight: usize) -> bool {
        self.cache.fits_with_end(weight)
    }

    /// What main and hot have counted and hold.
    pub(crate) fn cache_stats(&self) -> (CacheStats, CacheStats) {
        self.cache.stats()
    }
}

fn send_back<V>(detached: Detached<FlightKey, FlightResult<V>>) {
    detached.tell(FlightResult::Retry);
}
