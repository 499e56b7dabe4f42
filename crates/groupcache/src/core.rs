pub(crate) mod broadcast;
pub(crate) mod catch_panic;
pub(crate) mod fetch;
pub(crate) mod load;
pub(crate) mod load_batch;
pub(crate) mod load_limit;
pub(crate) mod log_limit;
pub(crate) mod permit;
pub(crate) mod serve;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{runtime::Handle, time::Instant};

use crate::{
    answer::{Answer, Cached},
    cache::Cache,
    cache::entry::{Found, Freshness, Requester},
    cache::shard::Seen,
    clock::{Clock, OnTick},
    core::load_limit::LoadLimiter,
    core::log_limit::LogLimit,
    core::permit::FetchLimiter,
    error::{Error, ErrorKind},
    key::Key,
    loader::AnyLoader,
    members::{Members, OnRingChange, Owner},
    settings::Settings,
    stats::{Counters, Stats},
    store::backoff::Backoff,
    store::flight::{FlightKey, FlightResult, Leader, Outcome, Waiter, landed},
    store::{Joined, Store},
    value::Value,
};

/// What all handles of a group share: the rooms that a get walks through, in the order in which it does.
///
/// `load.rs` and `fetch.rs` say how a value is brought, `spread.rs` how a change is made everywhere; here is said who does it.
pub(crate) struct Core<V> {
    pub(crate) name: Arc<str>,
    pub(crate) store: Store<V>,
    pub(crate) members: Members,
    pub(crate) loader: AnyLoader<V>,
    pub(crate) settings: Settings<V>,
    pub(crate) slots: LoadLimiter,
    pub(crate) fetch_permits: Arc<FetchLimiter>,
    pub(crate) clock: Clock,
    pub(crate) counters: Counters,
    pub(crate) peer_warnings: LogLimit,
}

/// How a get that found nothing cached goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GetContext {
    pub(crate) requester: Requester,
    pub(crate) freshness: Freshness,
    /// When the caller stops waiting. Nothing is started after it.
    pub(crate) deadline: Option<Instant>,
}

/// Where it stands.
pub(crate) enum Started<V> {
    Done(FlightResult<V>),
    Waiting(Waiter<V>),
}

/// How often a get departs anew because its key was removed on the way.
pub(crate) const RETRIES_MAX: u32 = 64;

impl GetContext {
    /// Of a caller at this node.
    pub(crate) fn of_caller(deadline: Option<Instant>) -> Self {
        GetContext { requester: Requester::Local, freshness: Freshness::AllowStale, deadline }
    }

    /// As a peer sees it, who is told whole milliseconds.
    pub(crate) fn is_as_good_as_over(&self) -> bool {
        const ROUNDING: Duration = Duration::from_millis(2);
        self.deadline.is_some_and(|deadline| deadline <= Instant::now() + ROUNDING)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }
}

impl<V: Value> Core<V> {
    pub(crate) fn new(
        name: Arc<str>,
        members: Members,
        clock: Clock,
        loader: AnyLoader<V>,
        settings: Settings<V>,
        cache: Cache<V>,
    ) -> Arc<Self> {
        let (first, longest) = settings.error_backoff;
        let memory = longest.saturating_add(settings.limits.load_timeout);
        let backoff = Backoff::new(first, longest, memory, cache.budget().max_bytes(), ahash::RandomState::new());
        Arc::new(Core {
            name,
            store: Store::new(cache, backoff),
            members,
            loader,
            slots: LoadLimiter::new(settings.max_concurrent_loads, settings.max_queued_loads),
            fetch_permits: FetchLimiter::new(settings.max_concurrent_fetches),
            settings,
            clock,
            counters: Counters::default(),
            peer_warnings: LogLimit::default(),
        })
    }

    /// A hit ends here, with what `read` makes of it.
    #[inline]
    pub(crate) fn look_up<R>(
        self: &Arc<Self>,
        key: &[u8],
        requester: Requester,
        freshness: Freshness,
        read: impl FnOnce(&Seen<'_, V>) -> R,
    ) -> Option<R> {
        let now_ms = self.clock.coarse_ms();
        let (made, is_due) = self.store.get(key, requester, freshness, now_ms, |seen| (read(&seen), seen.is_due()))?;
        if is_due {
            self.renew(key, requester);
        }
        Some(made)
    }

    /// A miss goes on here: of this node's own caller to the loader if we own the key, else to its owner. A peer's is loaded
    /// here whoever owns the key, for what arrives over the network never travels on: that is all that keeps members who disagree
    /// about the owner from waiting for each other.
    pub(crate) fn start(self: &Arc<Self>, key: &[u8], context: GetContext) -> Started<V> {
        if context.is_over() {
            return Started::failed(Error::new(ErrorKind::DeadlineExceeded));
        }
        let (key, runtime) = match self.prepare(key) {
            Ok(prepared) => prepared,
            Err(error) => return Started::failed(error),
        };
        if context.requester == Requester::Peer {
            return self.load(key, context, &runtime);
        }
        let view = self.members.view();
        match view.owner(key.as_bytes()) {
            Owner::Local => self.load(key, context, &runtime),
            Owner::Remote(remote) => self.fetch(key, remote, view.digest(), context, &runtime),
        }
    }

    /// To the end of the journey, for those whose future is boxed anyway.
    pub(crate) async fn travel(self: Arc<Self>, key: Key, context: GetContext, departure: Started<V>) -> Outcome<V> {
        let mut retries = RETRIES_MAX;
        let mut result = departure.result().await;
        while let Some(departure) = self.start_again(key.as_bytes(), context, &result, &mut retries) {
            result = departure.result().await;
        }
        match result {
            FlightResult::Done(outcome) => self.arrived(key.as_bytes(), context.requester, outcome),
            FlightResult::Retry | FlightResult::Abandoned => Err(too_many_retries()),
        }
    }

    /// What it came to for this requester: a stale value, where the group allows one for an error, is for whom it may be shown to.
    pub(crate) fn arrived(&self, key: &[u8], requester: Requester, outcome: Outcome<V>) -> Outcome<V> {
        outcome.or_else(|error| self.store.or_stale(key, requester, error, self.clock.coarse_ms()))
    }

    /// For those whose flight landed without a result, unless it has been too often.
    pub(crate) fn start_again(
        self: &Arc<Self>,
        key: &[u8],
        context: GetContext,
        result: &FlightResult<V>,
        retries: &mut u32,
    ) -> Option<Started<V>> {
        match result {
            FlightResult::Done(_) => return None,
            // However many callers leave, each does so once.
            FlightResult::Abandoned => {}
            FlightResult::Retry => *retries = retries.checked_sub(1)?,
        }
        Some(self.start(key, context))
    }

    /// Brings a new value in the background, unless that is under way.
    #[cold]
    #[inline(never)]
    fn renew(self: &Arc<Self>, key: &[u8], requester: Requester) {
        if Handle::try_current().is_ok() {
            self.counters.refreshes.count();
            drop(self.start(key, GetContext { requester, freshness: Freshness::FreshOnly, deadline: None }));
        }
    }

    /// What every miss needs: a key of its own, a runtime, a clock that ticks.
    pub(crate) fn prepare(&self, key: &[u8]) -> Result<(Key, Handle), Error> {
        self.counters.loads.count();
        if key.len() > self.settings.limits.max_key_bytes {
            return Err(Error::new(ErrorKind::KeyTooLong));
        }
        let runtime = Handle::try_current().map_err(|_| Error::new(ErrorKind::NoRuntime))?;
        self.clock.start(&runtime);
        Ok((Key::copy_from(key), runtime))
    }

    /// Joins the flight of `key` or starts one; `Err` is for those who need not fly.
    pub(crate) fn join(&self, key: FlightKey, context: GetContext) -> Result<Leader<V>, Started<V>> {
        let now_ms = self.clock.coarse_ms();
        match self.store.join(key, context.requester, context.freshness, now_ms) {
            Joined::Lead(leader) => Ok(leader),
            Joined::Wait(waiter) => Err(Started::Waiting(waiter)),
            Joined::Hit(found) => {
                self.counters.late_hits.count();
                Err(Started::done(Ok(found)))
            }
            Joined::BackedOff(error) => {
                self.counters.backed_off.count();
                Err(Started::failed(error))
            }
        }
    }

    pub(crate) fn overloaded(&self) -> Error {
        self.counters.overloads.count();
        Error::new(ErrorKind::Overloaded)
    }

    pub(crate) fn peek(&self, key: &[u8]) -> Option<Answer<V>> {
        self.clock.advance();
        let found = self.store.peek(key, Requester::Local, Freshness::AllowStale, self.clock.coarse_ms())?;
        found.answer().ok()
    }

    pub(crate) fn snapshot(&self) -> Vec<Cached<V>> {
        self.clock.advance();
        let now_ms = self.clock.coarse_ms();
        let mut entries = Vec::new();
        self.store.for_each(now_ms, |place, key, Found { value, age_ms, remaining_ms, .. }| {
            let (age, remaining) = (Duration::from_millis(age_ms), remaining_ms.map(Duration::from_millis));
            entries.push(Cached { key: Key::copy_from(key), value, place: place.source(), age, remaining });
        });
        entries
    }

    pub(crate) fn stats(&self) -> Stats {
        let (main, hot) = self.store.cache_stats();
        Stats { in_flight: self.store.in_flight() as u64, ..self.counters.stats(main, hot) }
    }

    /// Has the member list tell us of every change of the ring, and the clock of every tick.
    pub(crate) fn follow(self: &Arc<Self>) {
        let weak: Weak<Self> = Arc::downgrade(self);
        self.members.follow(weak.clone());
        self.clock.follow(weak);
    }
}

/// Whom no departure brings anywhere.
pub(crate) fn too_many_retries() -> Error {
    let message = format!("the key was removed, or its load given up, {RETRIES_MAX} times while it was waited for");
    Error::with_message(ErrorKind::Overloaded, message)
}

impl<V> Started<V> {
    pub(crate) fn done(outcome: Outcome<V>) -> Self {
        Started::Done(FlightResult::Done(outcome))
    }

    pub(crate) fn failed(error: Error) -> Self {
        Started::done(Err(error))
    }
}

impl<V: Value> Started<V> {
    /// How it ended.
    pub(crate) async fn result(self) -> FlightResult<V> {
        match self {
            Started::Done(result) => result,
            Started::Waiting(waiter) => landed(waiter.await),
        }
    }
}

impl<V: Value> OnRingChange for Core<V> {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn reassign(&self) {
        let view = self.members.view();
        let (hot_ttl, share) = (self.settings.hot_ttl, self.settings.expiry_policy.refresh_ahead);
        let now_ms = self.clock.exact_ms();
        self.store.reassign(|key| view.owns(key), |expiry| expiry.ending_within(hot_ttl, now_ms, share));
    }
}

impl<V: Value> OnTick for Core<V> {
    fn tick(&self, now_ms: u64) {
        self.store.sweep(now_ms, || self.clock.advance());
    }
}

impl<V> Found<V> {
    /// As its caller sees it.
    pub(crate) fn answer(self) -> Result<Answer<V>, Error> {
        let value = self.value.ok_or_else(|| Error::new(ErrorKind::NotFound))?;
        let (age, remaining) = (Duration::from_millis(self.age_ms), self.remaining_ms.map(Duration::from_millis));
        Ok(Answer { value, source: self.source, age, remaining })
    }
}

#[cfg(all(test, not(peercache_loom)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;
    use crate::{Bytes, builder::GroupBuilder, loader::loader_fn_with, registry::Groups};

    /// The interleaving: we look and find nothing; another flight starts, lands and publishes; only then do we depart.
    #[tokio::test]
    async fn a_leader_that_comes_late_finds_what_the_first_one_left() {
        let loads = Arc::new(AtomicUsize::new(0));
        let loader = loader_fn_with(loads.clone(), |loads: Arc<AtomicUsize>, _| async move {
            loads.fetch_add(1, SeqCst);
            Ok(Bytes::from_static(b"value"))
        });
        let builder: GroupBuilder<Bytes> = Groups::new(Members::alone()).group("group", loader);
        let core = builder.build_core().expect("the settings are fine");
        assert!(core.look_up(b"key", Requester::Local, Freshness::AllowStale, |_| ()).is_none());
        let context = GetContext::of_caller(None);
        let departure = core.start(b"key", context);
        core.clone().travel(Key::from("key"), context, departure).await.expect("the loader brings a value");
        let before = core.stats().main;
        assert!(matches!(core.start(b"key", context), Started::Done(FlightResult::Done(Ok(_)))));
        let after = core.stats().main;
        assert_eq!((loads.load(SeqCst), before.items, before.bytes), (1, after.items, after.bytes));
    }
}
