//! A hit through a whole group, as the builder gives it without options, beside caches that are no
//! groups: moka, quick_cache, foyer and 64 locked `lru`s, and a `DashMap`, which is no cache at
//! all.
//!
//! 100k keys of 16 bytes, all present, values of 100 B (`Bytes`), 64 MiB of room for everybody,
//! foldhash (the group's own choice) for all; the value is cloned and dropped. Keys are asked for
//! by a Zipf law and evenly, from one thread and from two; with two, each does as much as one does
//! alone. The group's hit is its future's first poll: `peercache` makes the future, polls it with a
//! waker that does nothing and drops it, while `peercache, awaited` awaits it in a task.
//!
//! `cargo bench -p peercache-benches --bench get_hit`

mod support;

use bytes::Bytes;
use criterion::{Criterion, Throughput};

use support::{
    durations::{self, elapsed},
    hits::{awaited_hits, filled, hits},
    ours::WholeGroup,
    rivals::{Map, Rival, beside_rivals},
    workload::{Key, Law, Size, ZIPF, asked, on_threads},
};

/// The budget that a group has by default. It charges its overhead to it, and has room for
/// everything all the same.
const MAX_BYTES: usize = 64 << 20;

fn main() {
    let size = Size::from_args();
    let mut criterion = durations::criterion();
    let uniform: Law = |_| 1.0;
    let laws = [("zipf", asked(&size, ZIPF)), ("uniform", asked(&size, uniform))];
    hit::<Map>(&mut criterion, &size, &laws);
    beside_rivals!(hit::<Ours>(&mut criterion, &size, &laws));
    awaited(&mut criterion, &size, &laws);
    criterion.final_summary();
}

type Asked = [(&'static str, Vec<Key>)];

fn hit<C: Rival>(criterion: &mut Criterion, size: &Size, laws: &Asked) {
    let cache = filled(C::new(MAX_BYTES, size.keys), size.keys);
    for (law, asked) in laws {
        let mut group = criterion.benchmark_group(format!("get_hit/{law}"));
        group.throughput(Throughput::Elements(1));
        for threads in [1, 2] {
            group.bench_function(format!("{}/{threads}", C::NAME), |bencher| {
                bencher.iter_custom(|iterations| {
                    on_threads(threads, iterations, asked, |keys| hits(keys, |key| cache.get(key)))
                });
            });
        }
    }
}

fn awaited(criterion: &mut Criterion, size: &Size, laws: &Asked) {
    let Ours(cache) = filled(Ours::new(MAX_BYTES, size.keys), size.keys);
    for (law, asked) in laws {
        let mut group = criterion.benchmark_group(format!("get_hit/{law}"));
        group.throughput(Throughput::Elements(1));
        group.bench_function("peercache, awaited/1", |bencher| {
            bencher.iter_custom(|iterations| {
                let keys = asked.iter().cycle().take(iterations as usize);
                elapsed(|| cache.runtime.block_on(awaited_hits(&cache.group, keys)))
            });
        });
    }
}

/// A group with its overhead charged to the budget.
struct Ours(WholeGroup);

impl Rival for Ours {
    const NAME: &'static str = WholeGroup::NAME;

    fn new(max_bytes: usize, _: usize) -> Self {
        Ours(WholeGroup::with_bytes(max_bytes))
    }

    fn get(&self, key: &Key) -> Option<Bytes> {
        self.0.get(key)
    }

    fn insert(&self, key: Key, value: Bytes) {
        self.0.insert(key, value);
    }
}
