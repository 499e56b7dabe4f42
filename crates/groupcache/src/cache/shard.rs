//! One shard of the cache: what is done under its lock, by readers side by side and by writers alone.

use ahash::RandomState;
use peercache_lru::{Lane, Policy, Resident, Segment, Standing};

use super::{
    Budget, Evicted,
    ends::Ends,
    entry::{Entry, Found, Held, Hit, Look, Place, Reader, end_bytes},
    rate::Rate,
};
use crate::{
    CacheStats, Key, Value,
    life::{Life, Stage},
};

pub(super) struct Shard<V> {
    segment: Segment<Held<V>>,
    /// The lives of those that end.
    ends: Ends,
    hasher: RandomState,
    /// What main and hot have counted beside look-ups.
    counts: [CacheStats; 2],
}

/// What a look found.
pub(super) enum Looked<V> {
    Hit(Place, Hit<V>),
    Nothing,
    /// An entry that is to leave.
    Ended,
}

/// Why an entry leaves.
#[derive(Clone, Copy)]
enum Leaving {
    Evicted,
    Expired,
    Replaced,
    Removed,
}

/// Main's entries are the segment's own, hot's are guests.
fn place(lane: Lane) -> Place {
    match lane {
        Lane::Own => Place::Main,
        Lane::Guest => Place::Hot,
    }
}

fn lane(place: Place) -> Lane {
    match place {
        Place::Main => Lane::Own,
        Place::Hot => Lane::Guest,
    }
}

const PLACES: [Place; 2] = [Place::Main, Place::Hot];

impl<V: Value> Shard<V> {
    pub(super) fn new(policy: Policy, hot_share: f64, hasher: RandomState) -> Self {
        let segment = Segment::new(policy, hot_share);
        Shard { segment, ends: Ends::default(), hasher, counts: [CacheStats::default(); 2] }
    }

    /// Looks as a get does: what will do counts as used.
    #[inline]
    pub(super) fn get(&self, hash: u64, key: &[u8], reader: Reader, look: Look, now_ms: u64) -> Looked<V> {
        let Some(slot) = self.find(hash, key) else { return Looked::Nothing };
        let (held, life) = self.held(slot);
        match held.meets(life, reader, look, now_ms) {
            Some(stage) => {
                held.standing().count_use();
                if reader == Reader::Peer {
                    held.rate.count(now_ms);
                }
                let place = place(self.segment.lane(slot));
                Looked::Hit(place, held.hit(life, place, stage, now_ms))
            }
            None if life.stage(now_ms) == Stage::Ended => Looked::Ended,
            None => Looked::Nothing,
        }
    }

    /// Makes an entry that a look has found the most recent, where the policy wants to know.
    pub(super) fn touch(&mut self, hash: u64, key: &[u8]) {
        if let Some(slot) = self.find(hash, key) {
            self.segment.touch(slot);
        }
    }

    pub(super) fn peek(&self, hash: u64, key: &[u8], reader: Reader, look: Look, now_ms: u64) -> Option<Hit<V>> {
        let slot = self.find(hash, key)?;
        let (held, life) = self.held(slot);
        let stage = held.meets(life, reader, look, now_ms)?;
        Some(held.hit(life, place(self.segment.lane(slot)), stage, now_ms))
    }

    /// The value for a caller who cannot have a new one.
    pub(super) fn spare(&self, hash: u64, key: &[u8], reader: Reader, now_ms: u64) -> Option<Hit<V>> {
        let slot = self.find(hash, key)?;
        let (held, life) = self.held(slot);
        let stage = life.stage(now_ms);
        let usable = held.is_for(reader) && held.stored.is_found() && stage < Stage::Ended;
        usable.then(|| held.hit(life, place(self.segment.lane(slot)), stage, now_ms))
    }

    pub(super) fn holds(&self, hash: u64, key: &[u8]) -> bool {
        self.find(hash, key).is_some()
    }

    /// How often peers ask for what is under the key, per second.
    pub(super) fn qps(&self, hash: u64, key: &[u8], now_ms: u64) -> Option<f64> {
        self.find(hash, key).map(|slot| self.segment.entry(slot).rate.qps(now_ms))
    }

    /// Takes an entry in, after as many others have left as must.
    pub(super) fn insert(
        &mut self,
        hash: u64,
        weight: u32,
        entry: Entry<V>,
        (place, before): (Place, Option<Before>),
        budget: &Budget,
        out: &mut Evicted<V>,
    ) {
        self.make_room(weight as usize, budget, out);
        let life = entry.life;
        let hash_of = hash_of(&self.hasher);
        let slot = match before {
            Some(before) if before.place == place => {
                let held = Held::new(entry, before.standing, before.rate);
                self.segment.insert_again(hash, held, weight, hash_of)
            }
            before => {
                let rate = before.map_or_else(Rate::default, |before| before.rate);
                self.segment.insert(hash, Held::new(entry, Standing::new(), rate), weight, lane(place), hash_of)
            }
        };
        self.ends.insert(slot, life);
        budget.add(weight as usize);
    }

    /// What is under the key makes way for another value of it.
    pub(super) fn replace(&mut self, hash: u64, key: &[u8], budget: &Budget, out: &mut Evicted<V>) -> Option<Before> {
        let slot = self.find(hash, key)?;
        let place = place(self.segment.lane(slot));
        let held = self.take(slot, Leaving::Replaced, budget);
        let (stored, before) = held.split(place);
        out.push(stored);
        Some(before)
    }

    pub(super) fn remove(&mut self, hash: u64, key: &[u8], budget: &Budget, out: &mut Evicted<V>) {
        if let Some(slot) = self.find(hash, key) {
            self.leave(slot, Leaving::Removed, budget, out);
        }
    }

    /// Takes out what is under the key, if it has ended.
    pub(super) fn remove_ended(&mut self, hash: u64, key: &[u8], now_ms: u64, budget: &Budget, out: &mut Evicted<V>) {
        if let Some(slot) = self.find(hash, key)
            && self.held(slot).1.stage(now_ms) == Stage::Ended
        {
            self.leave(slot, Leaving::Expired, budget, out);
        }
    }

    /// Whether what is under the key was set after a moment that is so long ago.
    pub(super) fn was_set_within(&self, hash: u64, key: &[u8], age_ms: u64, now_ms: u64) -> bool {
        self.find(hash, key).is_some_and(|slot| self.segment.entry(slot).was_set_within(age_ms, now_ms))
    }

    /// Removes all but what was set since a moment that is so long ago.
    pub(super) fn clear_but(&mut self, age_ms: u64, now_ms: u64, budget: &Budget, out: &mut Evicted<V>) {
        let older = self.segment.iter().filter(|(_, held)| !held.was_set_within(age_ms, now_ms));
        for key in older.map(|(_, held)| Key::copy_from(held.stored.key())).collect::<Vec<_>>() {
            self.remove(self.hasher.hash_one(key.as_bytes()), key.as_bytes(), budget, out);
        }
    }

    /// Removes everything, and gives back its memory.
    pub(super) fn clear(&mut self, budget: &Budget) -> Segment<Held<V>> {
        self.ends = Ends::default();
        for place in PLACES {
            let held = self.segment.held(lane(place));
            budget.subtract(held.bytes);
            self.counts[place as usize].removals += held.entries as u64;
        }
        self.segment.take()
    }

    /// Evicts until `weight` more bytes fit the budget or nothing is left here.
    pub(super) fn make_room(&mut self, weight: usize, budget: &Budget, out: &mut Evicted<V>) {
        while budget.excess(weight) > 0 {
            let Some(victim) = self.segment.victim(hash_of(&self.hasher)) else { return };
            self.leave(victim, Leaving::Evicted, budget, out);
        }
    }

    /// Takes out some of what has ended, so that the lock is not held for long. Returns when the next one ends: now, if there are more.
    pub(super) fn sweep(&mut self, now_ms: u64, budget: &Budget, out: &mut Evicted<V>) -> Option<u64> {
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
    pub(super) fn rehome(
        &mut self,
        owns: &impl Fn(&[u8]) -> bool,
        copied: &impl Fn(Life) -> Option<Life>,
        budget: &Budget,
        out: &mut Evicted<V>,
    ) {
        // The first to leave first: moved one by one, they keep their order.
        let mut lost: Vec<u32> = self.segment.slots(Lane::Own).filter(|&slot| !owns(self.key(slot))).collect();
        lost.reverse();
        let mut gone = Vec::new();
        for slot in lost {
            match copied(self.held(slot).1) {
                Some(life) => self.move_to_hot(slot, life, budget),
                None => gone.push(Key::copy_from(self.key(slot))),
            }
        }
        // By key: when one leaves, others may move to other slots.
        for key in gone {
            self.remove(self.hasher.hash_one(key.as_bytes()), key.as_bytes(), budget, out);
        }
        self.make_room(0, budget, out);
    }

    fn move_to_hot(&mut self, slot: u32, life: Life, budget: &Budget) {
        let before = self.held(slot).1;
        self.ends.remove(slot, before);
        let weight = self.segment.weight(slot);
        let new_weight = weight - end_bytes(before) + end_bytes(life);
        let held = self.segment.entry_mut(slot);
        (held.born_ms, held.ends) = (life.born_ms(), life.ends_ms().is_some());
        self.ends.insert(slot, life);
        budget.subtract(weight);
        budget.add(new_weight);
        let new_weight = u32::try_from(new_weight).unwrap_or(u32::MAX);
        self.segment.move_to(slot, Lane::Guest, new_weight, hash_of(&self.hasher));
    }

    pub(super) fn for_each(&self, now_ms: u64, look: &mut impl FnMut(Place, &[u8], Found<V>)) {
        for place in PLACES {
            for slot in self.segment.slots(lane(place)) {
                let (held, life) = self.held(slot);
                look(place, held.stored.key(), held.found(life, place.source(), now_ms));
            }
        }
    }

    /// What main and hot have counted, beside look-ups, and hold.
    pub(super) fn stats(&self) -> [CacheStats; 2] {
        PLACES.map(|place| {
            let held = self.segment.held(lane(place));
            CacheStats { bytes: held.bytes as u64, items: held.entries as u64, ..self.counts[place as usize] }
        })
    }

    #[inline]
    fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        self.segment.find(hash, |held| held.stored.key() == key)
    }

    fn key(&self, slot: u32) -> &[u8] {
        self.segment.entry(slot).stored.key()
    }

    #[inline]
    fn held(&self, slot: u32) -> (&Held<V>, Life) {
        let held = self.segment.entry(slot);
        let endless = || Life::endless(held.born_ms);
        let life = if held.ends { self.ends.life(slot).unwrap_or_else(endless) } else { endless() };
        (held, life)
    }

    fn leave(&mut self, slot: u32, why: Leaving, budget: &Budget, out: &mut Evicted<V>) {
        let held = self.take(slot, why, budget);
        out.push(held.stored);
    }

    /// The one way out.
    fn take(&mut self, slot: u32, why: Leaving, budget: &Budget) -> Held<V> {
        let life = self.held(slot).1;
        self.ends.remove(slot, life);
        budget.subtract(self.segment.weight(slot));
        let counts = &mut self.counts[place(self.segment.lane(slot)) as usize];
        let count = match why {
            Leaving::Evicted => &mut counts.evictions,
            Leaving::Expired => &mut counts.expirations,
            Leaving::Replaced => &mut counts.replacements,
            Leaving::Removed => &mut counts.removals,
        };
        *count += 1;
        let Shard { segment, ends, hasher, .. } = self;
        segment.remove(slot, hash_of(hasher), |from, to| ends.moved(from, to))
    }
}

/// How an entry stood that made way for another of its key.
pub(super) struct Before {
    place: Place,
    standing: Standing,
    rate: Rate,
}

impl<V> Held<V> {
    fn split(self, place: Place) -> (super::Stored<V>, Before) {
        let (stored, standing, rate) = self.into_parts();
        (stored, Before { place, standing, rate })
    }
}

fn hash_of<V: Value>(hasher: &RandomState) -> impl Fn(&Held<V>) -> u64 {
    |held| hasher.hash_one(held.stored.key())
}
