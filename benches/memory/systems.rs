//! The caches, each as its users would make it for a budget in bytes.

use std::{
    future::Future,
    hash::BuildHasher,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use peercache_groupcache::{Group, Groups, Key as GroupKey, LoadError, Loaded, Loader, Members};
use tokio::runtime::{Builder, Runtime};

use crate::{
    support::workload::{Hasher, Key, hasher},
    values::Made,
};

/// A cache that is filled.
pub trait System<V>: Sized {
    /// A cache with room for `budget` bytes, in which about `entries` are expected.
    fn new(budget: usize, entries: usize, size: usize) -> Self;
    /// Takes in the value that is made of this number.
    fn insert(&mut self, key: Key, number: usize);
    /// Whether it is there; what is read is dropped.
    fn read(&self, key: &Key) -> bool;
    /// Lets it do what it has put off.
    fn settle(&self) {}
    /// The number of entries it holds.
    fn len(&self) -> usize;
}

const KEY_BYTES: usize = size_of::<Key>();

fn weighed<V: Made>(value: &V) -> usize {
    KEY_BYTES + value.weighed()
}

/// A group at a node that is alone. Its loader makes the values.
pub struct Ours<V> {
    group: Group<V>,
    runtime: Runtime,
    number: Arc<AtomicUsize>,
}

struct Maker<V> {
    number: Arc<AtomicUsize>,
    size: usize,
    kind: std::marker::PhantomData<fn() -> V>,
}

impl<V: Made> Loader for Maker<V> {
    type Value = V;

    async fn load(&self, _: GroupKey) -> Result<Loaded<V>, LoadError> {
        Ok(Loaded::new(V::made(self.size, self.number.load(Relaxed))))
    }
}

impl<V: Made> System<V> for Ours<V> {
    fn new(budget: usize, _: usize, size: usize) -> Self {
        let number = Arc::new(AtomicUsize::new(0));
        let maker = Maker { number: Arc::clone(&number), size, kind: std::marker::PhantomData };
        let builder = Groups::new(Members::alone()).group("memory", maker);
        // The group adds the key.
        let builder = builder.max_bytes(budget).weigher(|_, value: &V| value.weighed());
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime starts");
        Ours { group: builder.build().expect("the settings are good"), runtime, number }
    }

    fn insert(&mut self, key: Key, number: usize) {
        self.number.store(number, Relaxed);
        drop(self.runtime.block_on(self.group.get(&key)).expect("the loader always has a value"));
    }

    fn read(&self, key: &Key) -> bool {
        // Without a runtime a get that finds nothing ends there.
        matches!(pin!(self.group.get(key)).poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(_)))
    }

    fn len(&self) -> usize {
        let stats = self.group.stats();
        (stats.main.items + stats.hot.items) as usize
    }
}

pub struct Moka<V>(moka::sync::Cache<Key, V, Hasher>, usize)
where
    V: Made;

impl<V: Made> System<V> for Moka<V> {
    fn new(budget: usize, _: usize, size: usize) -> Self {
        let builder = moka::sync::Cache::builder().max_capacity(budget as u64);
        Moka(builder.weigher(|_, value| weighed(value) as u32).build_with_hasher(hasher()), size)
    }

    fn insert(&mut self, key: Key, number: usize) {
        self.0.insert(key, V::made(self.1, number));
    }

    fn read(&self, key: &Key) -> bool {
        self.0.get(key).is_some()
    }

    fn settle(&self) {
        self.0.run_pending_tasks();
    }

    fn len(&self) -> usize {
        self.0.entry_count() as usize
    }
}

pub struct QuickCache<V>(quick_cache::sync::Cache<Key, V, QuickWeigher, Hasher>, usize);

#[derive(Clone)]
pub struct QuickWeigher;

impl<V: Made> quick_cache::Weighter<Key, V> for QuickWeigher {
    fn weight(&self, _: &Key, value: &V) -> u64 {
        weighed(value) as u64
    }
}

impl<V: Made> System<V> for QuickCache<V> {
    fn new(budget: usize, entries: usize, size: usize) -> Self {
        let life = Default::default();
        QuickCache(quick_cache::sync::Cache::with(entries, budget as u64, QuickWeigher, hasher(), life), size)
    }

    fn insert(&mut self, key: Key, number: usize) {
        self.0.insert(key, V::made(self.1, number));
    }

    fn read(&self, key: &Key) -> bool {
        self.0.get(key).is_some()
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

pub struct Foyer<V: Made>(foyer_memory::Cache<Key, V, Hasher>, usize);

impl<V: Made> System<V> for Foyer<V> {
    fn new(budget: usize, _: usize, size: usize) -> Self {
        let builder = foyer_memory::CacheBuilder::new(budget).with_weighter(|_: &Key, value: &V| weighed(value));
        Foyer(builder.with_hash_builder(hasher()).build(), size)
    }

    fn insert(&mut self, key: Key, number: usize) {
        self.0.insert(key, V::made(self.1, number));
    }

    fn read(&self, key: &Key) -> bool {
        self.0.get(key).is_some()
    }

    fn len(&self) -> usize {
        self.0.entries()
    }
}

/// Sixty-four locked caches that count entries; the budget is that many entries of the mean weight.
pub struct LockedLru<V> {
    hasher: Hasher,
    shards: Vec<Mutex<lru::LruCache<Key, V, Hasher>>>,
    size: usize,
}

impl<V> LockedLru<V> {
    /// Chooses by bits in the middle of the hash, which the map inside does not use.
    fn shard(&self, key: &Key) -> MutexGuard<'_, lru::LruCache<Key, V, Hasher>> {
        let index = (self.hasher.hash_one(key) >> 40) as usize % self.shards.len();
        self.shards[index].lock().expect("nobody panics")
    }
}

impl<V: Made> System<V> for LockedLru<V> {
    fn new(_: usize, entries: usize, size: usize) -> Self {
        const SHARDS: usize = 64;
        let room = (entries / SHARDS).try_into().expect("at least an entry a shard");
        let shard = |_| {
            // Unbounded at first, or it would make its table as large as it may ever become.
            let mut shard = lru::LruCache::unbounded_with_hasher(hasher());
            shard.resize(room);
            Mutex::new(shard)
        };
        LockedLru { hasher: hasher(), shards: (0..SHARDS).map(shard).collect(), size }
    }

    fn insert(&mut self, key: Key, number: usize) {
        let value = V::made(self.size, number);
        drop(self.shard(&key).push(key, value));
    }

    fn read(&self, key: &Key) -> bool {
        self.shard(key).get(key).cloned().is_some()
    }

    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().expect("nobody panics").len()).sum()
    }
}
