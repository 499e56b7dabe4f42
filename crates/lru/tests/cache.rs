//! The exact LRU, one behaviour at a time.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use peercache_lru::{Cache, entry_overhead};
use support::{Heard, filled, plain, shown};

/// golang/groupcache's `TestEvict`, its limit of 20 entries said in bytes.
#[test]
fn of_22_entries_20_stay_and_the_first_two_leave_in_order() {
    let heard = Heard::default();
    let mut cache = plain(20, &heard);
    for number in 0..22 {
        cache.insert(format!("myKey{number}"), 1).unwrap();
    }
    assert_eq!(heard.take(), ["myKey0 Size", "myKey1 Size"]);
    assert_eq!(cache.len(), 20);
}

#[test]
fn an_entry_costs_key_value_and_overhead() {
    let mut cache = Cache::<String, Vec<u8>>::new(1 << 10);
    cache.insert("role".into(), vec![0; 100]).unwrap();
    assert_eq!(cache.bytes(), 4 + 100 + entry_overhead::<String, Vec<u8>>());
}

#[test]
fn one_heavy_entry_evicts_many() {
    let heard = Heard::default();
    let mut cache = filled(10, "a2 b2 c2 d2", &heard);
    cache.insert("e".into(), 7).unwrap();
    assert_eq!(heard.take(), ["a Size", "b Size", "c Size"]);
    assert_eq!(shown(&cache), "e7 d2 = 9");
}

#[test]
fn an_entry_as_heavy_as_the_budget_fits() {
    let mut cache = filled(10, "a2 b2", &Heard::default());
    cache.insert("c".into(), 10).unwrap();
    assert_eq!(shown(&cache), "c10 = 10");
}

#[test]
fn a_get_saves_an_entry_and_a_peek_does_not() {
    let mut cache = filled(3, "a1 b1 c1", &Heard::default());
    cache.get("a");
    cache.peek("b");
    cache.contains("b");
    cache.insert("d".into(), 1).unwrap();
    assert_eq!(shown(&cache), "d1 a1 c1 = 3");
}

#[test]
fn an_oversize_entry_is_refused_and_evicts_nothing() {
    let heard = Heard::default();
    let mut cache = filled(10, "a5 b5", &heard);
    let refused = cache.insert("c".into(), 11).unwrap_err();
    assert_eq!(refused.to_string(), "an entry of 11 bytes exceeds the cache's budget of 10");
    assert_eq!((refused.key.as_str(), refused.value), ("c", 11));
    assert_eq!(shown(&cache), "b5 a5 = 10");
    assert_eq!(heard.take().len(), 0);
}

#[test]
fn an_oversize_value_leaves_no_stale_one_behind() {
    let heard = Heard::default();
    let mut cache = filled(10, "a5 b5", &heard);
    cache.insert("a".into(), 11).unwrap_err();
    assert_eq!(shown(&cache), "b5 = 5");
    assert_eq!(heard.take(), ["a Replaced"]);
}

#[test]
fn a_replaced_entry_is_charged_for_its_new_value() {
    let heard = Heard::default();
    let mut cache = filled(10, "a5 b2", &heard);
    assert_eq!(cache.insert("a".into(), 3), Ok(Some(5)));
    assert_eq!(shown(&cache), "a3 b2 = 5");
    assert_eq!(heard.take(), ["a Replaced"]);
}

#[test]
fn a_replacement_that_grows_evicts_others_and_never_itself() {
    let heard = Heard::default();
    let mut cache = filled(10, "a4 b3 c3", &heard);
    cache.insert("a".into(), 7).unwrap();
    assert_eq!(shown(&cache), "a7 c3 = 10");
    assert_eq!(heard.take(), ["a Replaced", "b Size"]);
    cache.insert("a".into(), 10).unwrap();
    assert_eq!(shown(&cache), "a10 = 10");
}

#[test]
fn it_is_usable_after_clear() {
    let heard = Heard::default();
    let mut cache = filled(10, "a5 b5", &heard);
    cache.clear();
    assert_eq!(heard.take(), ["a Cleared", "b Cleared"]);
    assert_eq!(shown(&cache), " = 0");
    cache.insert("c".into(), 6).unwrap();
    cache.insert("d".into(), 6).unwrap();
    assert_eq!(shown(&cache), "d6 = 6");
}

#[test]
fn removed_entries_are_no_longer_charged() {
    let heard = Heard::default();
    let mut cache = filled(10, "a5 b4", &heard);
    assert_eq!(cache.remove("a"), Some(5));
    assert_eq!(cache.remove("a"), None);
    assert_eq!(shown(&cache), "b4 = 4");
    assert_eq!(heard.take(), ["a Removed"]);
}

#[test]
fn the_least_recent_can_be_seen_and_taken() {
    let heard = Heard::default();
    let mut cache = filled(10, "a5 b4", &heard);
    assert_eq!(cache.peek_lru(), Some((&"a".to_owned(), &5)));
    let entry = cache.pop_lru().unwrap();
    assert_eq!((entry.key.as_str(), entry.value, entry.weight), ("a", 5, 5));
    assert_eq!(shown(&cache), "b4 = 4");
    assert_eq!(heard.take(), ["a Removed"]);
}

#[test]
fn a_smaller_budget_evicts_and_a_larger_one_does_not() {
    let heard = Heard::default();
    let mut cache = filled(10, "a3 b3 c3", &heard);
    cache.resize(6);
    assert_eq!(heard.take(), ["a Size"]);
    cache.resize(9);
    cache.insert("d".into(), 3).unwrap();
    assert_eq!(shown(&cache), "d3 c3 b3 = 9");
}

#[test]
fn it_iterates_both_ways() {
    let cache = filled(10, "a1 b1 c1", &Heard::default());
    let oldest_first: String = cache.iter().rev().map(|(key, _)| key.as_str()).collect();
    assert_eq!((oldest_first.as_str(), cache.iter().len()), ("abc", 3));
}

#[test]
fn a_weigher_may_change_its_mind() {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    let weight = Arc::new(AtomicUsize::new(3));
    let weigh = Arc::clone(&weight);
    let mut cache: Cache<u8, ()> =
        Cache::builder(10).entry_overhead(0).weigher(move |_: &u8, (): &()| weigh.load(Ordering::Relaxed)).build();
    cache.insert(1, ()).unwrap();
    cache.insert(2, ()).unwrap();
    weight.store(7, Ordering::Relaxed);
    cache.remove(&1);
    assert_eq!(cache.bytes(), 3);
}

#[test]
fn absurd_weights_saturate() {
    let mut cache: Cache<u8, ()> = Cache::builder(usize::MAX - 1).weigher(|_: &u8, (): &()| usize::MAX).build();
    assert_eq!(cache.insert(1, ()).unwrap_err().weight, usize::MAX);
}

#[test]
fn a_sum_past_the_largest_number_evicts_instead_of_wrapping() {
    let mut cache: Cache<u8, ()> =
        Cache::builder(usize::MAX).entry_overhead(0).weigher(|_: &u8, (): &()| usize::MAX - 1).build();
    cache.insert(1, ()).unwrap();
    cache.insert(2, ()).unwrap();
    assert_eq!((cache.len(), cache.bytes()), (1, usize::MAX - 1));
}

#[test]
fn a_budget_of_zero_holds_nothing() {
    let mut cache = Cache::<u8, u8>::new(0);
    assert!(cache.insert(1, 1).is_err());
    assert!(cache.is_empty());
}

#[test]
fn a_weigher_that_panics_changes_nothing() {
    let mut cache: Cache<String, usize> = Cache::builder(10)
        .entry_overhead(0)
        .weigher(|_: &String, value: &usize| if *value == 9 { panic!("weigher") } else { *value })
        .build();
    cache.insert("a".into(), 4).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| cache.insert("a".into(), 9))).is_err());
    assert_eq!(shown(&cache), "a4 = 4");
}

#[test]
fn a_listener_that_panics_leaves_the_cache_whole() {
    let mut cache: Cache<String, usize> = Cache::builder(10)
        .entry_overhead(0)
        .weigher(|_: &String, value: &usize| *value)
        .eviction_listener(|_: &String, _: &usize, _| panic!("listener"))
        .build();
    for key in ["a", "b", "c"] {
        cache.insert(key.into(), 3).unwrap();
    }
    assert!(catch_unwind(AssertUnwindSafe(|| cache.insert("d".into(), 6))).is_err(), "evicting");
    assert_eq!(shown(&cache), "d6 c3 = 9");
    assert!(catch_unwind(AssertUnwindSafe(|| cache.insert("d".into(), 2))).is_err(), "replacing");
    assert_eq!(shown(&cache), "d2 c3 = 5");
    assert!(catch_unwind(AssertUnwindSafe(|| cache.remove("d"))).is_err(), "removing");
    assert_eq!(shown(&cache), "c3 = 3");
    assert!(catch_unwind(AssertUnwindSafe(|| cache.clear())).is_err(), "clearing");
    assert_eq!(shown(&cache), " = 0");
}

#[test]
fn it_moves_to_other_threads_and_is_shared_behind_a_lock() {
    fn shareable<T: Send + Sync>() {}
    shareable::<Cache<String, Vec<u8>>>();
    shareable::<peercache_lru::ShardedCache<String, Vec<u8>>>();
}
