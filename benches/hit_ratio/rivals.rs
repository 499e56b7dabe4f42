//! Caches of others, as policies.

use peercache_replay::{CachePolicy, Capacity, Request, Trace};

/// Entries are their weights.
pub struct Moka(moka::sync::Cache<u32, u32>);

impl Moka {
    pub fn new(capacity: Capacity) -> Self {
        let builder = moka::sync::Cache::builder().max_capacity(capacity.amount);
        Moka(builder.weigher(|_, weight| *weight).build())
    }
}

impl CachePolicy for Moka {
    fn request(&mut self, request: Request) -> bool {
        let hit = self.0.get(&request.key).is_some();
        if !hit {
            self.0.insert(request.key, weight(request));
        }
        // It takes notes and evicts later, at its leisure; a replay leaves it none, so that it is
        // at its best.
        self.0.run_pending_tasks();
        hit
    }
}

pub struct QuickCache(quick_cache::sync::Cache<u32, u32, Weighter>);

#[derive(Clone)]
struct Weighter;

impl quick_cache::Weighter<u32, u32> for Weighter {
    fn weight(&self, _: &u32, weight: &u32) -> u64 {
        u64::from(*weight)
    }
}

impl QuickCache {
    pub fn new(trace: &Trace, capacity: Capacity) -> Self {
        // It makes room for its estimate of the entries at once.
        let entries = capacity.amount.min(trace.keys() as u64) as usize;
        QuickCache(quick_cache::sync::Cache::with_weighter(entries, capacity.amount, Weighter))
    }
}

impl CachePolicy for QuickCache {
    fn request(&mut self, request: Request) -> bool {
        let hit = self.0.get(&request.key).is_some();
        if !hit {
            self.0.insert(request.key, weight(request));
        }
        hit
    }
}

fn weight(request: Request) -> u32 {
    u32::try_from(request.weight).expect("sizes of traces have 32 bits")
}
