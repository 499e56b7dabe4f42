//! The sharded cache: shards, counters, listeners and panics among threads.

mod support;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, Weak},
};

use peercache_lru::{EvictionPolicy, Removal, ShardedCache, Stats};
use support::Heard;

/// Entries weigh 1, so the budget counts them.
fn counted(entries: usize, shards: usize, heard: &Heard) -> ShardedCache<u64, u64> {
    ShardedCache::builder(entries)
        .entry_overhead(0)
        .weigher(|_: &u64, _: &u64| 1)
        .shards(shards)
        .eviction_listener(heard.listener())
        .build_sharded()
}

#[test]
fn shards_keep_within_the_budget_together() {
    let heard = Heard::default();
    let cache = counted(1_003, 8, &heard);
    for key in 0..5_000 {
        cache.insert(key, key).unwrap();
    }
    // Every shard sees some 625 keys and holds 125, so all are full to the last byte.
    assert_eq!((cache.max_bytes(), cache.bytes(), cache.len(), cache.max_entry_bytes()), (1_003, 1_003, 1_003, 125));
    assert_eq!(heard.take().len(), 5_000 - 1_003);
}

#[test]
fn inserted_values_are_found() {
    let cache = counted(10_000, 8, &Heard::default());
    for key in 0..1_000 {
        cache.insert(key, key * 2).unwrap();
    }
    assert!((0..1_000).all(|key| cache.get(&key) == Some(key * 2) && cache.peek(&key) == Some(key * 2)));
    let mut seen = 0;
    cache.for_each(|key, value| seen += u64::from(key * 2 == *value));
    assert_eq!(seen, 1_000);
}

#[test]
fn every_reason_is_told() {
    let heard = Heard::default();
    let cache = counted(2, 1, &heard);
    // A replaced entry is as new as its value: 1 and 2 were not used, and 2 came in again.
    for key in [1, 2, 2, 3] {
        cache.insert(key, 0).unwrap();
    }
    cache.remove(&3);
    cache.insert(4, 0).unwrap();
    cache.resize(1);
    cache.clear();
    assert_eq!(heard.take(), ["2 Replaced", "2 Size", "3 Removed", "4 Size", "1 Cleared"]);
}

#[test]
fn it_counts() {
    let cache = counted(2, 1, &Heard::default());
    for key in [1, 2, 3, 3] {
        cache.insert(key, 0).unwrap();
    }
    cache.insert_weighed(4, 0, 3).unwrap_err();
    cache.get(&1);
    cache.get(&3);
    cache.get(&2);
    cache.peek(&9);
    let Stats { hits, misses, insertions, refusals, evictions, .. } = cache.stats();
    assert_eq!((hits, misses, insertions, refusals, evictions), (2, 1, 4, 1, 1));
    assert_eq!(format!("{:.3}", cache.stats().hit_ratio()), "0.667");
}

#[test]
fn it_is_usable_after_clear() {
    let cache = counted(100, 4, &Heard::default());
    cache.insert(1, 1).unwrap();
    cache.clear();
    assert_eq!((cache.get(&1), cache.bytes()), (None, 0));
    cache.insert(1, 2).unwrap();
    assert_eq!((cache.get(&1), cache.bytes()), (Some(2), 1));
}

/// It would deadlock if it were called under a lock.
#[test]
fn the_listener_may_use_the_cache() {
    let found = Arc::new(Mutex::new(Vec::new()));
    let cache = Arc::new_cyclic(|cache: &Weak<ShardedCache<u64, u64>>| {
        let (cache, found) = (cache.clone(), Arc::clone(&found));
        ShardedCache::builder(1)
            .entry_overhead(0)
            .weigher(|_: &u64, _: &u64| 1)
            .eviction_listener(move |key: &u64, _: &u64, why: Removal| {
                let cache = cache.upgrade().expect("the cache is alive while it is used");
                found.lock().unwrap().push((*key, why, cache.get(key), cache.len()));
            })
            .build_sharded()
    });
    cache.insert(1, 1).unwrap();
    cache.insert(2, 2).unwrap();
    cache.insert(2, 3).unwrap();
    cache.remove(&2);
    cache.insert(4, 4).unwrap();
    cache.clear();
    assert_eq!(
        *found.lock().unwrap(),
        [
            (1, Removal::Size, None, 1),
            (2, Removal::Replaced, Some(3), 1),
            (2, Removal::Removed, None, 0),
            (4, Removal::Cleared, None, 0)
        ]
    );
}

#[test]
fn a_panic_under_the_lock_does_not_stop_the_others() {
    let cache = counted(10, 1, &Heard::default());
    cache.insert(1, 1).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| cache.get_with(&1, |_| panic!("reader")))).is_err());
    assert_eq!(cache.get(&1), Some(1));
}

#[test]
fn threads_do_not_lose_the_count() {
    let heard = Heard::default();
    let cache = counted(500, 4, &heard);
    std::thread::scope(|threads| {
        for worker in 0..4_u64 {
            let cache = &cache;
            threads.spawn(move || {
                for step in 0..5_000_u64 {
                    let key = (step * 7 + worker * 13) % 2_000;
                    match step % 5 {
                        0 => drop(cache.remove(&key)),
                        1 | 2 => drop(cache.get(&key)),
                        _ => drop(cache.insert(key, step)),
                    }
                    assert!(cache.bytes() <= 500);
                }
            });
        }
    });
    let mut entries = 0;
    cache.for_each(|_, _| entries += 1);
    assert_eq!((cache.bytes(), cache.len()), (entries, entries));
    // The listener heard of every entry that went in and is no longer there.
    let told = heard.take().len() as u64;
    assert_eq!(cache.stats().insertions, told + entries as u64);
}

/// The table grows while an entry comes in, and asks for the hashes of those that are there.
#[test]
fn a_key_whose_hash_panics_leaves_the_cache_whole() {
    use std::{
        hash::{Hash, Hasher},
        sync::atomic::{AtomicBool, Ordering::Relaxed},
    };

    struct Moody(u64, Arc<AtomicBool>);
    impl PartialEq for Moody {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }
    impl Eq for Moody {}
    impl Hash for Moody {
        fn hash<H: Hasher>(&self, state: &mut H) {
            assert!(self.0 != 0 || !self.1.load(Relaxed), "the hash panics");
            self.0.hash(state);
        }
    }
    let mood = Arc::new(AtomicBool::new(false));
    let key = |number| Moody(number, mood.clone());
    let cache = ShardedCache::builder(1_000).entry_overhead(0).weigher(|_: &Moody, _: &u64| 1).build_sharded();
    cache.insert(key(0), 0).unwrap();
    mood.store(true, Relaxed);
    let inserted = (1..200).filter(|&number| {
        let insert = AssertUnwindSafe(|| cache.insert(key(number), number).is_ok());
        catch_unwind(insert).unwrap_or(false)
    });
    let inserted: Vec<u64> = inserted.collect();
    mood.store(false, Relaxed);
    assert!(inserted.len() < 199, "the hash was asked for");
    assert!(inserted.iter().all(|&number| cache.remove(&key(number)) == Some(number)));
    assert_eq!((cache.remove(&key(0)), cache.len(), cache.bytes()), (Some(0), 0, 0));
}

proptest::proptest! {
    /// Under every policy, in one shard and in four, a key's value is the last inserted, and the
    /// bytes are those of the entries shown.
    #[test]
    fn a_key_has_the_value_inserted_last(
        steps in proptest::collection::vec((0..4_u8, 0..300_u16, 1..30_usize), 1..800),
        exact in proptest::bool::ANY,
        shards in proptest::sample::select(vec![1_usize, 4]),
    ) {
        let policy = if exact { EvictionPolicy::Lru } else { EvictionPolicy::Adaptive };
        let cache: ShardedCache<u16, usize> = ShardedCache::builder(1_200)
            .entry_overhead(0)
            .weigher(|_: &u16, weight: &usize| *weight)
            .eviction_policy(policy)
            .shards(shards)
            .build_sharded();
        let mut last = std::collections::HashMap::new();
        for (step, key, weight) in steps {
            match step {
                0 => {
                    let found = cache.get(&key);
                    proptest::prop_assert!(found.is_none() || found == last.get(&key).copied());
                }
                1 => {
                    let removed = cache.remove(&key);
                    proptest::prop_assert!(removed.is_none() || removed == last.remove(&key));
                    proptest::prop_assert!(!cache.contains(&key));
                }
                _ => {
                    cache.insert(key, weight).unwrap();
                    last.insert(key, weight);
                    proptest::prop_assert_eq!(cache.peek(&key), Some(weight), "a value just inserted is there");
                }
            }
            let (mut bytes, mut entries) = (0, 0);
            cache.for_each(|key, weight| {
                assert_eq!(last.get(key), Some(weight));
                (bytes, entries) = (bytes + weight, entries + 1);
            });
            proptest::prop_assert_eq!((cache.bytes(), cache.len()), (bytes, entries));
            proptest::prop_assert!(bytes <= 1_200);
        }
    }
}
