use proptest::prelude::*;

use super::*;
use crate::Bytes;

const WEIGHT: usize = 100;

/// One shard with room for so many entries of the tests' weight.
fn cache(entries: usize) -> Cache<Bytes> {
    Cache::new(entries * WEIGHT, 1)
}

fn put(cache: &Cache<Bytes>, key: &str, place: Place) {
    let entry = Entry { value: Bytes::new(), loaded: true, expires_ms: 0 };
    drop(cache.insert(key.into(), WEIGHT, entry, 0, || Some((place, 0))));
}

/// Items in main and in hot.
fn items(cache: &Cache<Bytes>) -> (u64, u64) {
    let (main, hot) = cache.stats();
    assert_eq!(main.bytes + hot.bytes, (main.items + hot.items) * WEIGHT as u64, "every entry is accounted once");
    (main.items, hot.items)
}

#[test]
fn an_entry_that_comes_again_is_in_one_place() {
    let cache = cache(10);
    for (place, expected) in [(Place::Main, (1, 0)), (Place::Main, (1, 0)), (Place::Hot, (0, 1)), (Place::Main, (1, 0))]
    {
        put(&cache, "key", place);
        assert_eq!(items(&cache), expected);
    }
}

#[test]
fn hot_gives_way_while_it_holds_more_than_an_eighth_of_main() {
    let cache = cache(10);
    (0..5).for_each(|n| put(&cache, &format!("hot-{n}"), Place::Hot));
    (0..9).for_each(|n| put(&cache, &format!("main-{n}"), Place::Main));
    assert_eq!(items(&cache), (9, 1));
}

#[test]
fn main_gives_way_while_hot_is_small() {
    let cache = cache(10);
    put(&cache, "hot", Place::Hot);
    (0..20).for_each(|n| put(&cache, &format!("main-{n}"), Place::Main));
    assert_eq!(items(&cache), (9, 1));
}

#[test]
fn the_least_recently_used_leaves_first() {
    let cache = cache(2);
    put(&cache, "a", Place::Main);
    put(&cache, "b", Place::Main);
    assert!(cache.get(b"a", Reader::Caller, 0).is_some());
    put(&cache, "c", Place::Main);
    let there = ["a", "b", "c"].map(|key| cache.peek(key.as_bytes(), Reader::Caller, 0).is_some());
    assert_eq!(there, [true, false, true]);
}

fn put_until(cache: &Cache<Bytes>, key: &str, weight: usize, expires_ms: u64, now_ms: u64) {
    let entry = Entry { value: Bytes::new(), loaded: true, expires_ms: 0 };
    drop(cache.insert(key.into(), weight, entry, now_ms, || Some((Place::Hot, expires_ms))));
}

#[test]
fn an_expired_entry_leaves_when_it_is_asked_for() {
    let cache = cache(10);
    put_until(&cache, "key", WEIGHT, 1_000, 0);
    assert!(cache.get(b"key", Reader::Caller, 999).is_some());
    assert!(cache.get(b"key", Reader::Caller, 1_000).is_none());
    assert_eq!(items(&cache), (0, 0));
}

#[test]
fn expired_entries_that_nobody_asks_for_leave_as_others_come() {
    let cache = cache(1_000);
    (0..100).for_each(|n| put_until(&cache, &format!("old-{n}"), WEIGHT, 1_000, 0));
    (0..30).for_each(|n| put_until(&cache, &format!("new-{n}"), WEIGHT, 3_000, 2_000));
    assert_eq!(items(&cache), (0, 30));
}

#[test]
fn a_value_may_be_as_large_as_the_whole_budget() {
    let cache = Cache::new(64 * WEIGHT, 16);
    (0..64).for_each(|n| put(&cache, &format!("small-{n}"), Place::Main));
    assert_eq!(items(&cache), (64, 0));
    put_until(&cache, "large", 64 * WEIGHT, 0, 0);
    let (main, hot) = cache.stats();
    assert_eq!((main.items, hot.items, hot.bytes), (0, 1, 64 * WEIGHT as u64));
    assert_eq!(main.evictions, 64);
    put(&cache, "small", Place::Main);
    let (main, hot) = cache.stats();
    assert_eq!((main.items, hot.items, cache.budget.bytes.load(Relaxed)), (1, 0, WEIGHT));
}

/// The same cache, obvious and slow: two lists, the least recent first.
#[derive(Default)]
struct Model {
    main: Vec<Modelled>,
    hot: Vec<Modelled>,
    max_bytes: usize,
}

#[derive(Clone)]
struct Modelled {
    key: u8,
    weight: usize,
    loaded: bool,
    expires_ms: u64,
}

impl Modelled {
    fn expired(&self, now_ms: u64) -> bool {
        self.expires_ms != 0 && self.expires_ms <= now_ms
    }
}

fn bytes(list: &[Modelled]) -> usize {
    list.iter().map(|entry| entry.weight).sum()
}

fn touch(list: &mut Vec<Modelled>, key: u8, reader: Reader, now_ms: u64) -> bool {
    let found =
        |entry: &Modelled| entry.key == key && (reader == Reader::Caller || entry.loaded) && !entry.expired(now_ms);
    let Some(at) = list.iter().position(found) else { return false };
    let entry = list.remove(at);
    list.push(entry);
    true
}

impl Model {
    fn get(&mut self, key: u8, reader: Reader, now_ms: u64) -> Option<Source> {
        if touch(&mut self.main, key, reader, now_ms) {
            return Some(Source::Main);
        }
        if touch(&mut self.hot, key, reader, now_ms) {
            return Some(Source::Hot);
        }
        self.hot.retain(|entry| entry.key != key || !entry.expired(now_ms));
        None
    }

    fn insert(&mut self, entry: Modelled, place: Place, now_ms: u64) {
        self.main.retain(|other| other.key != entry.key);
        self.hot.retain(|other| other.key != entry.key);
        if entry.weight > self.max_bytes {
            return;
        }
        let oldest_expired = self.hot.iter().take(4).take_while(|entry| entry.expired(now_ms)).count();
        self.hot.drain(..oldest_expired);
        while bytes(&self.main) + bytes(&self.hot) + entry.weight > self.max_bytes {
            let hot_is_large = bytes(&self.hot) > bytes(&self.main) / 8;
            if hot_is_large { &mut self.hot } else { &mut self.main }.remove(0);
        }
        match place {
            Place::Main => self.main.push(entry),
            Place::Hot => self.hot.push(entry),
        }
    }

    fn rehome(&mut self, owned: impl Fn(u8) -> bool, expires_ms: Option<u64>) {
        let (kept, lost) = std::mem::take(&mut self.main).into_iter().partition(|entry| owned(entry.key));
        self.main = kept;
        if let Some(expires_ms) = expires_ms {
            self.hot.extend(lost.into_iter().map(|entry: Modelled| Modelled { expires_ms, ..entry }));
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Get { key: u8, reader: Reader },
    Insert { key: u8, weight: usize, loaded: bool, place: Place, ttl_ms: u64 },
    Rehome { below: u8, ttl_ms: Option<u64> },
    Pass { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let reader = prop_oneof![3 => Just(Reader::Caller), 1 => Just(Reader::Peer)];
    let place = prop_oneof![Just(Place::Main), Just(Place::Hot)];
    prop_oneof![
        4 => (0..12_u8, reader).prop_map(|(key, reader)| Step::Get { key, reader }),
        4 => (0..12_u8, 1..60_usize, any::<bool>(), place, 0..50_u64).prop_map(|(key, weight, loaded, place, ttl_ms)| {
            Step::Insert { key, weight, loaded, place, ttl_ms }
        }),
        1 => (0..12_u8, prop::option::of(1..50_u64)).prop_map(|(below, ttl_ms)| Step::Rehome { below, ttl_ms }),
        1 => (1..40_u64).prop_map(|ms| Step::Pass { ms }),
    ]
}

proptest! {
    #[test]
    fn behaves_as_two_lists_under_one_budget(steps in prop::collection::vec(step(), 1..120)) {
        const MAX_BYTES: usize = 200;
        let cache: Cache<Bytes> = Cache::new(MAX_BYTES, 1);
        let mut model = Model { max_bytes: MAX_BYTES, ..Model::default() };
        let mut now_ms = 1;
        for step in steps {
            match step {
                Step::Get { key, reader } => {
                    let found = cache.get(&[key], reader, now_ms).map(|hit| hit.source);
                    prop_assert_eq!(found, model.get(key, reader, now_ms));
                }
                Step::Insert { key, weight, loaded, place, ttl_ms } => {
                    // Main holds what was loaded here and has no end, as the engine fills it.
                    let loaded = loaded || place == Place::Main;
                    let expires_ms = if place == Place::Main || ttl_ms == 0 { 0 } else { now_ms + ttl_ms };
                    let entry = Entry { value: Bytes::new(), loaded, expires_ms: 0 };
                    drop(cache.insert(Key::copy_from(&[key]), weight, entry, now_ms, || Some((place, expires_ms))));
                    model.insert(Modelled { key, weight, loaded, expires_ms }, place, now_ms);
                }
                Step::Rehome { below, ttl_ms } => {
                    let expires_ms = ttl_ms.map(|ttl_ms| now_ms + ttl_ms);
                    cache.rehome(|key| key.as_bytes()[0] < below, expires_ms);
                    model.rehome(|key| key < below, expires_ms);
                }
                Step::Pass { ms } => now_ms += ms,
            }
            let (main, hot) = cache.stats();
            prop_assert_eq!((main.bytes, main.items), (bytes(&model.main) as u64, model.main.len() as u64));
            prop_assert_eq!((hot.bytes, hot.items), (bytes(&model.hot) as u64, model.hot.len() as u64));
            prop_assert_eq!(cache.budget.bytes.load(Relaxed) as u64, main.bytes + hot.bytes);
        }
    }

    /// However many shards there are, they hold what the budget allows and nothing is lost count of.
    #[test]
    fn shards_keep_one_budget(inserts in prop::collection::vec((0..200_u8, 1..120_usize), 1..300)) {
        const MAX_BYTES: usize = 1_000;
        let cache: Cache<Bytes> = Cache::new(MAX_BYTES, 8);
        for (key, weight) in inserts {
            let entry = Entry { value: Bytes::new(), loaded: true, expires_ms: 0 };
            drop(cache.insert(Key::copy_from(&[key]), weight, entry, 0, || Some((Place::Main, 0))));
            let held = cache.stats().0.bytes;
            prop_assert!(held <= MAX_BYTES as u64);
            prop_assert_eq!(cache.budget.bytes.load(Relaxed) as u64, held);
            prop_assert!(cache.peek(&[key], Reader::Caller, 0).is_some(), "what has just come in is there");
        }
    }
}
