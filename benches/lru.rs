//! The sharded LRU beside its rivals: moka, quick_cache, foyer and 64 locked `lru`s.
//!
//! All get the same 16-byte keys, values of 100 B (`Bytes`, each in a block of its own), hasher, budget and weigher: an entry
//! weighs 116 bytes, nobody charges an overhead, so a budget holds the same number of entries everywhere. Three questions:
//!
//! - `hit`: 100k keys, all present, asked for by a Zipf law, from one thread and from two;
//! - `insert_evict`: always a new key into a full cache of 10k entries;
//! - `mixed`: the Zipf law again, room for a tenth of the keys, nine lookups to one insertion. The ratio of hits is printed
//!   first, because a cache that forgets the wrong entries can be fast.
//!
//! `cargo bench -p peercache-benches --bench lru`

mod support {
    pub mod durations;
    pub mod rivals;
    pub mod workload;
}

use std::hint::black_box;

use ahash::RandomState;
use bytes::Bytes;
use criterion::{Criterion, Throughput};

use support::{
    durations,
    rivals::{Rival, beside_rivals},
    workload::{ENTRY_BYTES, Key, Size, ZIPF, asked, hasher, key, on_threads, value, weigh},
};

fn main() {
    let size = Size::from_args();
    let mut criterion = durations::criterion();
    let asked = asked(&size, ZIPF);
    beside_rivals!(hit::<Ours>(&mut criterion, &size, &asked));
    beside_rivals!(insert_evict::<Ours>(&mut criterion, &size));
    beside_rivals!(mixed::<Ours>(&mut criterion, &size, &asked));
    criterion.final_summary();
}

fn hit<C: Rival>(criterion: &mut Criterion, size: &Size, asked: &[Key]) {
    // Room for all twice over, so that no shard of anybody's overflows.
    let cache = C::new(size.keys * 2 * ENTRY_BYTES, size.keys);
    for number in 0..size.keys {
        cache.insert(key(number), value());
    }
    let mut group = criterion.benchmark_group("hit");
    group.throughput(Throughput::Elements(1));
    for threads in [1, 2] {
        group.bench_function(format!("{}/{threads}", C::NAME), |bencher| {
            bencher.iter_custom(|iterations| {
                on_threads(threads, iterations, asked, |key| drop(black_box(cache.get(key))))
            });
        });
    }
}

fn insert_evict<C: Rival>(criterion: &mut Criterion, size: &Size) {
    let entries = size.keys / 10;
    let cache = C::new(entries * ENTRY_BYTES, entries);
    for number in 0..2 * entries {
        cache.insert(key(number), value());
    }
    let mut number = 2 * entries;
    let mut group = criterion.benchmark_group("insert_evict");
    group.throughput(Throughput::Elements(1));
    group.bench_function(C::NAME, |bencher| {
        bencher.iter(|| {
            number += 1;
            cache.insert(key(number), value());
        });
    });
}

fn mixed<C: Rival>(criterion: &mut Criterion, size: &Size, asked: &[Key]) {
    let entries = size.keys / 10;
    let cache = C::new(entries * ENTRY_BYTES, entries);
    let mut step = 0_usize;
    let mut one = || {
        step += 1;
        let key = &asked[step % asked.len()];
        if step.is_multiple_of(10) {
            cache.insert(*key, value());
            None
        } else {
            Some(cache.get(key).is_some())
        }
    };
    // Once around to warm up, then what is printed.
    (0..size.asked).for_each(|_| {
        one();
    });
    let lookups: Vec<bool> = (0..size.asked).filter_map(|_| one()).collect();
    let hits = lookups.iter().filter(|hit| **hit).count();
    println!("mixed/{}: {:.2} % hits", C::NAME, 100.0 * hits as f64 / lookups.len() as f64);

    let mut group = criterion.benchmark_group("mixed");
    group.throughput(Throughput::Elements(1));
    group.bench_function(C::NAME, |bencher| bencher.iter(&mut one));
}

struct Ours(peercache_lru::ShardedCache<Key, Bytes, RandomState>);

impl Rival for Ours {
    const NAME: &'static str = "peercache";

    fn new(max_bytes: usize, _: usize) -> Self {
        let builder = peercache_lru::ShardedCache::builder(max_bytes);
        Ours(builder.weigher(weigh).entry_overhead(0).hasher(hasher()).build_sharded())
    }

    fn get(&self, key: &Key) -> Option<Bytes> {
        self.0.get(key)
    }

    fn insert(&self, key: Key, value: Bytes) {
        self.0.insert(key, value).expect("116 bytes fit");
    }
}
