//! What the cache holds, and what it gives.

use peercache_lru::segment::{HasPolicyState, PolicyState, Segment};

use crate::{
    answer::Source,
    cache::expiry::{Expiry, Stage},
    key::Key,
    value::Value,
};
use crate::{cache::expiry_queue::END_BYTES, cache::request_rate::Rate, cache::stored::Stored};

/// A key with its value, or a "not found", and what must be known of it: what comes into the cache.
#[derive(Clone)]
pub(crate) struct Entry<V> {
    pub(crate) stored: Stored<V>,
    pub(crate) origin: Origin,
    pub(crate) expiry: Expiry,
    /// Whether it is known to be in demand before anybody here has asked for it again.
    pub(crate) in_demand: bool,
}

/// The same in its slot. For values that are bytes it fills a cache line.
pub(crate) struct Held<V> {
    pub(super) stored: Stored<V>,
    pub(super) born_ms: u64,
    pub(super) rate: Rate,
    standing: PolicyState,
    pub(super) origin: Origin,
    /// Whether its expiry, which is with the ends of its shard, has an end.
    pub(super) ends: bool,
}

/// How an entry came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// From a peer; never to be answered to one.
    Fetched,
    Loaded,
    /// What somebody set. It is as new as its life is young, so that a removal from before it was set is none of its concern.
    Set,
}

/// Where an entry goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Main,
    Hot,
}

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requester {
    /// A caller at this node may see everything.
    Local,
    /// A peer may see what was loaded here, never what was fetched.
    Peer,
}

/// What they are content with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// What may be answered.
    AllowStale,
    /// What has been renewed since it was time for that.
    FreshOnly,
}

/// What was found, in the cache or by a flight.
#[derive(Clone, Debug)]
pub(crate) struct Found<V> {
    /// `None` is a "not found" that may be cached.
    pub(crate) value: Option<V>,
    pub(crate) source: Source,
    pub(crate) age_ms: u64,
    /// `None` is for ever.
    pub(crate) remaining_ms: Option<u64>,
    /// How often peers ask for it, per second, if that is to be told.
    pub(crate) qps: Option<f64>,
}

impl<V> Held<V> {
    pub(super) fn new(entry: Entry<V>, standing: PolicyState, rate: Rate) -> Self {
        let Entry { stored, origin, expiry, in_demand } = entry;
        if in_demand {
            standing.count_use();
        }
        Held { stored, born_ms: expiry.born_ms(), rate, standing, origin, ends: expiry.ends_ms().is_some() }
    }

    pub(super) fn into_parts(self) -> (Stored<V>, PolicyState, Rate) {
        (self.stored, self.standing, self.rate)
    }
}

impl<V> HasPolicyState for Held<V> {
    fn policy_state(&self) -> &PolicyState {
        &self.standing
    }

    fn policy_state_mut(&mut self) -> &mut PolicyState {
        &mut self.standing
    }
}

impl Place {
    pub(crate) fn source(self) -> Source {
        match self {
            Place::Main => Source::Main,
            Place::Hot => Source::Hot,
        }
    }
}

impl Freshness {
    /// The last stage that will do.
    pub(super) fn last(self) -> Stage {
        match self {
            Freshness::AllowStale => Stage::StaleWhileRevalidate,
            Freshness::FreshOnly => Stage::Fresh,
        }
    }
}

impl<V: Value> Entry<V> {
    /// In memory of its own. May run a user's code.
    #[cfg(any(test, peercache_loom))]
    pub(crate) fn new(key: &Key, value: Option<V>, origin: Origin, expiry: Expiry) -> Self {
        Entry { stored: Stored::new(key.as_bytes(), value), origin, expiry, in_demand: false }
    }

    /// What an entry is charged beyond what its key and its value weigh, in bytes, if it does not end.
    pub(crate) fn overhead(key: &Key, value: Option<&V>) -> usize {
        Segment::<Held<V>>::overhead().saturating_add(Stored::loss_bytes(key.as_bytes(), value))
    }

    /// What is added to that for an end.
    pub(super) fn end_bytes(&self) -> usize {
        end_bytes(self.expiry)
    }
}

pub(super) fn end_bytes(expiry: Expiry) -> usize {
    if expiry.ends_ms().is_some() { END_BYTES } else { 0 }
}

impl<V> Held<V> {
    pub(super) fn is_for(&self, requester: Requester) -> bool {
        requester == Requester::Local || self.origin != Origin::Fetched
    }

    pub(super) fn was_set_within(&self, age_ms: u64, now_ms: u64) -> bool {
        self.origin == Origin::Set && now_ms.saturating_sub(self.born_ms) < age_ms
    }
}

#[cfg(all(test, not(peercache_loom)))]
mod tests {
    use super::*;
    use crate::Bytes;

    #[test]
    fn bytes_fill_a_cache_line() {
        assert_eq!((size_of::<Held<Bytes>>(), size_of::<Option<Held<Bytes>>>()), (64, 64));
    }
}
