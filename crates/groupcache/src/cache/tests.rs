//! The cache against a slow, obvious one.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{answer::Source, cache::entry::Origin, cache::expiry::Stage, key::Key};

/// The weight of most entries here.
const WEIGHT: usize = 100;

/// The share of hot in these tests: more than a third of main is more than a fourth of both.
const HOT_SHARE: f64 = 0.25;

fn cache_of(max_bytes: usize, shards: usize, policy: EvictionPolicy) -> Cache<Bytes> {
    Cache::new(CacheConfig { max_bytes, shards, policy, hot_share: HOT_SHARE })
}

/// One shard of exact LRU with room for this many entries of [`WEIGHT`].
fn cache(entries: usize) -> Cache<Bytes> {
    cache_of(entries * WEIGHT, 1, EvictionPolicy::Lru)
}

fn entry(key: &[u8], loaded: bool) -> Entry<Bytes> {
    let origin = if loaded { Origin::Loaded } else { Origin::Fetched };
    Entry::new(&Key::copy_from(key), Some(Bytes::new()), origin, Expiry::never(0))
}

fn put(cache: &Cache<Bytes>, key: &str, lane: Lane) {
    drop(cache.insert(WEIGHT, entry(key.as_bytes(), true), || Some((lane, Expiry::never(0)))));
}

/// Inserts an entry that expires, and is charged [`WEIGHT`] with its expiry.
fn put_until(cache: &Cache<Bytes>, key: &str, expires_ms: u32) {
    let expiry = Expiry::after(0, expires_ms);
    drop(cache.insert(WEIGHT - EXPIRY_BYTES, entry(key.as_bytes(), true), || Some((Lane::Hot, expiry))));
}

fn get(cache: &Cache<Bytes>, key: &str, now_ms: u64) -> Option<Source> {
    cache.get(key.as_bytes(), Requester::Local, Freshness::AllowStale, now_ms, |entry| entry.found().source)
}

/// The time for which an entry stays fresh; [`u64::MAX`] is for ever.
fn remaining_ms(expiry: &Expiry, now_ms: u64) -> u64 {
    expiry.remaining_ms(now_ms).unwrap_or(u64::MAX)
}

/// The same for the entry of this key, if it is found.
fn found_remaining_ms(cache: &Cache<Bytes>, key: u16, now_ms: u64) -> Option<u64> {
    let read = |entry: EntryRef<'_, Bytes>| entry.found().remaining_ms.unwrap_or(u64::MAX);
    cache.get(&key.to_be_bytes(), Requester::Local, Freshness::AllowStale, now_ms, read)
}

/// Items in main and in hot.
fn items(cache: &Cache<Bytes>) -> (u64, u64) {
    let (main, hot) = cache.stats();
    assert_eq!(main.bytes + hot.bytes, (main.items + hot.items) * WEIGHT as u64, "every entry is accounted once");
    (main.items, hot.items)
}

#[test]
fn an_entry_that_is_inserted_again_is_in_one_lane() {
    let cache = cache(10);
    for (lane, expected) in [(Lane::Main, (1, 0)), (Lane::Main, (1, 0)), (Lane::Hot, (0, 1)), (Lane::Main, (1, 0))] {
        put(&cache, "key", lane);
        assert_eq!(items(&cache), expected);
    }
    assert_eq!(cache.stats().0.replacements + cache.stats().1.replacements, 3);
}

#[test]
fn hot_is_evicted_first_while_it_has_more_than_its_share() {
    let cache = cache(10);
    (0..5).for_each(|n| put(&cache, &format!("hot-{n}"), Lane::Hot));
    (0..9).for_each(|n| put(&cache, &format!("main-{n}"), Lane::Main));
    assert_eq!(items(&cache), (8, 2));
}

#[test]
fn main_gives_way_while_hot_is_small() {
    let cache = cache(10);
    put(&cache, "hot", Lane::Hot);
    (0..20).for_each(|n| put(&cache, &format!("main-{n}"), Lane::Main));
    assert_eq!(items(&cache), (9, 1));
}

#[test]
fn the_least_recently_used_is_evicted_first() {
    let cache = cache(2);
    put(&cache, "a", Lane::Main);
    put(&cache, "b", Lane::Main);
    assert!(get(&cache, "a", 0).is_some());
    put(&cache, "c", Lane::Main);
    assert_eq!(["a", "b", "c"].map(|key| cache.contains(key.as_bytes())), [true, false, true]);
}

#[test]
fn an_expired_entry_is_removed_when_it_is_asked_for() {
    let cache = cache(10);
    put_until(&cache, "key", 1_000);
    assert!(get(&cache, "key", 999).is_some());
    assert!(get(&cache, "key", 1_000).is_none());
    assert_eq!((items(&cache), cache.stats().1.expirations), ((0, 0), 1));
}

#[test]
fn expired_entries_that_nobody_asks_for_are_swept_out() {
    let cache = cache(1_000);
    (0..600).for_each(|n| put_until(&cache, &format!("old-{n}"), 1_000 + n));
    put_until(&cache, "new", 3_000);
    cache.sweep(1_599, || ());
    assert_eq!((items(&cache), cache.stats().1.expirations), ((0, 1), 600));
    cache.sweep(2_999, || ());
    assert_eq!(items(&cache), (0, 1));
    cache.sweep(3_000, || ());
    assert_eq!(items(&cache), (0, 0));
}

#[test]
fn a_stale_entry_is_answered_as_such_and_then_kept_as_a_fallback() {
    let cache = cache(10);
    let expiry = Expiry::staged(0, [1_000, 2_000, 3_000, 4_000]);
    drop(cache.insert(WEIGHT, entry(b"key", true), || Some((Lane::Main, expiry))));
    let answers = [999, 1_030, 1_100, 1_999, 2_001, 2_900].map(|now_ms| {
        let read = |entry: EntryRef<'_, Bytes>| (entry.found().source, entry.claims_refresh());
        cache.get(b"key", Requester::Local, Freshness::AllowStale, now_ms, read).expect("it may be answered")
    });
    let (main, stale) = (Source::Main, Source::Stale);
    // A refresh is started once in 128 ms, however many hits find it due.
    assert_eq!(answers, [(main, false), (main, true), (main, false), (main, true), (stale, false), (stale, true)]);
    assert!(get(&cache, "key", 3_000).is_none());
    assert_eq!(cache.stale_fallback(b"key", Requester::Local, 3_999).map(|found| found.source), Some(stale));
    assert!(cache.stale_fallback(b"key", Requester::Local, 4_000).is_none());
}

#[test]
fn a_request_for_fresh_only_misses_an_entry_due_for_a_refresh() {
    let cache = cache(10);
    let expiry = Expiry::staged(0, [10, 20, 30, 40]);
    drop(cache.insert(WEIGHT, entry(b"key", true), || Some((Lane::Main, expiry))));
    let found = |freshness, now_ms| cache.peek(b"key", Requester::Local, freshness, now_ms).is_some();
    assert_eq!([found(Freshness::FreshOnly, 9), found(Freshness::FreshOnly, 10)], [true, false]);
}

#[test]
fn a_removed_entry_is_gone_and_is_counted() {
    let cache = cache(10);
    put(&cache, "main", Lane::Main);
    put_until(&cache, "hot", 1_000);
    drop(cache.remove(b"main"));
    cache.clear();
    assert_eq!((items(&cache), cache.stats().0.removals, cache.stats().1.removals), ((0, 0), 1, 1));
}

#[test]
fn a_value_may_be_as_large_as_the_whole_budget() {
    let cache = cache_of(64 * WEIGHT, 16, EvictionPolicy::Lru);
    (0..64).for_each(|n| put(&cache, &format!("small-{n}"), Lane::Main));
    assert_eq!(items(&cache), (64, 0));
    drop(cache.insert(64 * WEIGHT, entry(b"large", true), || Some((Lane::Hot, Expiry::never(0)))));
    let (main, hot) = cache.stats();
    assert_eq!((main.items, hot.items, hot.bytes), (0, 1, 64 * WEIGHT as u64));
    assert_eq!(main.evictions, 64);
    put(&cache, "small", Lane::Main);
    let (main, hot) = cache.stats();
    assert_eq!((main.items, hot.items, cache.budget.bytes()), (1, 0, WEIGHT));
}

/// The same cache, obvious and slow: two lists, the least recent first.
#[derive(Default)]
struct Model {
    main: Vec<ModelEntry>,
    hot: Vec<ModelEntry>,
    max_bytes: usize,
}

#[derive(Clone, Debug)]
struct ModelEntry {
    key: u8,
    weight: usize,
    loaded: bool,
    expiry: Expiry,
}

impl ModelEntry {
    fn new(key: u8, weight: usize, loaded: bool, expiry: Expiry) -> Self {
        ModelEntry { key, weight: weight + expiry_bytes(expiry), loaded, expiry }
    }

    fn is_expired(&self, now_ms: u64) -> bool {
        self.expiry.stage(now_ms) == Stage::Expired
    }

    fn is_acceptable(&self, requester: Requester, freshness: Freshness, now_ms: u64) -> bool {
        let last = match freshness {
            Freshness::AllowStale => Stage::StaleWhileRevalidate,
            Freshness::FreshOnly => Stage::Fresh,
        };
        (requester == Requester::Local || self.loaded) && self.expiry.stage(now_ms) <= last
    }

    fn source(&self, lane: Source, now_ms: u64) -> Source {
        if self.expiry.stage(now_ms) >= Stage::StaleWhileRevalidate { Source::Stale } else { lane }
    }
}

fn bytes(list: &[ModelEntry]) -> usize {
    list.iter().map(|entry| entry.weight).sum()
}

impl Model {
    fn get(&mut self, key: u8, requester: Requester, freshness: Freshness, now_ms: u64) -> Option<Source> {
        for (list, lane) in [(&mut self.main, Source::Main), (&mut self.hot, Source::Hot)] {
            let Some(at) = list.iter().position(|entry| entry.key == key) else { continue };
            let acceptable = list[at].is_acceptable(requester, freshness, now_ms);
            if list[at].is_expired(now_ms) {
                list.remove(at);
            } else if acceptable {
                let entry = list.remove(at);
                list.push(entry);
            }
            if acceptable {
                return list.last().map(|entry| entry.source(lane, now_ms));
            }
        }
        None
    }

    fn remove(&mut self, key: u8) {
        self.main.retain(|entry| entry.key != key);
        self.hot.retain(|entry| entry.key != key);
    }

    fn make_room(&mut self, weight: usize) {
        while bytes(&self.main) + bytes(&self.hot) + weight > self.max_bytes {
            let both = bytes(&self.hot) + bytes(&self.main);
            let hot_is_large = bytes(&self.hot) as f64 > both as f64 * HOT_SHARE;
            let list = if hot_is_large { &mut self.hot } else { &mut self.main };
            if list.is_empty() {
                return;
            }
            list.remove(0);
        }
    }

    fn insert(&mut self, entry: ModelEntry, lane: Lane) {
        self.remove(entry.key);
        if entry.weight > self.max_bytes {
            return;
        }
        self.make_room(entry.weight);
        match lane {
            Lane::Main => self.main.push(entry),
            Lane::Hot => self.hot.push(entry),
        }
    }

    fn sweep(&mut self, now_ms: u64) {
        self.main.retain(|entry| !entry.is_expired(now_ms));
        self.hot.retain(|entry| !entry.is_expired(now_ms));
    }

    fn reassign(&mut self, owned: impl Fn(u8) -> bool, shortened: impl Fn(Expiry) -> Option<Expiry>) {
        let lost: Vec<u8> = self.main.iter().map(|entry| entry.key).filter(|key| !owned(*key)).collect();
        for key in lost {
            let Some(at) = self.main.iter().position(|entry| entry.key == key) else { continue };
            let ModelEntry { weight, loaded, expiry, .. } = self.main.remove(at);
            let weight = weight - expiry_bytes(expiry);
            if let Some(expiry) = shortened(expiry) {
                self.hot.push(ModelEntry::new(key, weight, loaded, expiry));
            }
        }
        self.make_room(0);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Get { key: u8, requester: Requester, freshness: Freshness },
    Insert { key: u8, weight: usize, loaded: bool, lane: Lane, expiry: Option<[u32; 4]> },
    Remove { key: u8 },
    Reassign { below: u8, ttl_ms: u64 },
    Pass { ms: u64 },
    Sweep,
    Clear,
}

fn policy() -> impl Strategy<Value = EvictionPolicy> {
    prop_oneof![Just(EvictionPolicy::Adaptive), Just(EvictionPolicy::Lru)]
}

fn step() -> impl Strategy<Value = Step> {
    let requester = prop_oneof![3 => Just(Requester::Local), 1 => Just(Requester::Peer)];
    let freshness = prop_oneof![3 => Just(Freshness::AllowStale), 1 => Just(Freshness::FreshOnly)];
    let lane = prop_oneof![Just(Lane::Main), Just(Lane::Hot)];
    let expiry = prop::option::of([0..40_u32, 0..20, 0..20, 0..20]);
    prop_oneof![
        8 => (0..12_u8, requester, freshness).prop_map(|(key, requester, freshness)| {
            Step::Get { key, requester, freshness }
        }),
        8 => (0..12_u8, 1..60_usize, any::<bool>(), lane, expiry).prop_map(|(key, weight, loaded, lane, expiry)| {
            Step::Insert { key, weight, loaded, lane, expiry }
        }),
        2 => (0..12_u8).prop_map(|key| Step::Remove { key }),
        2 => (0..12_u8, 0..50_u64).prop_map(|(below, ttl_ms)| Step::Reassign { below, ttl_ms }),
        3 => (1..40_u64).prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::Sweep),
        1 => Just(Step::Clear),
    ]
}

/// An expiry from the length of each stage but the last.
fn expiry_of(stages: Option<[u32; 4]>, now_ms: u64) -> Expiry {
    match stages {
        None => Expiry::never(now_ms),
        Some([refresh_after, fresh, stale, fallback]) => {
            let fresh_until = refresh_after + fresh;
            let stale_until = fresh_until + stale;
            let ages = [refresh_after, fresh_until, stale_until, stale_until + fallback];
            Expiry::staged(now_ms, ages)
        }
    }
}

proptest! {
    #[test]
    fn behaves_as_two_lists_under_one_budget(steps in prop::collection::vec(step(), 1..150)) {
        const MAX_BYTES: usize = 400;
        let cache = cache_of(MAX_BYTES, 1, EvictionPolicy::Lru);
        let mut model = Model { max_bytes: MAX_BYTES, ..Model::default() };
        let mut now_ms = 1_000;
        for step in steps {
            match step {
                Step::Get { key, requester, freshness } => {
                    let peeked = cache.peek(&[key], requester, freshness, now_ms).map(|found| found.source);
                    let found = cache.get(&[key], requester, freshness, now_ms, |entry| entry.found().source);
                    prop_assert_eq!(peeked, found);
                    prop_assert_eq!(found, model.get(key, requester, freshness, now_ms));
                }
                Step::Insert { key, weight, loaded, lane, expiry } => {
                    // Main holds what was loaded here, as the engine fills it.
                    let loaded = loaded || lane == Lane::Main;
                    let expiry = expiry_of(expiry, now_ms);
                    drop(cache.insert(weight, entry(&[key], loaded), || Some((lane, expiry))));
                    model.insert(ModelEntry::new(key, weight, loaded, expiry), lane);
                }
                Step::Remove { key } => {
                    drop(cache.remove(&[key]));
                    model.remove(key);
                }
                Step::Reassign { below, ttl_ms } => {
                    let ttl = Duration::from_millis(ttl_ms);
                    let shortened = |expiry: Expiry| expiry.shortened_to(ttl, now_ms, 1.0);
                    cache.reassign(|key| key[0] < below, shortened);
                    model.reassign(|key| key < below, shortened);
                }
                Step::Pass { ms } => now_ms += ms,
                Step::Sweep => {
                    cache.sweep(now_ms, || ());
                    model.sweep(now_ms);
                }
                Step::Clear => {
                    cache.clear();
                    model = Model { max_bytes: MAX_BYTES, ..Model::default() };
                }
            }
            let (main, hot) = cache.stats();
            prop_assert_eq!((main.bytes, main.items), (bytes(&model.main) as u64, model.main.len() as u64));
            prop_assert_eq!((hot.bytes, hot.items), (bytes(&model.hot) as u64, model.hot.len() as u64));
            prop_assert_eq!(cache.budget.bytes() as u64, main.bytes + hot.bytes);
        }
        // Whatever happened, an entry that can expire does.
        cache.sweep(u64::MAX - 1, || ());
        model.sweep(u64::MAX - 1);
        prop_assert_eq!(cache.stats().0.items + cache.stats().1.items, (model.main.len() + model.hot.len()) as u64);
    }

    /// However many shards there are, they hold what the budget allows, and every byte is counted.
    #[test]
    fn shards_keep_one_budget(inserts in prop::collection::vec((0..200_u8, 1..120_usize), 1..300), policy in policy()) {
        const MAX_BYTES: usize = 1_000;
        let cache = cache_of(MAX_BYTES, 8, policy);
        for (key, weight) in inserts {
            drop(cache.insert(weight, entry(&[key], true), || Some((Lane::Main, Expiry::never(0)))));
            let bytes = cache.stats().0.bytes;
            prop_assert!(bytes <= MAX_BYTES as u64);
            prop_assert_eq!(cache.budget.bytes() as u64, bytes);
            prop_assert!(cache.contains(&[key]), "an entry that was just inserted is there");
        }
    }

    /// A value that is found was inserted last and has not expired, the sums are right, and in the
    /// end all that expires is gone. So under every policy, with many entries in few or many
    /// shards, where slots move.
    #[test]
    fn a_found_value_was_inserted_last_whatever_the_policy(
        steps in prop::collection::vec((0..10_u8, 0..800_u16, 0..60_u32, any::<bool>()), 1..3_000),
        policy in policy(),
        shards in prop::sample::select(vec![1_usize, 8]),
    ) {
        const MAX_BYTES: usize = 50_000;
        let cache = cache_of(MAX_BYTES, shards, policy);
        let mut last: std::collections::HashMap<u16, Expiry> = std::collections::HashMap::new();
        let mut now_ms = 1_000;
        for (step, key, ms, hot) in steps {
            let bytes = key.to_be_bytes();
            match step {
                0..4 => {
                    let expiry = if ms < 30 { Expiry::never(now_ms) } else { Expiry::after(now_ms, ms) };
                    let lane = if hot { Lane::Hot } else { Lane::Main };
                    drop(cache.insert(WEIGHT, entry(&bytes, true), || Some((lane, expiry))));
                    last.insert(key, expiry);
                    prop_assert!(cache.contains(&bytes), "an entry that was just inserted is there");
                }
                4..7 => {
                    let found = found_remaining_ms(&cache, key, now_ms);
                    let expected = last.get(&key).map(|expiry| remaining_ms(expiry, now_ms));
                    prop_assert!(found.is_none() || found == expected, "{:?} of {:?}", found, expected);
                }
                // A burst now and then, so that entries move to other slots.
                7 if ms < 5 => for key in key..key.saturating_add(300) {
                    drop(cache.remove(&key.to_be_bytes()));
                    last.remove(&key);
                },
                7 | 8 => now_ms += u64::from(ms) / 20,
                _ => {
                    cache.sweep(now_ms, || ());
                    let ttl = Duration::from_millis(ms.into());
                    let shortened = |expiry: Expiry| expiry.shortened_to(ttl, now_ms, 1.0);
                    cache.reassign(|owned| owned[1] % 7 != 0, shortened);
                    last.iter_mut().filter(|(key, _)| key.to_be_bytes()[1] % 7 == 0).for_each(|(key, expiry)| {
                        let in_hot = found_remaining_ms(&cache, *key, now_ms);
                        // Only an entry that was in main has a new expiry: it says so itself.
                        if let Some(remaining) = in_hot && remaining != remaining_ms(expiry, now_ms) {
                            *expiry = shortened(*expiry).expect("a copy that is cached has an expiry");
                        }
                    });
                }
            }
            let (main, hot) = cache.stats();
            prop_assert!(main.bytes + hot.bytes <= MAX_BYTES as u64);
            prop_assert_eq!(cache.budget.bytes() as u64, main.bytes + hot.bytes);
        }
        cache.sweep(u64::MAX - 1, || ());
        let mut never = 0;
        cache.for_each(u64::MAX - 1, |_, found| never += u64::from(found.remaining_ms.is_none()));
        let (main, hot) = cache.stats();
        prop_assert_eq!((main.items + hot.items, main.bytes + hot.bytes), (never, never * WEIGHT as u64));
    }
}
