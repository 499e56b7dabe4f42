//! The parts of a group, shared by its handles and by its loads and fetches in progress.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use peercache_lru::segment::Lane;

use crate::{
    answer::Cached,
    cache::CacheConfig,
    cache::entry::{Entry, Found, Freshness, Requester},
    cache::expiry::Expiry,
    catch_panic::caught,
    clock::{Clock, OnTick},
    core::load_limit::{FetchLimiter, LoadLimiter},
    core::log_limit::LogLimit,
    error::{Error, ErrorKind},
    key::Key,
    loader::any::AnyLoader,
    members::{Members, OnRingChange},
    settings::Settings,
    stats::{Counters, Stats},
    store::Store,
    store::backoff::BackoffConfig,
    value::Value,
};

/// Holds the parts that the steps of a get work with. It calls no step.
pub(crate) struct GroupState<V> {
    pub(crate) name: Arc<str>,
    pub(crate) settings: Settings<V>,
    pub(crate) store: Store<V>,
    pub(crate) members: Members,
    pub(crate) loader: AnyLoader<V>,
    pub(crate) load_limiter: LoadLimiter,
    pub(crate) fetch_limiter: Arc<FetchLimiter>,
    pub(crate) clock: Clock,
    pub(crate) counters: Counters,
    pub(crate) peer_warnings: LogLimit,
}

impl<V: Value> GroupState<V> {
    pub(crate) fn new(
        name: Arc<str>,
        members: Members,
        clock: Clock,
        loader: AnyLoader<V>,
        settings: Settings<V>,
        cache: CacheConfig,
    ) -> Self {
        let (first, longest) = settings.error_backoff;
        let memory = longest.saturating_add(settings.limits.load_timeout);
        GroupState {
            name,
            store: Store::new(cache, BackoffConfig { first, longest, memory }),
            members,
            loader,
            load_limiter: LoadLimiter::new(settings.max_concurrent_loads, settings.max_queued_loads),
            fetch_limiter: FetchLimiter::new(settings.max_concurrent_fetches),
            settings,
            clock,
            counters: Counters::default(),
            peer_warnings: LogLimit::default(),
        }
    }

    /// Has the member list call us on every change of the ring, and the clock on every tick.
    pub(crate) fn follow(self: &Arc<Self>) {
        let weak: Weak<Self> = Arc::downgrade(self);
        self.members.follow(weak.clone());
        self.clock.subscribe(weak);
    }

    /// The bytes that an entry of this value is charged; an error if the value is too large for the
    /// group.
    pub(crate) fn weigh(&self, key: &Key, value: &V) -> Result<usize, Error> {
        let (bytes, weight) = caught("the weigher", || (value.weight(), (self.settings.weigher)(key, value)))?;
        let max_bytes = self.settings.limits.max_value_bytes;
        if bytes > max_bytes {
            return Err(Error::with_message(
                ErrorKind::ValueTooLarge,
                format!("the value of {bytes} bytes is larger than the {max_bytes} that the group takes"),
            ));
        }
        Ok(weight.saturating_add(key.len()).saturating_add(Entry::overhead(key, Some(value))))
    }

    /// The place of a loaded value: main if the key is ours. If it is not, a peer took us for the
    /// owner, or the owner could not be asked. Then the value is kept only briefly, so that it does
    /// not outlive the disagreement.
    pub(crate) fn place_of_loaded(&self, key: &Key, expiry: Expiry, now_ms: u64) -> Option<(Lane, Expiry)> {
        if self.members.view().owns(key.as_bytes()) {
            return Some((Lane::Main, expiry));
        }
        let ttl: Duration = self.settings.fallback_ttl.min(self.settings.hot_ttl);
        Some((Lane::Hot, expiry.shortened_to(ttl, now_ms, self.settings.expiry_policy.refresh_ahead)?))
    }

    /// The error of a get that is refused, counted.
    pub(crate) fn overloaded(&self) -> Error {
        self.counters.overloads.count();
        Error::new(ErrorKind::Overloaded)
    }

    /// Looks without counting a look-up or a use.
    pub(crate) fn peek(&self, key: &[u8]) -> Option<Found<V>> {
        self.clock.advance();
        self.store.peek(key, Requester::Local, Freshness::AllowStale, self.clock.coarse_ms())
    }

    pub(crate) fn snapshot(&self) -> Vec<Cached<V>> {
        self.clock.advance();
        let now_ms = self.clock.coarse_ms();
        let mut entries = Vec::new();
        self.store.for_each(now_ms, |key, found| {
            let (age, remaining) = (found.age(), found.remaining());
            entries.push(Cached { key: Key::copy_from(key), value: found.value, place: found.source, age, remaining });
        });
        entries
    }

    pub(crate) fn stats(&self) -> Stats {
        let (main, hot) = self.store.cache_stats();
        Stats { in_flight: self.store.in_flight() as u64, ..self.counters.stats(main, hot) }
    }
}

impl<V: Value> OnRingChange for GroupState<V> {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn reassign(&self) {
        let view = self.members.view();
        let (hot_ttl, share) = (self.settings.hot_ttl, self.settings.expiry_policy.refresh_ahead);
        let now_ms = self.clock.exact_ms();
        self.store.reassign(|key| view.owns(key), |expiry| expiry.shortened_to(hot_ttl, now_ms, share));
    }
}

impl<V: Value> OnTick for GroupState<V> {
    fn tick(&self, now_ms: u64) {
        self.store.sweep(now_ms, || self.clock.advance());
    }
}
