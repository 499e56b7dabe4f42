//! The cost of a time to live, and of the check under which a value is published.
//!
//! - `expiry/hit`: a hit of a group as the builder gives it, of one whose values end, and of one
//!   that also allows stale answers and refreshes ahead of time. 100k keys asked for by a Zipf law,
//!   none expires meanwhile.
//! - `expiry/miss`: a get that loads, from first look to answer, of keys that are always new; the
//!   budget is full, so each also evicts.
//! - `expiry/publish`: a flight that ends with a result alone, one that writes a cache if it is
//!   still wanted, and one that was detached meanwhile and writes nothing.
//! - `expiry/change`: `remove` and `set` of a key that is cached, at a node that is alone.
//!
//! `cargo bench -p peercache-benches --bench expiry`

mod support;

use std::{
    hint::black_box,
    sync::Mutex,
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use peercache_groupcache::{Group, GroupBuilder, Groups, Members, loader_fn};
use peercache_singleflight::{Flights, Join};
use tokio::runtime::{Builder, Runtime};

use support::{
    durations::{self, elapsed},
    hits::hits,
    ours::polled,
    workload::{Size, ZIPF, asked, key, value},
};

/// A group's settings, by name.
type Kind = (&'static str, fn(GroupBuilder<Bytes>) -> GroupBuilder<Bytes>);

const HOUR: Duration = Duration::from_secs(3_600);

const KINDS: [Kind; 3] = [
    ("endless", |group| group),
    ("ttl", |group| group.time_to_live(HOUR)),
    ("ttl, stale, renewed", |group| {
        group.time_to_live(HOUR).stale_while_revalidate(HOUR).stale_if_error(HOUR).refresh_ahead(0.8)
    }),
];

/// Room for some thousand entries: misses evict soon.
const SMALL_BYTES: usize = 1 << 20;

fn main() {
    let size = Size::from_args();
    let mut criterion = durations::criterion();
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime starts");
    hit(&mut criterion, &size, &runtime);
    miss(&mut criterion, &runtime);
    publish(&mut criterion);
    change(&mut criterion, &runtime);
    criterion.final_summary();
}

fn hit(criterion: &mut Criterion, size: &Size, runtime: &Runtime) {
    let asked = asked(size, ZIPF);
    let mut bench = criterion.benchmark_group("expiry/hit");
    bench.throughput(Throughput::Elements(1));
    for (name, kind) in KINDS {
        let group = group(kind, 64 << 20);
        runtime.block_on(async {
            for number in 0..size.keys {
                group.get(&key(number)).await.expect("it loads");
            }
        });
        bench.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                elapsed(|| hits(asked.iter().cycle().take(iterations as usize), |key| polled(&group, key)))
            });
        });
    }
}

fn miss(criterion: &mut Criterion, runtime: &Runtime) {
    let mut bench = criterion.benchmark_group("expiry/miss");
    bench.throughput(Throughput::Elements(1));
    for (name, kind) in KINDS {
        let group = group(kind, SMALL_BYTES);
        let mut next = 0;
        bench.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                runtime.block_on(async {
                    let started = Instant::now();
                    for _ in 0..iterations {
                        next += 1;
                        drop(black_box(group.get(&key(next)).await));
                    }
                    started.elapsed()
                })
            });
        });
    }
}

fn publish(criterion: &mut Criterion) {
    let flights: Flights<u64, u64> = Flights::new();
    let cache = Mutex::new(0);
    let lead = || match flights.lock(&7_u64).join(7) {
        Join::Lead(leader) => leader,
        Join::Wait(_) => panic!("each flight ends before the next"),
    };
    let write = |number: &u64| *cache.lock().expect("nobody panics") = *number;
    let mut bench = criterion.benchmark_group("expiry/publish");
    bench.throughput(Throughput::Elements(1));
    bench.bench_function("finish", |bencher| bencher.iter(|| lead().finish(black_box(1))));
    bench.bench_function("publish", |bencher| bencher.iter(|| lead().publish(black_box(1), write)));
    bench.bench_function("publish, detached", |bencher| {
        bencher.iter(|| {
            let leader = lead();
            flights.forget(&7);
            leader.publish(black_box(1), write)
        });
    });
}

fn change(criterion: &mut Criterion, runtime: &Runtime) {
    let mut bench = criterion.benchmark_group("expiry/change");
    bench.throughput(Throughput::Elements(1));
    let group = group(|group| group, SMALL_BYTES);
    let key = key(1);
    bench.bench_function("set", |bencher| {
        bencher.iter_custom(|iterations| {
            runtime.block_on(async {
                let started = Instant::now();
                for _ in 0..iterations {
                    group.set(&key, value()).await.expect("nobody else is to be told");
                }
                started.elapsed()
            })
        });
    });
    bench.bench_function("set and remove", |bencher| {
        bencher.iter_custom(|iterations| {
            runtime.block_on(async {
                let started = Instant::now();
                for _ in 0..iterations {
                    group.set(&key, value()).await.expect("nobody else is to be told");
                    group.remove(&key).await.expect("nobody else is to be told");
                }
                started.elapsed()
            })
        });
    });
}

fn group(kind: fn(GroupBuilder<Bytes>) -> GroupBuilder<Bytes>, max_bytes: usize) -> Group<Bytes> {
    let builder = Groups::new(Members::alone()).group("expiry", loader_fn(|_| async { Ok(value()) }));
    kind(builder.max_bytes(max_bytes)).build().expect("the settings are good")
}
