//! The counters of a group.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The counters of a group, and the size of what it holds. Counters only grow. They are read one
/// after another, so their sums may differ by a few while gets are in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Gets, those that came from peers included.
    pub gets: u64,
    /// Gets answered from main or hot.
    pub cache_hits: u64,
    /// Gets that found nothing cached, refreshes in the background, and retries after a removal.
    pub loads: u64,
    /// Loads and fetches that began, after the callers of one key were merged.
    pub loads_deduped: u64,
    /// Values that the loader brought here.
    pub local_loads: u64,
    /// Loads here that brought no value: the loader failed, found nothing, took too long or brought
    /// too much.
    pub local_load_errors: u64,
    /// Values that owners sent.
    pub peer_loads: u64,
    /// Fetches that their owner answered with an error, such as "not found".
    pub peer_load_errors: u64,
    /// Fetches that failed on the way, so that the value was loaded here.
    pub peer_errors: u64,
    /// Gets that came from peers.
    pub server_requests: u64,
    /// Keys of other members that were loaded here because the peer's dialect cannot carry them.
    pub keys_not_carried: u64,
    /// Gets refused because too many loads were in flight or queued.
    pub overloads: u64,
    /// Fetches that met too much work: at the owner, on the way, or because too many of its keys
    /// were being fetched. [`OverloadPolicy`](crate::OverloadPolicy) says what was done then.
    pub overloaded_peers: u64,
    /// Values, loaded and fetched, that were answered and not cached, because they are too large
    /// for the budget. None are counted where the budget is zero.
    pub too_large_to_cache: u64,
    /// Loads whose loader blocked its thread beyond `load_timeout`, so that the clock ended them.
    pub blocked_loads: u64,
    /// Waits for work in a runtime that showed no sign of life, which was begun again in the
    /// caller's.
    pub silent_runtimes: u64,
    /// Loads, in the background too, that were not begun because one failed a moment ago.
    pub backed_off: u64,
    /// Hits of values that were due for a refresh or stale, which started one in the background. A
    /// value's hits start at most one in 128 ms.
    pub refreshes: u64,
    /// Updates made here, for this node's callers and for peers. Each round of an update counts.
    pub updates: u64,
    /// Loads and fetches in flight now.
    pub in_flight: u64,
    /// Changes that members have missed and are still to be told of, now. At most 4,096 keys of a
    /// group are kept for each member; more are one removal of everything.
    pub undelivered_updates: u64,
    /// Entries that this node owns.
    pub main: CacheStats,
    /// Copies of entries that it does not own.
    pub hot: CacheStats,
}

/// The counters of one of a group's two caches, main or hot, and the size of what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Bytes charged to the budget: keys, values and overhead.
    pub bytes: u64,
    /// Entries held.
    pub items: u64,
    /// Look-ups by gets. Hot is looked up where main has nothing.
    pub gets: u64,
    /// Look-ups that found a value.
    pub hits: u64,
    /// Entries that were evicted to make room for others.
    pub evictions: u64,
    /// Entries that expired.
    pub expirations: u64,
    /// Entries that were replaced by a newer value of their key.
    pub replacements: u64,
    /// Entries that were removed or cleared, whose key the origin no longer has, or whose key went
    /// to another owner without a copy being kept.
    pub removals: u64,
}

impl CacheStats {
    pub(crate) fn add(&mut self, other: CacheStats) {
        self.bytes += other.bytes;
        self.items += other.items;
        self.gets += other.gets;
        self.hits += other.hits;
        self.evictions += other.evictions;
        self.expirations += other.expirations;
        self.replacements += other.replacements;
        self.removals += other.removals;
    }
}

/// The counters off the hit path; look-ups are counted in the cache, by counters of each thread.
#[derive(Default)]
pub(crate) struct Counters {
    /// Hits of the look-up under the lock, after a first one missed.
    pub(crate) late_hits: Counter,
    pub(crate) loads: Counter,
    pub(crate) loads_deduped: Counter,
    pub(crate) local_loads: Counter,
    pub(crate) local_load_errors: Counter,
    pub(crate) peer_loads: Counter,
    pub(crate) peer_load_errors: Counter,
    pub(crate) peer_errors: Counter,
    pub(crate) server_requests: Counter,
    pub(crate) keys_not_carried: Counter,
    pub(crate) overloads: Counter,
    pub(crate) overloaded_peers: Counter,
    pub(crate) too_large_to_cache: Counter,
    pub(crate) blocked_loads: Counter,
    pub(crate) silent_runtimes: Counter,
    pub(crate) backed_off: Counter,
    pub(crate) refreshes: Counter,
    pub(crate) updates: Counter,
}

#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Counters {
    /// The statistics, with those of the two caches.
    pub(crate) fn stats(&self, main: CacheStats, hot: CacheStats) -> Stats {
        Stats {
            // Every get looks in main first, and nothing else counts there.
            gets: main.gets,
            cache_hits: main.hits + hot.hits + self.late_hits.read(),
            loads: self.loads.read(),
            loads_deduped: self.loads_deduped.read(),
            local_loads: self.local_loads.read(),
            local_load_errors: self.local_load_errors.read(),
            peer_loads: self.peer_loads.read(),
            peer_load_errors: self.peer_load_errors.read(),
            peer_errors: self.peer_errors.read(),
            server_requests: self.server_requests.read(),
            keys_not_carried: self.keys_not_carried.read(),
            overloads: self.overloads.read(),
            overloaded_peers: self.overloaded_peers.read(),
            too_large_to_cache: self.too_large_to_cache.read(),
            blocked_loads: self.blocked_loads.read(),
            silent_runtimes: self.silent_runtimes.read(),
            backed_off: self.backed_off.read(),
            refreshes: self.refreshes.read(),
            updates: self.updates.read(),
            in_flight: 0,
            undelivered_updates: 0,
            main,
            hot,
        }
    }
}
