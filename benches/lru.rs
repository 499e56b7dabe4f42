//! The cache and the group around it, beside their rivals: moka, quick_cache, foyer and 64 locked
//! `lru`s.
//!
//! All get the same 16-byte keys, values of 100 B (`Bytes`, each in a block of its own), hasher,
//! budget and weigher. An entry weighs 116 bytes and nobody charges an overhead, so a budget holds
//! the same number of entries everywhere. Three questions, each asked by one thread and by two:
//!
//! - `hit`: 100k keys, all present, asked for by a Zipf law; beside a `DashMap`, which is no cache
//!   and evicts nothing. The hit of a group is measured by `get_hit`;
//! - `insert_evict`: always a new key into a full cache of 10k entries. Into a group a key comes
//!   through a load, with its task;
//! - `mixed`: the Zipf law again, room for a tenth of the keys, nine lookups to one insertion.
//!
//! The ratio of hits that each achieved is printed beside the time, because a cache that forgets
//! the wrong entries can be fast: of `insert_evict`, how many of the last keys that came in are
//! there.
//!
//! `cargo bench -p peercache-benches --bench lru`

mod support;

use std::{
    hint::black_box,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use criterion::{Criterion, Throughput};

use support::{
    durations,
    hits::{filled, hits},
    ours::{Cache, WholeGroup},
    rivals::{Map, Rival, beside_rivals},
    workload::{Asked, ENTRY_BYTES, Key, Size, ZIPF, asked, key, on_threads, value},
};

const THREADS: [usize; 2] = [1, 2];

fn main() {
    let size = Size::from_args();
    let mut criterion = durations::criterion();
    let asked = asked(&size, ZIPF);
    hit::<Map>(&mut criterion, &size, &asked);
    beside_rivals!(hit::<Cache>(&mut criterion, &size, &asked));
    insert_evict::<WholeGroup>(&mut criterion, &size, &asked);
    beside_rivals!(insert_evict::<Cache>(&mut criterion, &size, &asked));
    mixed::<WholeGroup>(&mut criterion, &size, &asked);
    beside_rivals!(mixed::<Cache>(&mut criterion, &size, &asked));
    criterion.final_summary();
}

fn hit<C: Rival>(criterion: &mut Criterion, size: &Size, asked: &[Key]) {
    // Room for all twice over, so that no shard of anybody's overflows.
    let cache = filled(C::new(size.keys * 2 * ENTRY_BYTES, size.keys), size.keys);
    let found = asked.iter().filter(|key| cache.get(key).is_some()).count();
    print_ratio::<C>("hit", found as f64 / asked.len() as f64);
    bench::<C>(criterion, "hit", asked, |keys| hits(keys, |key| cache.get(key)));
}

fn insert_evict<C: Rival>(criterion: &mut Criterion, size: &Size, asked: &[Key]) {
    let entries = size.keys / 10;
    let cache = C::new(entries * ENTRY_BYTES, entries);
    let number = AtomicUsize::new(0);
    let one = || cache.insert(key(number.fetch_add(1, Relaxed)), value());
    (0..2 * entries).for_each(|_| one());
    let last = (entries..2 * entries).filter(|number| cache.get(&key(*number)).is_some()).count();
    print_ratio::<C>("insert_evict", last as f64 / entries as f64);
    bench::<C>(criterion, "insert_evict", asked, |keys| keys.for_each(|_| one()));
}

fn mixed<C: Rival>(criterion: &mut Criterion, size: &Size, asked: &[Key]) {
    let entries = size.keys / 10;
    let cache = C::new(entries * ENTRY_BYTES, entries);
    let step = AtomicUsize::new(0);
    let one = |key: &Key| {
        if step.fetch_add(1, Relaxed).is_multiple_of(10) {
            cache.insert(*key, value());
            false
        } else {
            cache.get(key).is_some()
        }
    };
    // Once around to warm up, then what is printed.
    let around = || asked.iter().filter(|key| one(key)).count();
    around();
    print_ratio::<C>("mixed", around() as f64 / (asked.len() as f64 * 0.9));
    bench::<C>(criterion, "mixed", asked, |keys| keys.for_each(|key| _ = black_box(one(key))));
}

/// Each thread does as much as one alone, so with perfect scaling the times are the same.
fn bench<C: Rival>(criterion: &mut Criterion, name: &str, asked: &[Key], work: impl Fn(Asked<'_>) + Sync) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(1));
    for threads in THREADS {
        group.bench_function(format!("{}/{threads}", C::NAME), |bencher| {
            bencher.iter_custom(|iterations| on_threads(threads, iterations, asked, &work));
        });
    }
}

fn print_ratio<C: Rival>(name: &str, ratio: f64) {
    println!("{name}/{}: {:.2} % hits", C::NAME, 100.0 * ratio);
}
