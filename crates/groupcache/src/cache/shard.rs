//! One shard of the cache: everything that is done under its lock, which readers share.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::SeedableRandomState;
use peercache_lru::{
    EvictionPolicy,
    segment::{HasPolicyState, Lane, PolicyState, Segment},
};

use crate::{
    answer::Source,
    cache::budget::Budget,
    cache::discarded::Discarded,
    cache::entry::{CachedEntry, Entry, Found, Freshness, Requester, expiry_bytes, source_of},
    cache::expiry::{Expiry, Stage},
    cache::expiry_queue::ExpiryQueue,
    cache::request_rate::RequestRate,
    key::Key,
    stats::CacheStats,
    value::Value,
};

pub(super) struct Shard<V> {
    segment: Segment<CachedEntry<V>>,
    /// The expiries of the entries that expire.
    expiries: ExpiryQueue,
    hasher: KeyHasher,
    /// The counts of main and hot, but for lookups.
    counts: [CacheStats; 2],
}

/// The result of a lookup.
pub(super) enum Lookup<R> {
    Hit(Lane, R),
    Miss,
    /// The entry has expired and is to be removed.
    Expired,
}

/// An entry that a lookup has found, under the shard's lock.
pub(crate) struct EntryRef<'a, V> {
    shard: &'a Shard<V>,
    slot: u32,
    entry: &'a CachedEntry<V>,
    lane: Lane,
    stage: Stage,
    now_ms: u64,
}

/// The state that a new value takes over from the entry that it replaces.
pub(super) struct Inherited {
    lane: Lane,
    policy_state: PolicyState,
    rate: RequestRate,
}

/// The reason for which an entry leaves, which decides where it is counted.
#[derive(Clone, Copy)]
enum RemovalCause {
    Evicted,
    Expired,
    Replaced,
    Removed,
}

/// The hash of keys, for the choice of a shard and for the index in it.
///
/// Its seed is known to nobody outside. The hashes of a ring are public: a client that knew ours
/// could choose keys that all fall in one place.
#[derive(Clone)]
pub(crate) struct KeyHasher(SeedableRandomState);

const LANES: [Lane; 2] = [Lane::Main, Lane::Hot];

/// The most entries that a sweep takes out before it gives the lock back.
const SWEEP_BATCH: usize = 256;

impl<V: Value> Shard<V> {
    pub(super) fn new(policy: EvictionPolicy, capacity_bytes: usize, hot_share: f64, hasher: KeyHasher) -> Self {
        let segment = Segment::new(policy, capacity_bytes, hot_share);
        Shard { segment, expiries: ExpiryQueue::default(), hasher, counts: [CacheStats::default(); 2] }
    }

    /// Looks up a key and counts a hit as a use of the entry.
    #[inline]
    pub(super) fn get<R>(
        &self,
        hash: u64,
        key: &[u8],
        requester: Requester,
        freshness: Freshness,
        now_ms: u64,
        read: impl FnOnce(EntryRef<'_, V>) -> R,
    ) -> Lookup<R> {
        let Some(found) = self.look_up(hash, key, now_ms) else { return Lookup::Miss };
        if found.stage == Stage::Expired {
            return Lookup::Expired;
        }
        if !found.is_acceptable(requester, freshness) {
            return Lookup::Miss;
        }
        found.entry.policy_state().count_use();
        if requester == Requester::Peer {
            found.entry.rate.count(now_ms);
        }
        Lookup::Hit(found.lane, read(found))
    }

    /// Makes an entry the most recently used, where the policy wants to know.
    pub(super) fn touch(&mut self, hash: u64, key: &[u8]) {
        if let Some(slot) = self.find(hash, key) {
            self.segment.touch(slot);
        }
    }

    /// Looks up a key without counting a use. A peer is told the key's rate, too.
    pub(super) fn peek(
        &self,
        hash: u64,
        key: &[u8],
        requester: Requester,
        freshness: Freshness,
        now_ms: u64,
    ) -> Option<Found<V>> {
        let found = self.look_up(hash, key, now_ms)?;
        found.is_acceptable(requester, freshness).then(|| match requester {
            Requester::Local => found.found(),
            Requester::Peer => found.served(),
        })
    }

    /// The value for a requester who cannot have a new one.
    pub(super) fn stale_fallback(&self, hash: u64, key: &[u8], requester: Requester, now_ms: u64) -> Option<Found<V>> {
        let found = self.look_up(hash, key, now_ms)?;
        let is_usable =
            found.entry.may_be_seen_by(requester) && found.entry.stored.is_found() && found.stage < Stage::Expired;
        is_usable.then(|| found.found())
    }

    pub(super) fn contains(&self, hash: u64, key: &[u8]) -> bool {
        self.find(hash, key).is_some()
    }

    /// Whether the entry was set less than `age_ms` ago.
    pub(super) fn was_set_within(&self, hash: u64, key: &[u8], age_ms: u64, now_ms: u64) -> bool {
        self.find(hash, key).is_some_and(|slot| self.segment.entry(slot).was_set_within(age_ms, now_ms))
    }

    /// Inserts an entry, after it has evicted as many others as it must.
    pub(super) fn insert(
        &mut self,
        hash: u64,
        weight: u32,
        entry: Entry<V>,
        (lane, inherited): (Lane, Option<Inherited>),
        budget: &Budget,
        discarded: &mut Discarded<V>,
    ) {
        self.make_room(weight as usize, budget, discarded);
        let expiry = entry.expiry;
        let hash_of = hash_of(&self.hasher);
        let slot = match inherited {
            Some(Inherited { lane: before, policy_state, rate }) if before == lane => {
                let entry = CachedEntry::new(entry, policy_state, rate);
                self.segment.insert_again(hash, entry, weight, hash_of)
            }
            inherited => {
                let rate = inherited.map_or_else(RequestRate::default, |inherited| inherited.rate);
                self.segment.insert(hash, CachedEntry::new(entry, PolicyState::new(), rate), weight, lane, hash_of)
            }
        };
        self.expiries.insert(slot, expiry);
        budget.add(weight as usize);
    }

    /// Takes out the entry of a key that gets a new value.
    pub(super) fn replace(
        &mut self,
        hash: u64,
        key: &[u8],
        budget: &Budget,
        discarded: &mut Discarded<V>,
    ) -> Option<Inherited> {
        let slot = self.find(hash, key)?;
        let lane = self.segment.lane(slot);
        let (stored, policy_state, rate) = self.take(slot, RemovalCause::Replaced, budget).into_parts();
        discarded.push(stored);
        Some(Inherited { lane, policy_state, rate })
    }

    pub(super) fn remove(&mut self, hash: u64, key: &[u8], budget: &Budget, discarded: &mut Discarded<V>) {
        if let Some(slot) = self.find(hash, key) {
            self.discard(slot, RemovalCause::Removed, budget, discarded);
        }
    }

    /// Removes the entry, if it has expired.
    pub(super) fn remove_expired(
        &mut self,
        hash: u64,
        key: &[u8],
        now_ms: u64,
        budget: &Budget,
        discarded: &mut Discarded<V>,
    ) {
        if let Some(slot) = self.find(hash, key)
            && self.expiry(slot).stage(now_ms) == Stage::Expired
        {
            self.discard(slot, RemovalCause::Expired, budget, discarded);
        }
    }

    /// Removes all entries and gives back their memory, to be dropped outside the lock.
    pub(super) fn clear(&mut self, budget: &Budget) -> Segment<CachedEntry<V>> {
        self.expiries = ExpiryQueue::default();
        for lane in LANES {
            let usage = self.segment.usage(lane);
            budget.subtract(usage.bytes);
            self.counts[lane as usize].removals += usage.entries as u64;
        }
        self.segment.take()
    }

    /// Removes all entries but those that were set less than `age_ms` ago.
    pub(super) fn clear_late(&mut self, age_ms: u64, now_ms: u64, budget: &Budget, discarded: &mut Discarded<V>) {
        let older = self.segment.iter().filter(|(_, entry)| !entry.was_set_within(age_ms, now_ms));
        let keys = older.map(|(_, entry)| Key::copy_from(entry.stored.key())).collect::<Vec<_>>();
        self.remove_all(&keys, budget, discarded);
    }

    /// Evicts until `weight` more bytes fit the budget or nothing is left here.
    pub(super) fn make_room(&mut self, weight: usize, budget: &Budget, discarded: &mut Discarded<V>) {
        while budget.excess(weight) > 0 {
            let Some(victim) = self.segment.victim(hash_of(&self.hasher)) else { return };
            self.discard(victim, RemovalCause::Evicted, budget, discarded);
        }
    }

    /// Removes a batch of expired entries, so that the lock is not held for long. Returns the time
    /// at which the next one expires, which has passed if there are more.
    pub(super) fn sweep(&mut self, now_ms: u64, budget: &Budget, discarded: &mut Discarded<V>) -> Option<u64> {
        for _ in 0..SWEEP_BATCH {
            let (expires_ms, slot) = self.expiries.first()?;
            if expires_ms > now_ms {
                break;
            }
            self.discard(slot, RemovalCause::Expired, budget, discarded);
        }
        self.expiries.first().map(|(expires_ms, _)| expires_ms)
    }

    /// Moves the entries of main that this node does not own to hot, with the expiry that
    /// `shortened` gives them; removes those that get none.
    pub(super) fn reassign(
        &mut self,
        owns: &impl Fn(&[u8]) -> bool,
        shortened: &impl Fn(Expiry) -> Option<Expiry>,
        budget: &Budget,
        discarded: &mut Discarded<V>,
    ) {
        // In the order of eviction: moved one by one, they keep it.
        let mut lost: Vec<u32> = self.segment.slots(Lane::Main).filter(|&slot| !owns(self.key(slot))).collect();
        lost.reverse();
        let mut expired = Vec::new();
        for slot in lost {
            match shortened(self.expiry(slot)) {
                Some(expiry) => self.move_to_hot(slot, expiry, budget),
                None => expired.push(Key::copy_from(self.key(slot))),
            }
        }
        self.remove_all(&expired, budget, discarded);
        self.make_room(0, budget, discarded);
    }

    fn move_to_hot(&mut self, slot: u32, expiry: Expiry, budget: &Budget) {
        let before = self.expiry(slot);
        self.expiries.remove(slot);
        let weight = self.segment.weight(slot);
        let new_weight = (weight - expiry_bytes(before) + expiry_bytes(expiry)).min(u32::MAX as usize);
        let entry = self.segment.entry_mut(slot);
        entry.set_expiry(expiry);
        self.expiries.insert(slot, expiry);
        budget.subtract(weight);
        budget.add(new_weight);
        let new_weight = u32::try_from(new_weight).unwrap_or(u32::MAX);
        self.segment.move_to(slot, Lane::Hot, new_weight, hash_of(&self.hasher));
    }

    pub(super) fn for_each(&self, now_ms: u64, visit: &mut impl FnMut(&[u8], Found<V>)) {
        for lane in LANES {
            for slot in self.segment.slots(lane) {
                let (entry, stage) = (self.segment.entry(slot), self.expiry(slot).stage(now_ms));
                let found = EntryRef { shard: self, slot, entry, lane, stage, now_ms }.found();
                visit(entry.stored.key(), Found { source: source_of(lane), ..found });
            }
        }
    }

    /// The counts of main and hot but for lookups, and their sizes.
    pub(super) fn stats(&self) -> [CacheStats; 2] {
        LANES.map(|lane| {
            let usage = self.segment.usage(lane);
            CacheStats { bytes: usage.bytes as u64, items: usage.entries as u64, ..self.counts[lane as usize] }
        })
    }

    #[inline]
    fn look_up(&self, hash: u64, key: &[u8], now_ms: u64) -> Option<EntryRef<'_, V>> {
        let (slot, entry) = self.segment.get(hash, |entry| entry.stored.has_key(key))?;
        let stage = if entry.expires() { self.expiry(slot).stage(now_ms) } else { Stage::Fresh };
        Some(EntryRef { shard: self, slot, entry, lane: entry.policy_state().lane(), stage, now_ms })
    }

    #[inline]
    fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        self.segment.find(hash, |entry| entry.stored.has_key(key))
    }

    fn key(&self, slot: u32) -> &[u8] {
        self.segment.entry(slot).stored.key()
    }

    fn expiry(&self, slot: u32) -> Expiry {
        let entry = self.segment.entry(slot);
        let queued = if entry.expires() { self.expiries.get(slot) } else { None };
        queued.unwrap_or_else(|| Expiry::never(entry.created_ms))
    }

    /// Removes many entries, by key: when one leaves, others may move to other slots.
    fn remove_all(&mut self, keys: &[Key], budget: &Budget, discarded: &mut Discarded<V>) {
        for key in keys {
            self.remove(self.hasher.hash(key.as_bytes()), key.as_bytes(), budget, discarded);
        }
    }

    fn discard(&mut self, slot: u32, cause: RemovalCause, budget: &Budget, discarded: &mut Discarded<V>) {
        discarded.push(self.take(slot, cause, budget).stored);
    }

    /// Takes an entry out and counts it. Every entry that leaves comes through here, but for those
    /// of a clear.
    fn take(&mut self, slot: u32, cause: RemovalCause, budget: &Budget) -> CachedEntry<V> {
        self.expiries.remove(slot);
        budget.subtract(self.segment.weight(slot));
        let counts = &mut self.counts[self.segment.lane(slot) as usize];
        let count = match cause {
            RemovalCause::Evicted => &mut counts.evictions,
            RemovalCause::Expired => &mut counts.expirations,
            RemovalCause::Replaced => &mut counts.replacements,
            RemovalCause::Removed => &mut counts.removals,
        };
        *count += 1;
        let Shard { segment, expiries, hasher, .. } = self;
        segment.remove(slot, hash_of(hasher), |from, to| expiries.moved(from, to))
    }
}

impl<V: Value> EntryRef<'_, V> {
    #[inline]
    fn is_acceptable(&self, requester: Requester, freshness: Freshness) -> bool {
        self.entry.may_be_seen_by(requester) && self.stage <= freshness.last_stage()
    }

    /// The value; `None` is a "not found".
    #[inline]
    pub(crate) fn value(&self) -> Option<V> {
        self.entry.stored.value()
    }

    /// The bytes that the value holds, without a clone of it.
    pub(crate) fn weight(&self) -> usize {
        self.entry.stored.weight()
    }

    /// Whether this hit is to start a refresh: one is due, and no other hit has started it just
    /// now.
    #[inline]
    pub(crate) fn claims_refresh(&self) -> bool {
        self.stage >= Stage::RefreshDue && self.entry.claims_refresh(self.now_ms)
    }

    /// The value with its facts, for a caller at this node.
    pub(crate) fn found(&self) -> Found<V> {
        let expiry = self.shard.expiry(self.slot);
        Found {
            value: self.value(),
            source: if self.stage >= Stage::StaleWhileRevalidate { Source::Stale } else { source_of(self.lane) },
            age_ms: expiry.age_ms(self.now_ms),
            remaining_ms: expiry.remaining_ms(self.now_ms),
            qps: None,
        }
    }

    /// The value with its facts, for a peer: with the rate at which peers ask for it.
    pub(crate) fn served(&self) -> Found<V> {
        Found { qps: Some(self.entry.rate.qps(self.now_ms)), ..self.found() }
    }
}

impl KeyHasher {
    pub(super) fn random() -> Self {
        KeyHasher(SeedableRandomState::random())
    }

    /// A hasher that is the same in every run.
    #[cfg(peercache_loom)]
    pub(crate) fn fixed() -> Self {
        KeyHasher(SeedableRandomState::fixed())
    }

    /// Leaves out the length that hashing a slice would add: there is nothing else to tell the key
    /// from.
    #[inline]
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write(key);
        hasher.finish()
    }
}

/// The hash of an entry's key, as a segment asks for it.
fn hash_of<V: Value>(hasher: &KeyHasher) -> impl Fn(&CachedEntry<V>) -> u64 {
    |entry| hasher.hash(entry.stored.key())
}
