//! Replays, and the counts they come to.

use crate::{
    capacity::Unit,
    rng::Rng,
    trace::{Request, Trace},
};

/// A cache, as far as its hit ratio goes.
pub trait CachePolicy {
    /// Asks for a key, and takes it in if it is not there and the policy wants it. Says whether it
    /// was there.
    fn request(&mut self, request: Request) -> bool;
}

/// The counts of a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayCounts {
    /// Requests made.
    pub requests: u64,
    /// Requests that found their key. Of several nodes: in the cache of the node that was asked.
    pub hits: u64,
    /// The sum of what was asked for: bytes of key and value, or entries where those are counted.
    pub bytes: u64,
    /// The part of it that was found.
    pub bytes_hit: u64,
    /// Keys asked of another node.
    pub peer_fetches: u64,
    /// Keys loaded at the origin, by any node.
    pub origin_loads: u64,
}

impl ReplayCounts {
    /// Hits per request, from 0 to 1; 0 of no requests.
    pub fn hit_ratio(&self) -> f64 {
        ratio(self.hits, self.requests)
    }

    /// The same by bytes.
    pub fn byte_hit_ratio(&self) -> f64 {
        ratio(self.bytes_hit, self.bytes)
    }

    fn count(&mut self, request: Request, hit: bool) {
        self.requests += 1;
        self.bytes += request.weight;
        if hit {
            self.hits += 1;
            self.bytes_hit += request.weight;
        }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Requests after which a replay tells how far it is.
const TOLD_EACH: usize = 4_096;

/// Puts every request of the trace to the policy. `advance` hears now and then how many
/// more are done.
pub fn replay(trace: &Trace, unit: Unit, policy: &mut dyn CachePolicy, advance: &mut dyn FnMut(u64)) -> ReplayCounts {
    let mut counts = ReplayCounts::default();
    for_each(trace, unit, advance, |request| counts.count(request, policy.request(request)));
    counts.origin_loads = counts.requests - counts.hits;
    counts
}

/// Several nodes, each with a cache, as far as hits, fetches and loads go.
pub trait SharedPolicy {
    /// Asks for a key at one of the nodes.
    fn request(&mut self, node: usize, request: Request) -> Shared;
}

/// The outcome of a request to one of several nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Whether the node that was asked had it.
    pub hit: bool,
    /// The number of keys it asked another node for.
    pub peer_fetches: u64,
    /// The number of loads that caused, anywhere.
    pub origin_loads: u64,
}

/// Puts every request of the trace to one of the nodes, which one follows from the seed.
pub fn replay_shared(
    trace: &Trace,
    unit: Unit,
    nodes: usize,
    seed: u64,
    policy: &mut dyn SharedPolicy,
    advance: &mut dyn FnMut(u64),
) -> ReplayCounts {
    let mut counts = ReplayCounts::default();
    let mut rng = Rng::new(seed);
    for_each(trace, unit, advance, |request| {
        let node = rng.below(nodes as u64) as usize;
        let shared = policy.request(node, request);
        counts.count(request, shared.hit);
        counts.peer_fetches += shared.peer_fetches;
        counts.origin_loads += shared.origin_loads;
    });
    counts
}

fn for_each(trace: &Trace, unit: Unit, advance: &mut dyn FnMut(u64), mut each: impl FnMut(Request)) {
    for start in (0..trace.len()).step_by(TOLD_EACH) {
        let end = trace.len().min(start + TOLD_EACH);
        (start..end).for_each(|position| each(trace.request(position, unit)));
        advance((end - start) as u64);
    }
}
