//! Ours as rivals are: the cache crate, and a whole group.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use peercache_groupcache::{Group, Groups, Members, loader_fn};
use peercache_lru::ShardedCache;
use tokio::runtime::{Builder, Runtime};

use super::{
    rivals::Rival,
    workload::{ENTRY_BYTES, Hasher, Key, hasher, value, weigh},
};

/// The cache that a group's is made of, without a group.
pub struct Cache(ShardedCache<Key, Bytes, Hasher>);

impl Cache {
    /// A cache as its builder gives it for a budget.
    pub fn with_bytes(max_bytes: usize) -> Self {
        Cache(ShardedCache::builder(max_bytes).hasher(hasher()).build_sharded())
    }
}

impl Rival for Cache {
    const NAME: &'static str = "peercache-lru";

    /// A cache that, like the rivals, does not charge its overhead.
    fn new(max_bytes: usize, _: usize) -> Self {
        let builder = ShardedCache::builder(max_bytes).weigher(weigh).entry_overhead(0);
        Cache(builder.hasher(hasher()).build_sharded())
    }

    #[inline]
    fn get(&self, key: &Key) -> Option<Bytes> {
        self.0.get(key)
    }

    fn insert(&self, key: Key, value: Bytes) {
        self.0.insert(key, value).expect("116 bytes fit");
    }
}

/// A group at a node that is alone. A hit is the first poll of a get's future; a key comes in by
/// being asked for, through a load.
pub struct WholeGroup {
    pub group: Group<Bytes>,
    /// Runtime in which the group loads.
    pub runtime: Runtime,
}

impl Rival for WholeGroup {
    const NAME: &'static str = "peercache";

    /// The overhead cannot be left out, so what it is for all entries is added.
    fn new(max_bytes: usize, _: usize) -> Self {
        let charged = {
            let probe = WholeGroup::with_bytes(1 << 20);
            probe.insert([0; 16], value());
            probe.group.stats().main.bytes as usize
        };
        WholeGroup::with_bytes(max_bytes / ENTRY_BYTES * charged)
    }

    #[inline]
    fn get(&self, key: &Key) -> Option<Bytes> {
        polled(&self.group, key)
    }

    /// A group is filled by its loader, with the same value.
    fn insert(&self, key: Key, _: Bytes) {
        self.runtime.block_on(self.group.get(&key)).expect("it loads");
    }
}

impl WholeGroup {
    /// A group as the builder gives it for a budget.
    pub fn with_bytes(max_bytes: usize) -> Self {
        WholeGroup::new(max_bytes, Builder::new_multi_thread().worker_threads(1))
    }

    /// A group in a runtime without threads. Its clock has one, as wherever it is used; with
    /// nothing due a tick of it takes next to nothing.
    pub fn without_workers(max_bytes: usize) -> Self {
        WholeGroup::new(max_bytes, &mut Builder::new_current_thread())
    }

    fn new(max_bytes: usize, runtime: &mut Builder) -> Self {
        let runtime = runtime.enable_time().build().expect("a runtime starts");
        let groups = Groups::new(Members::alone());
        let group = groups.group("bench", loader_fn(|_| async { Ok(value()) })).max_bytes(max_bytes).build();
        WholeGroup { group: group.expect("the settings are good"), runtime }
    }
}

/// The first poll of a get: without a runtime one that finds nothing ends there.
#[inline]
pub fn polled(group: &Group<Bytes>, key: &Key) -> Option<Bytes> {
    match pin!(group.get(key)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value.ok(),
        Poll::Pending => None,
    }
}
