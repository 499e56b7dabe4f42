//! The cache of a group without the group.

use peercache_lru::ShardedCache;

use crate::{
    alone::{Charge, runtime},
    capacity::Capacity,
    replay::CachePolicy,
    trace::{Request, Trace},
};

/// The cache that holds a group's entries, without the group: that of `peercache-lru` with the
/// group's budget, shards and charges.
pub struct Direct {
    cache: ShardedCache<u32, ()>,
    charge: Charge,
}

impl Direct {
    /// An empty cache with room for so much of this trace.
    pub fn new(trace: &Trace, capacity: Capacity) -> Self {
        let charge = Charge::of_group(&runtime(), trace, capacity);
        let (max_bytes, shards) = charge.budget(trace, capacity);
        let builder = ShardedCache::builder(max_bytes).shards(shards).entry_overhead(0);
        Direct { cache: builder.build_sharded(), charge }
    }
}

impl CachePolicy for Direct {
    fn request(&mut self, request: Request) -> bool {
        let hit = self.cache.get(&request.key).is_some();
        if !hit {
            // One that is refused is one that is not cached.
            drop(self.cache.insert_weighed(request.key, (), self.charge.of(request)));
        }
        hit
    }
}
