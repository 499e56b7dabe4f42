//! One shard of the cache: what is done under its lock, by readers side by side and by writers alone.

use foldhash::fast::SeedableRandomState as RandomState;
use peercache_lru::segment::{HasPolicyState, Lane, PolicyState, Segment};

use crate::{
    answer::Source,
    cache::expiry::{Expiry, Stage},
    key::Key,
    stats::CacheStats,
    value::Value,
};
use crate::{
    cache::discarded::Discarded,
    cache::entry::{Entry, Found, Freshness, Held, Place, Requester, end_bytes},
    cache::expiry_queue::ExpiryQueue,
    cache::request_rate::Rate,
    cache::{Budget, Shape},
};

pub(super) struct Shard<V> {
    segment: Segment<Held<V>>,
    /// The expiry_policy of those that end.
    ends: ExpiryQueue,
    hasher: RandomState,
    /// What main and hot have counted beside look-ups.
    counts: [CacheStats; 2],
}

/// What a look found.
pub(super) enum Looked<R> {
    Hit(Place, R),
    Nothing,
    /// An entry that is to leave.
    Ended,
}

/// An entry as a look sees it, under the shard's lock.
pub(crate) struct Seen<'a, V> {
    shard: &'a Shard<V>,
    slot: u32,
    held: &'a Held<V>,
    place: Place,
    stage: Stage,
    now_ms: u64,
}

/// Why an entry leaves.
#[derive(Clone, Copy)]
enum Leaving {
    Discarded,
    Expired,
    Replaced,
    Removed,
}

/// Main's entries are the segment's own, hot's are guests.
fn place(lane: Lane) -> Place {
    match lane {
        Lane::Main => Place::Main,
        Lane::Hot => Place::Hot,
    }
}

fn lane(place: Place) -> Lane {
    match place {
        Place::Main => Lane::Main,
        Place::Hot => Lane::Hot,
    }
}

const PLACES: [Place; 2] = [Place::Main, Place::Hot];

impl<V: Value> Shard<V> {
    pub(super) fn new(shape: Shape, hasher: RandomState) -> Self {
        let capacity = shape.max_bytes / shape.shards.next_power_of_two();
        let segment = Segment::new(shape.policy, capacity, shape.hot_share);
        Shard { segment, ends: ExpiryQueue::default(), hasher, counts: [CacheStats::default(); 2] }
    }

    /// Looks as a get does: what will do counts as used.
    #[inline]
    pub(super) fn get<R>(
        &self,
        hash: u64,
        key: &[u8],
        requester: Requester,
        freshness: Freshness,
        now_ms: u64,
        read: impl FnOnce(Seen<'_, V>) -> R,
    ) -> Looked<R> {
        let Some(seen) = self.see(hash, key, now_ms) else { return Looked::Nothing };
        match seen.stage {
            Stage::Expired => Looked::Ended,
            _ if !seen.will_do(requester, freshness) => Looked::Nothing,
            _ => {
                seen.held.policy_state().count_use();
                if requester == Requester::Peer {
                    seen.held.rate.count(now_ms);
                }
                Looked::Hit(seen.place, read(seen))
            }
        }
    }

    /// Makes an entry that a look has found the most recent, where the policy wants to know.
    pub(super) fn touch(&mut self, hash: u64, key: &[u8]) {
        if let Some(slot) = self.find(hash, key) {
            self.segment.touch(slot);
        }
    }

    pub(super) fn peek(
        &self,
        hash: u64,
        key: &[u8],
        requester: Requester,
        freshness: Freshness,
        now_ms: u64,
    ) -> Option<Found<V>> {
        let seen = self.see(hash, key, now_ms)?;
        seen.will_do(requester, freshness).then(|| seen.found())
    }

    /// The value for a caller who cannot have a new one.
    pub(super) fn spare(&self, hash: u64, key: &[u8], requester: Requester, now_ms: u64) -> Option<Found<V>> {
        let seen = self.see(hash, key, now_ms)?;
        let usable = seen.held.is_for(requester) && seen.held.stored.is_found() && seen.stage < Stage::Expired;
        usable.then(|| seen.found())
    }

    #[inline]
    fn see(&self, hash: u64, key: &[u8], now_ms: u64) -> Option<Seen<'_, V>> {
        let (slot, held) = self.segment.get(hash, |held| held.stored.is_of(key))?;
        let stage = if held.ends { self.life(slot).stage(now_ms) } else { Stage::Fresh };
        let place = place(held.policy_state().lane());
        Some(Seen { shard: self, slot, held, place, stage, now_ms })
    }

    pub(super) fn holds(&self, hash: u64, key: &[u8]) -> bool {
        self.find(hash, key).is_some()
    }

    /// Takes an entry in, after as many others have left as must.
    pub(super) fn insert(
        &mut self,
        hash: u64,
        weight: u32,
        entry: Entry<V>,
        (place, before): (Place, Option<Before>),
        budget: &Budget,
        out: &mut Discarded<V>,
    ) {
        self.make_room(weight as usize, budget, out);
        let expiry = entry.expiry;
        let hash_of = hash_of(&self.hasher);
        let slot = match before {
            Some(before) if before.place == place => {
                let held = Held::new(entry, before.standing, before.rate);
                self.segment.insert_again(hash, held, weight, hash_of)
            }
            before => {
                let rate = before.map_or_else(Rate::default, |before| before.rate);
                self.segment.insert(hash, Held::new(entry, PolicyState::new(), rate), weight, lane(place), hash_of)
            }
        };
        self.ends.insert(slot, expiry);
        budget.add(weight as usize);
    }

    /// What is under the key makes way for another value of it.
    pub(super) fn replace(&mut self, hash: u64, key: &[u8], budget: &Budget, out: &mut Discarded<V>) -> Option<Before> {
        let slot = self.find(hash, key)?;
        let place = place(self.segment.lane(slot));
        let held = self.take(slot, Leaving::Replaced, budget);
        let (stored, before) = held.split(place);
        out.push(stored);
        Some(before)
    }

    pub(super) fn remove(&mut self, hash: u64, key: &[u8], budget: &Budget, out: &mut Discarded<V>) {
        if let Some(slot) = self.find(hash, key) {
            self.leave(slot, Leaving::Removed, budget, out);
        }
    }

    /// Takes out what is under the key, if it has ended.
    pub(super) fn remove_ended(&mut self, hash: u64, key: &[u8], now_ms: u64, budget: &Budget, out: &mut Discarded<V>) {
        if let Some(slot) = self.find(hash, key)
            && self.life(slot).stage(now_ms) == Stage::Expired
        {
            self.leave(slot, Leaving::Expired, budget, out);
        }
    }

    /// Whether what is under the key was set after a moment that is so long ago.
    pub(super) fn was_set_within(&self, hash: u64, key: &[u8], age_ms: u64, now_ms: u64) -> bool {
        self.find(hash, key).is_some_and(|slot| self.segment.entry(slot).was_set_within(age_ms, now_ms))
    }

    /// Removes all but what was set since a moment that is so long ago.
    pub(super) fn clear_but(&mut self, age_ms: u64, now_ms: u64, budget: &Budget, out: &mut Discarded<V>) {
        let older = self.segment.iter().filter(|(_, held)| !held.was_set_within(age_ms, now_ms));
        for key in older.map(|(_, held)| Key::copy_from(held.stored.key())).collect::<Vec<_>>() {
            self.remove(super::hash_of(&self.hasher, key.as_bytes()), key.as_bytes(), budget, out);
        }
    }

    /// Removes everything, and gives back its memory.
    pub(super) fn clear(&mut self, budget: &Budget) -> Segment<Held<V>> {
        self.ends = ExpiryQueue::default();
        for place in PLACES {
            let held = self.segment.usage(lane(place));
            budget.subtract(held.bytes);
            self.counts[place as usize].removals += held.entries as u64;
        }
        self.segment.take()
    }

    /// Evicts until `weight` more bytes fit the budget or nothing is left here.
    pub(super) fn make_room(&mut self, weight: usize, budget: &Budget, out: &mut Discarded<V>) {
        while budget.excess(weight) > 0 {
            let Some(victim) = self.segment.victim(hash_of(&self.hasher)) else { return };
            self.leave(victim, Leaving::Discarded, budget, out);
        }
    }

    /// Takes out some of what has ended, so that the lock is not held for long. Returns when the next one ends: now, if there are more.
    pub(super) fn sweep(&mut self, now_ms: u64, budget: &Budget, out: &mut Discarded<V>) -> Option<u64> {
        const AT_A_TIME: usize = 256;
        for _ in 0..AT_A_TIME {
            let (ends_ms, slot) = self.ends.first()?;
            if ends_ms > now_ms {
                break;
            }
            self.leave(slot, Leaving::Expired, budget, out);
        }
        self.ends.first().map(|(ends_ms, _)| ends_ms)
    }

    /// Moves what `owns` denies from main to hot with the life that `copied` gives it, or out.
    pub(super) fn reassign(
        &mut self,
        owns: &impl Fn(&[u8]) -> bool,
        copied: &impl Fn(Expiry) -> Option<Expiry>,
        budget: &Budget,
        out: &mut Discarded<V>,
    ) {
        // The first to leave first: moved one by one, they keep their order.
        let mut lost: Vec<u32> = self.segment.slots(Lane::Main).filter(|&slot| !owns(self.key(slot))).collect();
        lost.reverse();
        let mut gone = Vec::new();
        for slot in lost {
            match copied(self.life(slot)) {
                Some(expiry) => self.move_to_hot(slot, expiry, budget),
                None => gone.push(Key::copy_from(self.key(slot))),
            }
        }
        // By key: when one leaves, others may move to other slots.
        for key in gone {
            self.remove(super::hash_of(&self.hasher, key.as_bytes()), key.as_bytes(), budget, out);
        }
        self.make_room(0, budget, out);
    }

    fn move_to_hot(&mut self, slot: u32, expiry: Expiry, budget: &Budget) {
        let before = self.life(slot);
        self.ends.remove(slot);
        let weight = self.segment.weight(slot);
        let new_weight = (weight - end_bytes(before) + end_bytes(expiry)).min(u32::MAX as usize);
        let held = self.segment.entry_mut(slot);
        (held.born_ms, held.ends) = (expiry.born_ms(), expiry.ends_ms().is_some());
        self.ends.insert(slot, expiry);
        budget.subtract(weight);
        budget.add(new_weight);
        let new_weight = u32::try_from(new_weight).unwrap_or(u32::MAX);
        self.segment.move_to(slot, Lane::Hot, new_weight, hash_of(&self.hasher));
    }

    pub(super) fn for_each(&self, now_ms: u64, visit: &mut impl FnMut(Place, &[u8], Found<V>)) {
        for place in PLACES {
            for slot in self.segment.slots(lane(place)) {
                let (held, stage) = (self.segment.entry(slot), self.life(slot).stage(now_ms));
                let seen = Seen { shard: self, slot, held, place, stage, now_ms };
                visit(place, held.stored.key(), Found { source: place.source(), ..seen.found() });
            }
        }
    }

    /// What main and hot have counted, beside look-ups, and hold.
    pub(super) fn stats(&self) -> [CacheStats; 2] {
        PLACES.map(|place| {
            let held = self.segment.usage(lane(place));
            CacheStats { bytes: held.bytes as u64, items: held.entries as u64, ..self.counts[place as usize] }
        })
    }

    #[inline]
    fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        self.segment.find(hash, |held| held.stored.is_of(key))
    }

    fn key(&self, slot: u32) -> &[u8] {
        self.segment.entry(slot).stored.key()
    }

    fn life(&self, slot: u32) -> Expiry {
        let held = self.segment.entry(slot);
        let ending = if held.ends { self.ends.life(slot) } else { None };
        ending.unwrap_or_else(|| Expiry::endless(held.born_ms))
    }

    fn leave(&mut self, slot: u32, why: Leaving, budget: &Budget, out: &mut Discarded<V>) {
        let held = self.take(slot, why, budget);
        out.push(held.stored);
    }

    /// The one way out.
    fn take(&mut self, slot: u32, why: Leaving, budget: &Budget) -> Held<V> {
        self.ends.remove(slot);
        budget.subtract(self.segment.weight(slot));
        let counts = &mut self.counts[place(self.segment.lane(slot)) as usize];
        let count = match why {
            Leaving::Discarded => &mut counts.evictions,
            Leaving::Expired => &mut counts.expirations,
            Leaving::Replaced => &mut counts.replacements,
            Leaving::Removed => &mut counts.removals,
        };
        *count += 1;
        let Shard { segment, ends, hasher, .. } = self;
        segment.remove(slot, hash_of(hasher), |from, to| ends.moved(from, to))
    }
}

impl<V: Value> Seen<'_, V> {
    #[inline]
    fn will_do(&self, requester: Requester, freshness: Freshness) -> bool {
        self.held.is_for(requester) && self.stage <= freshness.last()
    }

    /// The value; `None` is a "not found".
    #[inline]
    pub(crate) fn value(&self) -> Option<V> {
        self.held.stored.value()
    }

    /// Whether it is time to bring a new one.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.stage >= Stage::RefreshDue
    }

    /// With all that is to be told of it.
    pub(crate) fn found(&self) -> Found<V> {
        let expiry = self.shard.life(self.slot);
        Found {
            value: self.value(),
            source: if self.stage >= Stage::StaleWhileRevalidate { Source::Stale } else { self.place.source() },
            age_ms: expiry.age_ms(self.now_ms),
            remaining_ms: expiry.remaining_ms(self.now_ms),
            qps: None,
        }
    }

    /// The same for a peer, which is told how much in demand it is.
    pub(crate) fn served(&self) -> Found<V> {
        Found { qps: Some(self.held.rate.qps(self.now_ms)), ..self.found() }
    }
}

/// How an entry stood that made way for another of its key.
pub(super) struct Before {
    place: Place,
    standing: PolicyState,
    rate: Rate,
}

impl<V> Held<V> {
    fn split(self, place: Place) -> (super::Stored<V>, Before) {
        let (stored, standing, rate) = self.into_parts();
        (stored, Before { place, standing, rate })
    }
}

fn hash_of<V: Value>(hasher: &RandomState) -> impl Fn(&Held<V>) -> u64 {
    |held| super::hash_of(hasher, held.stored.key())
}
