//! The parts of a group, shared by its handles and by its loads and fetches in progress.

use std::{
    sync::{
        Arc, Once, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use peercache_lru::segment::Lane;
use tokio::runtime::Handle;

use crate::{
    answer::Cached,
    cache::CacheConfig,
    cache::entry::{Entry, Found, Freshness, Requester, expiry_bytes},
    cache::expiry::Expiry,
    carrier::NodeRuntime,
    catch_panic::caught,
    clock::Clock,
    clock::due::{Alarm, OnTick},
    core::carriers::{Carriers, MaxWork, Place},
    core::logged_key::LoggedKey,
    core::second_asks::SecondAsks,
    core::watchdog::{Watchdog, Watched},
    error::{Error, ErrorKind},
    key::Key,
    loader::any::AnyLoader,
    loader::scope::GroupId,
    members::Members,
    members::followers::{Following, OnRingChange},
    settings::Settings,
    stats::{Counters, Stats},
    store::backoff::BackoffConfig,
    store::flight::{Leader, Outcome, Waiter},
    store::{Store, Write},
    value::Value,
};

/// Holds the parts that the steps of a get work with. It calls no step.
pub(crate) struct GroupState<V> {
    pub(crate) name: Arc<str>,
    pub(crate) settings: Settings<V>,
    pub(crate) store: Store<V>,
    pub(crate) members: Members,
    pub(crate) loader: AnyLoader<V>,
    node_runtime: NodeRuntime,
    carriers: Carriers,
    pub(crate) clock: Clock,
    pub(crate) counters: Counters,
    pub(crate) second_asks: SecondAsks,
    /// Hashes keys for the log.
    log_hasher: ahash::RandomState,
    watchdog: Watchdog<V>,
    too_large_warning: Once,
    /// Whether main has had entries of keys that others own.
    acts_for_others: AtomicBool,
    /// Rings when something has expired.
    alarm: Alarm,
    _following: Following,
}

impl<V: Value> GroupState<V> {
    pub(crate) fn new(
        name: Arc<str>,
        members: Members,
        clock: Clock,
        node_runtime: NodeRuntime,
        loader: AnyLoader<V>,
        settings: Settings<V>,
        cache: CacheConfig,
    ) -> Arc<Self> {
        let (first, longest) = settings.error_backoff;
        let memory = longest.saturating_add(settings.limits.load_timeout);
        let max_work = MaxWork {
            loads: settings.max_concurrent_loads,
            queued_loads: settings.max_queued_loads,
            fetches: settings.max_concurrent_fetches,
        };
        // A change of the ring that the group is not told of came before it could have an entry.
        Arc::new_cyclic(|group: &Weak<Self>| GroupState {
            name,
            store: Store::new(cache, BackoffConfig { first, longest, memory }),
            loader,
            node_runtime,
            carriers: Carriers::new(max_work),
            settings,
            counters: Counters::default(),
            second_asks: SecondAsks::default(),
            log_hasher: ahash::RandomState::new(),
            watchdog: Watchdog::default(),
            too_large_warning: Once::new(),
            acts_for_others: AtomicBool::new(false),
            alarm: clock.alarm(group.clone()),
            _following: members.follow(group.clone()),
            members,
            clock,
        })
    }

    /// Ends a flight with a value or a "not found", as [`Store::publish`] does.
    pub(crate) fn publish(
        &self,
        leader: Leader<V>,
        key: &Key,
        outcome: Outcome<V>,
        write: Write<V>,
        place: impl FnOnce() -> Option<(Lane, Expiry)>,
    ) {
        self.store.publish(leader, key, outcome, write, place);
        self.set_alarm();
    }

    /// Ends a flight with an error, as [`Store::fail`] does.
    pub(crate) fn fail(&self, leader: Leader<V>, key: &Key, error: Error, back_off: bool, now_ms: u64) {
        self.store.fail(leader, key, error, back_off, now_ms);
        self.set_alarm();
    }

    /// Has the clock call us when the next entry or failure expires, or a load is overdue. To be
    /// called after each change that may have brought one.
    pub(crate) fn set_alarm(&self) {
        self.alarm.due_by(self.store.next_due_ms().min(self.watchdog.next_due_ms()));
    }

    /// The key as it is logged.
    pub(crate) fn logged<'k>(&self, key: &'k Key) -> LoggedKey<'k> {
        LoggedKey::new(key, self.settings.log_keys, &self.log_hasher)
    }

    /// The number of this group.
    pub(crate) fn id(self: &Arc<Self>) -> GroupId {
        Arc::as_ptr(self).addr()
    }

    /// The place of a get or an update that begins now; an error outside every tokio runtime.
    pub(crate) fn place(&self) -> Result<Place, Error> {
        let caller = Handle::try_current().map_err(|_| Error::new(ErrorKind::NoRuntime))?;
        let workplace = match self.node_runtime.chosen() {
            Some(chosen) => self.carriers.of_carrier(&chosen),
            None => self.carriers.of_runtime(&caller),
        };
        Ok(Place { workplace, caller: caller.id() })
    }

    /// Has the clock end a load if its loader blocks its thread for too long.
    pub(crate) fn watch_load(&self, key: Key, waiter: Waiter<V>) -> Watched<V> {
        let watched = self.watchdog.watch(key, waiter, self.clock.coarse_ms(), self.settings.limits.load_timeout);
        self.alarm.due_by(watched.overdue_ms());
        watched
    }

    fn end_overdue_loads(&self, now_ms: u64) {
        for (key, waiter) in self.watchdog.take_overdue(now_ms) {
            let message = "the loader did not end in time, and blocks its thread";
            let error = Error::with_message(ErrorKind::LoadTimedOut, message);
            self.store.end_overdue(&key, &waiter, error, now_ms, || self.counters.blocked_loads.count());
        }
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

    /// The place of a loaded value: main if the key is ours, or if we act for its owner while that
    /// is down. Else a peer took us for the owner, or the owner could not be asked. Then the value
    /// is kept only briefly, so that it does not outlive the disagreement.
    pub(crate) fn place_of_loaded(&self, key: &Key, expiry: Expiry, now_ms: u64) -> Option<(Lane, Expiry)> {
        let view = self.members.view();
        if view.owns(key.as_bytes()) {
            return Some((Lane::Main, expiry));
        }
        if view.answers_for(key.as_bytes()) {
            // Before the entry is there: a return of the owner that finds none had none to find.
            self.acts_for_others.store(true, SeqCst);
            return Some((Lane::Main, expiry));
        }
        let ttl: Duration = self.settings.fallback_ttl.min(self.settings.hot_ttl);
        Some((Lane::Hot, expiry.shortened_to(ttl, now_ms, self.settings.expiry_policy.refresh_ahead)?))
    }

    /// Whether an entry of this weight is worth the space that it would take. One that is not is
    /// counted, and the first of a group is logged: its key is loaded or fetched each time.
    pub(crate) fn admits(&self, weight: usize, expiry: Expiry) -> bool {
        let max_bytes = self.settings.max_bytes;
        let is_admitted = self.store.admits(weight.saturating_add(expiry_bytes(expiry)));
        // A group without a budget has been told to cache nothing.
        if !is_admitted && max_bytes > 0 {
            self.counters.too_large_to_cache.count();
            self.too_large_warning.call_once(|| {
                let group = &self.name;
                let why = "a value is too large for the group's budget and is not cached";
                tracing::warn!(%group, weight, max_bytes, "{why}");
            });
        }
        is_admitted
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
        let undelivered = self.members.view().remotes().map(|remote| remote.undelivered(&self.name)).sum::<usize>();
        Stats {
            in_flight: self.store.in_flight() as u64,
            undelivered_updates: undelivered as u64,
            ..self.counters.stats(main, hot)
        }
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
        self.store.reassign(|key| view.answers_for(key), |expiry| expiry.shortened_to(hot_ttl, now_ms, share));
        self.set_alarm();
    }

    fn came_back(&self) {
        if self.acts_for_others.load(SeqCst) {
            self.reassign();
        }
    }
}

impl<V: Value> OnTick for GroupState<V> {
    fn tick(&self, now_ms: u64) {
        self.alarm.rang();
        self.end_overdue_loads(now_ms);
        self.store.sweep(now_ms, || self.clock.advance());
        self.set_alarm();
    }
}
