//! Ownership of keys: the native table, the ring of golang/groupcache and the `hashring` crate
//! (SipHash, given as many points per name as golang). Beside the times it prints how evenly each
//! shares out keys and how many move on a change.

mod support;

use std::collections::HashMap;
use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use hashring::HashRing;
use peercache_consistenthash::{Profile, Ring, SLOTS, Table};

use support::durations::{self, elapsed};
use support::ring::{largest_share_over_mean, lookups, moved_over_ideal, names};
use support::workload::Key;

const SIZES: [usize; 3] = [3, 10, 100];

/// A power of two, and 16 bytes each, so that neither finding nor reading the next key costs more
/// than the lookup.
const KEYS: usize = 1 << 16;

const POINTS_PER_NAME: usize = 50;

criterion_group! {
    name = benches;
    config = durations::criterion();
    targets = lookup, build, print_balance, print_movement
}
criterion_main!(benches);

fn lookup(c: &mut Criterion) {
    let keys: Vec<Key> = sample().take(KEYS).collect();
    let mut group = c.benchmark_group("ring/lookup");
    for size in SIZES {
        let names = names(size);
        let table = Table::new(&names).expect("names differ");
        let golang = Ring::golang(&names).expect("names differ");
        let hashring = hashring(&names);
        each(&mut group, BenchmarkId::new("native", size), &keys, |key| table.owner_index(key));
        each(&mut group, BenchmarkId::new("golang", size), &keys, |key| golang.owner_index(key));
        each(&mut group, BenchmarkId::new("hashring", size), &keys, |key| hashring.get(key).map(|point| point.name));
        each(&mut group, BenchmarkId::new("native, 3 owners", size), &keys, |key| table.owner_indices(key, 3));
        each(&mut group, BenchmarkId::new("golang, 3 owners", size), &keys, |key| golang.owner_indices(key, 3));
    }
    group.finish();
}

fn each<O>(group: &mut BenchmarkGroup<'_, WallTime>, id: BenchmarkId, keys: &[Key], owner: impl Fn(&Key) -> O) {
    group.bench_function(id, |bencher| {
        bencher.iter_custom(|iterations| elapsed(|| lookups(keys.iter().cycle().take(iterations as usize), &owner)));
    });
}

fn build(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring/build");
    group.sample_size(10);
    for size in SIZES {
        let names = names(size);
        group.bench_function(BenchmarkId::new("native", size), |b| {
            b.iter(|| Table::new(black_box(&names)));
        });
        group.bench_function(BenchmarkId::new("golang", size), |b| {
            b.iter(|| Ring::golang(black_box(&names)));
        });
        group.bench_function(BenchmarkId::new("hashring", size), |b| {
            b.iter(|| hashring(black_box(&names)));
        });
    }
    group.finish();
}

fn print_balance(_: &mut Criterion) {
    println!("\nlargest share / mean (the table's of {SLOTS} slots, the rings' of a million keys)");
    for size in SIZES {
        let names = names(size);
        let [native, golang, hashring] = placements(&names).map(|owner| largest_share(&owner) * size as f64);
        let slots = largest_share_over_mean(&names);
        println!("{size:>4} names: native {slots:.3} (keys {native:.3}), golang {golang:.3}, hashring {hashring:.3}");
    }
}

fn print_movement(_: &mut Criterion) {
    println!("\nkeys that move when one of the names leaves / the mean share");
    for size in SIZES {
        let names = names(size);
        let before = placements(&names);
        let after = placements(&names[..size - 1]);
        let moved = |kind: usize| moved_over_ideal(sample(), size, &[&before[kind], &after[kind]]);
        println!("{size:>4} names: native {:.3}, golang {:.3}, hashring {:.3}", moved(0), moved(1), moved(2));
    }
    println!();
}

type Owner<'a> = Box<dyn Fn(&Key) -> &'a str + 'a>;

/// Native, golang, hashring.
fn placements(names: &[String]) -> [Owner<'_>; 3] {
    let by_name: HashMap<&str, &str> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
    let by_name_too = by_name.clone();
    let table = Table::new(names).expect("names differ");
    let golang = Ring::new(Profile::GOLANG.replicas(POINTS_PER_NAME), names).expect("names differ");
    let hashring = hashring(names);
    [
        Box::new(move |key| by_name[table.owner(key).expect("there are names")]),
        Box::new(move |key| by_name_too[golang.owner(key).expect("there are names")]),
        Box::new(move |key| &names[hashring.get(key).expect("there are names").name]),
    ]
}

fn largest_share(owner: &Owner<'_>) -> f64 {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for key in sample() {
        *counts.entry(owner(&key)).or_default() += 1;
    }
    counts.into_values().max().unwrap_or(0) as f64 / sample().count() as f64
}

#[derive(Hash)]
struct Point {
    name: usize,
    replica: usize,
}

fn hashring(names: &[String]) -> HashRing<Point> {
    let mut ring = HashRing::new();
    let points = (0..names.len()).flat_map(|name| (0..POINTS_PER_NAME).map(move |replica| Point { name, replica }));
    ring.batch_add(points.collect());
    ring
}

/// A million keys like `user:00000000042`.
fn sample() -> impl Iterator<Item = Key> {
    (0..1_000_000).map(|i| {
        let mut key = *b"user:00000000000";
        let mut rest: u32 = i;
        for digit in key[5..].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        key
    })
}
