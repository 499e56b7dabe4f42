//! The sharded LRU beside its rivals: moka, quick_cache, foyer and 64 locked `lru`s.
//!
//! All get the same 16-byte keys, values of 100 B (`Bytes`, each in a block of its own), hasher, budget and weigher: an entry weighs 116 bytes,
//! nobody charges an overhead, so a budget holds the same number of entries everywhere. Three questions:
//!
//! - `hit`: 100k keys, all present, asked for by a Zipf law, from one thread and from two;
//! - `insert_evict`: always a new key into a full cache of 10k entries;
//! - `mixed`: the Zipf law again, room for a tenth of the keys, nine lookups to one insertion. The ratio of hits is printed first, because a cache
//!   that forgets the wrong entries can be fast.
//!
//! `cargo bench -p peercache-benches --bench lru`

use std::{
    hint::black_box,
    sync::{Barrier, Mutex},
    time::{Duration, Instant},
};

use ahash::RandomState;
use bytes::Bytes;
use criterion::{Criterion, Throughput};

fn main() {
    let size = Size::from_args();
    let mut criterion = Criterion::default().configure_from_args();
    let asked = asked(&size);
    all_rivals!(hit, &mut criterion, &size, &asked);
    all_rivals!(insert_evict, &mut criterion, &size);
    all_rivals!(mixed, &mut criterion, &size, &asked);
    criterion.final_summary();
}

/// Calls a function for each cache.
macro_rules! all_rivals {
    ($bench:ident, $($argument:expr),+) => {
        $bench::<Ours>($($argument),+);
        $bench::<LockedLru>($($argument),+);
        $bench::<Moka>($($argument),+);
        $bench::<Quick>($($argument),+);
        $bench::<Foyer>($($argument),+);
    };
}
use all_rivals;

fn hit<C: Rival>(criterion: &mut Criterion, size: &Size, asked: &[Key]) {
    // Room for all twice over, so that no shard of anybody's overflows.
    let cache = C::new(size.keys * 2 * ENTRY_BYTES);
    for number in 0..size.keys {
        cache.insert(key(number as u64), value());
    }
    let mut group = criterion.benchmark_group("hit");
    group.throughput(Throughput::Elements(1));
    for threads in [1, 2] {
        group.bench_function(format!("{}/{threads}", C::NAME), |bencher| {
            bencher.iter_custom(|iterations| {
                on_threads(threads, iterations, asked, |key| {
                    drop(black_box(cache.get(key)))
                })
            });
        });
    }
}

fn insert_evict<C: Rival>(criterion: &mut Criterion, size: &Size) {
    let entries = size.keys / 10;
    let cache = C::new(entries * ENTRY_BYTES);
    for number in 0..2 * entries {
        cache.insert(key(number as u64), value());
    }
    let mut number = 2 * entries as u64;
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
    let cache = C::new(size.keys / 10 * ENTRY_BYTES);
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
    println!(
        "mixed/{}: {:.2} % hits",
        C::NAME,
        100.0 * hits as f64 / lookups.len() as f64
    );

    let mut group = criterion.benchmark_group("mixed");
    group.throughput(Throughput::Elements(1));
    group.bench_function(C::NAME, |bencher| bencher.iter(&mut one));
}

/// The time in which each of the threads does all iterations, so that with perfect scaling it is the same for any number of them.
fn on_threads(
    threads: usize,
    iterations: u64,
    asked: &[Key],
    work: impl Fn(&Key) + Sync,
) -> Duration {
    let start = Barrier::new(threads);
    let run = |thread: usize| {
        // Each begins elsewhere, or they would walk through the same shards side by side.
        let keys = asked.iter().cycle().skip(thread * asked.len() / threads);
        start.wait();
        let started = Instant::now();
        keys.take(iterations as usize).for_each(&work);
        started.elapsed()
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            .map(|thread| scope.spawn(move || run(thread)))
            .collect();
        let mine = run(0);
        others
            .into_iter()
            .map(|other| other.join().expect("a reader does not panic"))
            .fold(mine, Duration::max)
    })
}

/// How much there is of everything.
struct Size {
    keys: usize,
    asked: usize,
}

impl Size {
    /// `--test` only wants to see it run.
    fn from_args() -> Self {
        if std::env::args().any(|argument| argument == "--test") {
            Self {
                keys: 1_000,
                asked: 10_000,
            }
        } else {
            Self {
                keys: 100_000,
                asked: 1 << 20,
            }
        }
    }
}

type Key = [u8; 16];

const VALUE_BYTES: usize = 100;
const ENTRY_BYTES: usize = size_of::<Key>() + VALUE_BYTES;

fn key(number: u64) -> Key {
    let mut key = *b"role:...........";
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

fn value() -> Bytes {
    Bytes::copy_from_slice(&[7; VALUE_BYTES])
}

fn weigh(key: &Key, value: &Bytes) -> usize {
    key.len() + value.len()
}

fn hasher() -> RandomState {
    RandomState::with_seeds(1, 2, 3, 4)
}

/// Keys in the order they are asked for: the number of rank r comes with a probability of 1 / r.
fn asked(size: &Size) -> Vec<Key> {
    let mut sum = 0.0;
    let ranks: Vec<f64> = (1..=size.keys)
        .map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        })
        .collect();
    let mut state = 3_u64;
    let mut pick = || {
        let uniform = split_mix(&mut state) as f64 / u64::MAX as f64 * sum;
        ranks
            .partition_point(|below| *below < uniform)
            .min(size.keys - 1)
    };
    (0..size.asked).map(|_| key(pick() as u64)).collect()
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// What all of them can do.
trait Rival: Sync {
    const NAME: &'static str;
    fn new(max_bytes: usize) -> Self;
    fn get(&self, key: &Key) -> Option<Bytes>;
    fn insert(&self, key: Key, value: Bytes);
}

struct Ours(peercache_lru::ShardedCache<Key, Bytes, RandomState>);

impl Rival for Ours {
    const NAME: &'static str = "peercache";

    fn new(max_bytes: usize) -> Self {
        let builder = peercache_lru::ShardedCache::builder(max_bytes);
        Self(
            builder
                .weigher(weigh)
                .entry_overhead(0)
                .hasher(hasher())
                .build_sharded(),
        )
    }

    fn get(&self, key: &Key) -> Option<Bytes> {
        self.0.get(key)
    }

    fn insert(&self, key: Key, value: Bytes) {
        self.0.insert(key, value).expect("116 bytes fit");
    }
}

struct LockedLru {
    hasher: RandomState,
    shards: Vec<Mutex<lru::LruCache<Key, Bytes, RandomState>>>,
}

impl LockedLru {
    /// By bits in the middle of the hash, which the map inside does not use.
    fn shard(
        &self,
        key: &Key,
    ) -> std::sync::MutexGuard<'_, lru::LruCache<Key, Bytes, RandomState>> {
        let index = (self.hasher.hash_one(key) >> 40) as usize % self.shards.len();
        self.shards[index].lock().expect("nobody panics")
    }
}

impl Rival for LockedLru {
    const NAME: &'static str = "lru x 64";

    fn new(max_bytes: usize) -> Self {
        let entries = (max_bytes / ENTRY_BYTES / 64)
            .try_into()
            .expect("at least an entry a shard");
        let shard = |_| Mutex::new(lru::LruCache::with_hasher(entries, hasher()));
        Self {
            hasher: hasher(),
            shards: (0..64).map(shard).collect(),
        }
    }

    fn get(&self, key: &Key) -> Option<Bytes> {
        self.shard(key).get(key).cloned()
    }

    fn insert(&self, key: Key, value: Bytes) {
        // The guard's life ends with the statement, and what was evicted is dropped after it.
        let evicted = self.shard(&key).push(key, value);
        drop(evicted);
    }
}

struct Moka(moka::sync::Cache<Key, Bytes, RandomState>);

impl Rival for Moka {
    const NAME: &'static str = "moka";

    fn new(max_bytes: usize) -> Self {
        let builder = moka::sync::Cache::builder().max_capacity(max_bytes as u64);
        Self(
            builder
                .weigher(|key, value| weigh(key, value) as u32)
                .build_with_hasher(hasher()),
        )
    }

    fn get(&self, key: &Key) -> Option<Bytes> {
        self.0.get(key)
    }

    fn insert(&self, key: Key, value: Bytes) {
        self.0.insert(key, value);
    }
}

#[derive(Clone)]
struct QuickWeigher;

impl quick_cache::Weighter<Key, Bytes> for QuickWeigher {
    fn weight(&self, key: &Key, value: &Bytes) -> u64 {
        weigh(key, value) as u64
    }
}

struct Quick(quick_cache::sync::Cache<Key, Bytes, QuickWeigher, RandomState>);

impl Rival for Quick {
    const NAME: &'static str = "quick_cache";

    fn new(max_bytes: usize) -> Self {
        let (entries, max_bytes) = (max_bytes / ENTRY_BYTES, max_bytes as u64);
        Self(quick_cache::sync::Cache::with(
            entries,
            max_bytes,
            QuickWeigher,
            hasher(),
            Default::default(),
        ))
    }

    fn get(&self, key: &Key) -> Option<Bytes> {
        self.0.get(key)
    }

    fn insert(&self, key: Key, value: Bytes) {
        self.0.insert(key, value);
    }
}

struct Foyer(foyer_memory::Cache<Key, Bytes, RandomState>);

impl Rival for Foyer {
    const NAME: &'static str = "foyer";

    fn new(max_bytes: usize) -> Self {
        let builder = foyer_memory::CacheBuilder::new(max_bytes);
        Self(
            builder
                .with_weighter(weigh)
                .with_hash_builder(hasher())
                .build(),
        )
    }

    fn get(&self, key: &Key) -> Option<Bytes> {
        self.0.get(key).map(|entry| entry.value().clone())
    }

    fn insert(&self, key: Key, value: Bytes) {
        self.0.insert(key, value);
    }
}
