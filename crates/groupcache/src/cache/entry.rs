//! The entries of the cache: what goes in, what is held, and what a lookup gives.

use std::{
    sync::atomic::{AtomicU8, Ordering::Relaxed},
    time::Duration,
};

use peercache_lru::segment::{HasPolicyState, Lane, PolicyState, Segment};

use crate::{
    answer::Source,
    cache::expiry::{Expiry, Stage},
    cache::expiry_queue::EXPIRY_BYTES,
    cache::request_rate::RequestRate,
    cache::stored::Stored,
    key::Key,
    value::Value,
};

/// An entry to insert: a key with its value, or a "not found", and what must be known of it.
#[derive(Clone)]
pub(crate) struct Entry<V> {
    pub(crate) stored: Stored<V>,
    pub(crate) origin: Origin,
    pub(crate) expiry: Expiry,
    /// Whether it counts as used once, before any caller here has asked for it again.
    pub(crate) in_demand: bool,
}

/// An entry in its slot of a shard. Where values are `Bytes`, it fills a cache line.
pub(super) struct CachedEntry<V> {
    pub(super) stored: Stored<V>,
    pub(super) created_ms: u64,
    pub(super) rate: RequestRate,
    policy_state: PolicyState,
    pub(super) origin: Origin,
    marks: Marks,
}

/// A bit that says whether the entry expires, and the time at which a hit last started a refresh of
/// it, in the other seven.
struct Marks(AtomicU8);

const EXPIRES: u8 = 1 << 7;

impl Marks {
    fn new(expires: bool) -> Self {
        Marks(AtomicU8::new(if expires { EXPIRES } else { 0 }))
    }

    /// Whether the caller is the first in 128 ms, so that it starts the refresh. One that hangs, or
    /// that pauses because the origin fails, costs other hits no more than this look.
    fn claim_refresh(&self, now_ms: u64) -> bool {
        // Zero is never. The numbers come again after 16 s, and a refresh may then start 128 ms
        // late.
        let mark = EXPIRES | (((now_ms >> 7) % 127) as u8 + 1);
        // Only an entry that expires is ever due.
        self.0.load(Relaxed) != mark && self.0.swap(mark, Relaxed) != mark
    }
}

/// The way by which an entry came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A fetch from a peer. The entry is never shown to one.
    Fetched,
    /// A load by this node's loader.
    Loaded,
    /// A set by an update. The age is exact, so that a removal from before the set leaves the entry
    /// alone.
    Set,
}

/// The side that asks for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requester {
    /// A caller at this node, who may see every entry.
    Local,
    /// A peer, which may see what was loaded or set here, never what was fetched.
    Peer,
}

/// The oldest entry that a request accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Any entry that may be answered.
    AllowStale,
    /// An entry whose refresh is not due yet.
    FreshOnly,
}

/// A value with its facts, found in the cache or brought by a flight.
///
/// Its times are the clock's whole milliseconds, as entries keep them. They become a `Duration` in
/// [`age`](Found::age) and [`remaining`](Found::remaining), when an answer leaves the engine, and a
/// peer's become milliseconds in `core::fetch`.
#[derive(Clone, Debug)]
pub(crate) struct Found<V> {
    /// `None` is a "not found" that may be cached.
    pub(crate) value: Option<V>,
    pub(crate) source: Source,
    pub(crate) age_ms: u64,
    /// The time for which it stays fresh; `None` is for ever.
    pub(crate) remaining_ms: Option<u64>,
    /// The rate at which peers ask for it, per second. Only peers are told.
    pub(crate) qps: Option<f64>,
}

impl<V: Value> Entry<V> {
    /// An entry in memory of its own. May run a user's code.
    #[cfg(any(test, peercache_loom))]
    pub(crate) fn new(key: &Key, value: Option<V>, origin: Origin, expiry: Expiry) -> Self {
        Entry { stored: Stored::new(key.as_bytes(), value), origin, expiry, in_demand: false }
    }

    /// The bytes that an entry is charged beyond the weight of its key and its value, if it never
    /// expires.
    pub(crate) fn overhead(key: &Key, value: Option<&V>) -> usize {
        Segment::<CachedEntry<V>>::overhead().saturating_add(Stored::overhead(key.as_bytes(), value))
    }
}

/// The bytes that an entry is charged for its expiry.
pub(crate) fn expiry_bytes(expiry: Expiry) -> usize {
    if expiry.expires_ms().is_some() { EXPIRY_BYTES } else { 0 }
}

impl<V> CachedEntry<V> {
    pub(super) fn new(entry: Entry<V>, policy_state: PolicyState, rate: RequestRate) -> Self {
        let Entry { stored, origin, expiry, in_demand } = entry;
        if in_demand {
            policy_state.count_use();
        }
        let expires = expiry.expires_ms().is_some();
        CachedEntry { stored, created_ms: expiry.created_ms(), rate, policy_state, origin, marks: Marks::new(expires) }
    }

    pub(super) fn into_parts(self) -> (Stored<V>, PolicyState, RequestRate) {
        (self.stored, self.policy_state, self.rate)
    }

    pub(super) fn may_be_seen_by(&self, requester: Requester) -> bool {
        requester == Requester::Local || self.origin != Origin::Fetched
    }

    /// Whether it expires; the expiry itself is in the shard's queue.
    #[inline]
    pub(super) fn expires(&self) -> bool {
        self.marks.0.load(Relaxed) & EXPIRES != 0
    }

    pub(super) fn set_expiry(&mut self, expiry: Expiry) {
        self.created_ms = expiry.created_ms();
        self.marks = Marks::new(expiry.expires_ms().is_some());
    }

    /// Whether a hit at this time is to start a refresh that is due.
    pub(super) fn claims_refresh(&self, now_ms: u64) -> bool {
        self.marks.claim_refresh(now_ms)
    }

    /// Whether it was set less than `age_ms` ago.
    pub(super) fn was_set_within(&self, age_ms: u64, now_ms: u64) -> bool {
        self.origin == Origin::Set && now_ms.saturating_sub(self.created_ms) < age_ms
    }
}

impl<V> Found<V> {
    /// The time since the value was loaded or set.
    pub(crate) fn age(&self) -> Duration {
        Duration::from_millis(self.age_ms)
    }

    /// The time for which the value stays fresh; `None` is for ever.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        self.remaining_ms.map(Duration::from_millis)
    }
}

impl<V> HasPolicyState for CachedEntry<V> {
    fn policy_state(&self) -> &PolicyState {
        &self.policy_state
    }

    fn policy_state_mut(&mut self) -> &mut PolicyState {
        &mut self.policy_state
    }
}

impl Freshness {
    /// The last stage that it accepts.
    pub(super) fn last_stage(self) -> Stage {
        match self {
            Freshness::AllowStale => Stage::StaleWhileRevalidate,
            Freshness::FreshOnly => Stage::Fresh,
        }
    }
}

/// The source that a value in this lane is reported with, unless it is stale.
pub(super) fn source_of(lane: Lane) -> Source {
    match lane {
        Lane::Main => Source::Main,
        Lane::Hot => Source::Hot,
    }
}

#[cfg(all(test, not(peercache_loom)))]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn an_entry_of_bytes_fills_a_cache_line() {
        assert_eq!((size_of::<CachedEntry<Bytes>>(), size_of::<Option<CachedEntry<Bytes>>>()), (64, 64));
    }
}
