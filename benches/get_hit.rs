//! A hit through a whole group, as the builder gives it without options, beside caches that are no groups: moka, quick_cache,
//! foyer and 64 locked `lru`s.
//!
//! 100k keys of 16 bytes, all present, values of 100 B (`Bytes`), 64 MiB of room for everybody, ahash (the group's own
//! choice) for all; the value is cloned and dropped. Keys are asked for by a Zipf law and evenly, from one thread and from
//! two; with two, each does as much as one does alone. The group's hit is its future's first poll: `peercache` makes the
//! future, polls it with a waker that does nothing and drops it, while `peercache, awaited` awaits it in a task.
//!
//! `cargo bench -p peercache-benches --bench get_hit`

mod support {
    pub mod durations;
    pub mod rivals;
    pub mod workload;
}

use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use peercache_groupcache::{Group, Groups, Members, from_fn};
use tokio::runtime::{Builder, Runtime};

use support::{
    durations,
    rivals::{Rival, beside_rivals},
    workload::{Key, Law, Size, ZIPF, asked, key, on_threads, value},
};

/// What a group has by default. It charges its overhead to it, and has room for everything all the same.
const MAX_BYTES: usize = 64 << 20;

fn main() {
    let size = Size::from_args();
    let mut criterion = durations::criterion();
    let uniform: Law = |_| 1.0;
    let laws = [("zipf", asked(&size, ZIPF)), ("uniform", asked(&size, uniform))];
    beside_rivals!(hit::<Ours>(&mut criterion, &size, &laws));
    awaited(&mut criterion, &size, &laws);
    criterion.final_summary();
}

type Asked = [(&'static str, Vec<Key>)];

fn hit<C: Rival>(criterion: &mut Criterion, size: &Size, laws: &Asked) {
    let cache: C = filled(size);
    for (law, asked) in laws {
        let mut group = criterion.benchmark_group(format!("get_hit/{law}"));
        group.throughput(Throughput::Elements(1));
        for threads in [1, 2] {
            group.bench_function(format!("{}/{threads}", C::NAME), |bencher| {
                bencher.iter_custom(|iterations| {
                    on_threads(threads, iterations, asked, |key| drop(black_box(cache.get(key))))
                });
            });
        }
    }
}

fn awaited(criterion: &mut Criterion, size: &Size, laws: &Asked) {
    let cache: Ours = filled(size);
    for (law, asked) in laws {
        let mut group = criterion.benchmark_group(format!("get_hit/{law}"));
        group.throughput(Throughput::Elements(1));
        group.bench_function("peercache, awaited/1", |bencher| {
            bencher.iter_custom(|iterations| {
                cache.runtime.block_on(async {
                    let started = Instant::now();
                    for key in asked.iter().cycle().take(iterations as usize) {
                        drop(black_box(cache.group.get(key).await));
                    }
                    started.elapsed()
                })
            });
        });
    }
}

fn filled<C: Rival>(size: &Size) -> C {
    let cache = C::new(MAX_BYTES, size.keys);
    for number in 0..size.keys {
        cache.insert(key(number), value());
    }
    let held = (0..size.keys).filter(|number| cache.get(&key(*number)).is_some()).count();
    assert_eq!(held, size.keys, "{} lost some", C::NAME);
    cache
}

struct Ours {
    group: Group<Bytes>,
    /// Where the group was filled, and where its clock goes on ticking.
    runtime: Runtime,
}

impl Rival for Ours {
    const NAME: &'static str = "peercache";

    fn new(max_bytes: usize, _: usize) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_time().build().expect("a runtime starts");
        let group = Groups::new(Members::alone())
            .group("hit", from_fn(|_| async { Ok(value()) }))
            .max_bytes(max_bytes)
            .build()
            .expect("the settings are good");
        Ours { group, runtime }
    }

    fn get(&self, key: &Key) -> Option<Bytes> {
        match pin!(self.group.get(key)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value.ok(),
            Poll::Pending => None,
        }
    }

    /// A group is filled by its loader, with the same value.
    fn insert(&self, key: Key, _: Bytes) {
        self.runtime.block_on(self.group.get(&key)).expect("it loads");
    }
}
