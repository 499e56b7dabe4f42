//! The end of a flight: its value is written to the cache, and its waiters are told.

use std::sync::Arc;

use peercache_lru::segment::Lane;

use crate::{
    answer::Source,
    cache::entry::{Entry, Found, Freshness, Origin},
    cache::expiry::Expiry,
    cache::stored::Stored,
    catch_panic::caught,
    core::get_context::GetContext,
    core::state::GroupState,
    error::{Error, ErrorKind},
    hot::HotCandidate,
    key::Key,
    loader::Loaded,
    store::Write,
    store::flight::{FlightResult, Leader, Waiter},
    value::Value,
};

/// The flight of one key that a load or a fetch leads, to be ended in one of these ways.
///
/// It writes nothing if the key was removed or set meanwhile: the store sees to that, under the
/// lock of the key.
pub(crate) struct Publisher<V> {
    state: Arc<GroupState<V>>,
    key: Key,
    leader: Leader<V>,
}

/// A peer's answer, decoded.
pub(crate) struct Fetched<V> {
    pub(crate) found: Found<V>,
    /// `None` if it is not to be cached.
    pub(crate) expiry: Option<Expiry>,
    pub(crate) weight: usize,
    pub(crate) now_ms: u64,
    /// The ring that named the peer as the owner.
    pub(crate) digest: u64,
}

/// The part of a load's result that is cached.
struct Cacheable<V> {
    /// `None` if its loader wants none of it cached.
    expiry: Option<Expiry>,
    /// The entry with its weight, if the cache can hold it.
    entry: Option<(usize, Stored<V>)>,
}

impl<V: Value> Publisher<V> {
    pub(crate) fn new(state: Arc<GroupState<V>>, key: Key, leader: Leader<V>) -> Self {
        Publisher { state, key, leader }
    }

    pub(crate) fn state(&self) -> &Arc<GroupState<V>> {
        &self.state
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    pub(crate) fn waiter(&self) -> Waiter<V> {
        self.leader.waiter()
    }

    /// Publishes the result of a load: a value, a "not found" or a failure.
    pub(crate) fn publish_loaded(self, loaded: Result<Loaded<V>, Error>) {
        let now_ms = self.state.clock.exact_ms();
        match loaded.and_then(|loaded| self.cacheable(loaded, now_ms)) {
            Ok((value, cacheable)) => {
                self.state.counters.local_loads.count();
                self.write_loaded(Some(value), cacheable, now_ms);
            }
            Err(error) => {
                self.state.counters.local_load_errors.count();
                match error.kind() {
                    ErrorKind::NotFound => {
                        let cacheable = self.cacheable_not_found(now_ms);
                        self.write_loaded(None, cacheable, now_ms);
                    }
                    kind => {
                        use ErrorKind::{LoadFailed, LoadTimedOut, RecursiveLoad};
                        let back_off = matches!(kind, LoadFailed | LoadTimedOut | RecursiveLoad);
                        self.state.fail(self.leader, &self.key, error, back_off, now_ms);
                    }
                }
            }
        }
    }

    /// Publishes the answer of a peer, and keeps a hot copy if it is admitted.
    pub(crate) fn publish_fetched(self, fetched: Fetched<V>) {
        let Publisher { state, key, leader } = self;
        let Fetched { mut found, expiry, weight, now_ms, digest } = fetched;
        let settings = &state.settings;
        let expiry = expiry
            .and_then(|expiry| expiry.shortened_to(settings.hot_ttl, now_ms, settings.expiry_policy.refresh_ahead));
        let admitted = expiry.filter(|expiry| {
            let copy = HotCandidate { key: &key, weight, minute_qps: found.qps };
            let admitted = caught("the hot admission", || settings.hot_admission.admit(&copy)).unwrap_or(false);
            // A copy that is there already was worth it once.
            (admitted || state.store.contains(key.as_bytes())) && state.admits(weight, *expiry)
        });
        let Some(expiry) = admitted else {
            found.value = match found.value.map(without_buffer).transpose() {
                Ok(value) => value,
                Err(panic) => return state.fail(leader, &key, panic, false, now_ms),
            };
            let write = if found.source == Source::Stale { Write::Keep } else { Write::Remove };
            return state.publish(leader, &key, Ok(found), write, || None);
        };
        let Ok(stored) = caught("the value", || Stored::new(key.as_bytes(), found.value.clone())) else {
            return state.publish(leader, &key, Ok(found), Write::Remove, || None);
        };
        // Callers get the stored value too, so that nothing holds the buffer in which it came.
        found.value = stored.value();
        let in_demand = found.qps.is_some_and(|qps| qps >= state.members.view().names().len() as f64);
        let entry = Entry { stored, origin: Origin::Fetched, expiry, in_demand };
        // No copy is kept if the member list has changed since the owner was looked up:
        //   1. a get takes the old list, and with it the owner to ask;
        //   2. a new list leaves that member out, so it is told of no further update;
        //   3. a removal of the key reaches all members of the new list, this node too;
        //   4. the get leads a new flight, and the old owner answers with the value from before.
        // The lists are compared under the lock of the key. A removal under a list that comes later
        // comes later itself, and finds the copy.
        let place = || (state.members.view().digest() == digest).then_some((Lane::Hot, expiry));
        state.publish(leader, &key, Ok(found), Write::Insert(weight, entry), place);
    }

    /// Publishes that the owner has no such key.
    pub(crate) fn publish_not_found(self, error: Error) {
        self.state.publish(self.leader, &self.key, Err(error), Write::Remove, || None);
    }

    /// Ends the flight with an error that says nothing about the key's origin, so that the key is
    /// not put in back-off.
    pub(crate) fn fail(self, error: Error) {
        let now_ms = self.state.clock.coarse_ms();
        self.state.fail(self.leader, &self.key, error, false, now_ms);
    }

    /// Ends the flight because too many are in flight.
    pub(crate) fn fail_overloaded(self) {
        let error = self.state.overloaded();
        self.fail(error);
    }

    /// Ends the flight with what another flight of the key came to.
    pub(crate) fn pass_on(self, result: FlightResult<V>) {
        self.leader.finish_with(|still_mapped| if still_mapped { result } else { FlightResult::Retry });
    }

    /// Ends the flight without a result: its waiters start again.
    pub(crate) fn retry(self) {
        self.leader.finish(FlightResult::Retry);
    }

    /// Ends the flight because the caller who started it is gone: those who still wait start again.
    pub(crate) fn abandon(self) {
        self.leader.finish(FlightResult::Abandoned);
    }

    /// Ends the flight if nobody wants its result any more, before a load that had to queue begins.
    pub(crate) fn unless_unwanted(self, context: GetContext) -> Option<Self> {
        let Publisher { state, key, leader } = self;
        if leader.is_forgotten() {
            // The key was removed in the meantime. Its waiters have started again already.
            leader.finish(FlightResult::Retry);
            return None;
        }
        if context.freshness == Freshness::FreshOnly {
            // Nobody waits for a refresh, and it is wanted all the same.
            return Some(Publisher { state, key, leader });
        }
        let leader = leader.end_unless_awaited().err()?;
        Some(Publisher { state, key, leader })
    }

    /// The value, and the part of it that is cached.
    fn cacheable(&self, loaded: Loaded<V>, now_ms: u64) -> Result<(V, Cacheable<V>), Error> {
        let Loaded { value, ttl } = loaded;
        let weight = self.state.weigh(&self.key, &value)?;
        let expiry = self.state.settings.expiry_policy.of_loaded(&self.key, ttl, now_ms);
        if !expiry.is_some_and(|expiry| self.state.admits(weight, expiry)) {
            return Ok((value, Cacheable { expiry, entry: None }));
        }
        let stored = caught("the value", || Stored::new(self.key.as_bytes(), Some(value)))?;
        let value = stored.value().expect("it was stored a line before");
        Ok((value, Cacheable { expiry, entry: Some((weight, stored)) }))
    }

    fn cacheable_not_found(&self, now_ms: u64) -> Cacheable<V> {
        let expiry = self.state.settings.expiry_policy.of_not_found(&self.key, now_ms);
        let entry = || (weight_of_not_found::<V>(&self.key), Stored::new(self.key.as_bytes(), None));
        Cacheable { expiry, entry: expiry.map(|_| entry()) }
    }

    fn write_loaded(self, value: Option<V>, cacheable: Cacheable<V>, now_ms: u64) {
        let Publisher { state, key, leader } = self;
        let Cacheable { expiry, entry } = cacheable;
        // A value that its loader does not want cached is fresh for no time at all: that is what
        // peers are told.
        let remaining_ms = expiry.map_or(Some(0), |expiry| expiry.remaining_ms(now_ms));
        let outcome = match (value, expiry) {
            (None, None) => Err(Error::new(ErrorKind::NotFound)),
            (value, _) => Ok(Found { value, source: Source::Origin, age_ms: 0, remaining_ms, qps: None }),
        };
        match expiry.zip(entry) {
            None => state.publish(leader, &key, outcome, Write::Remove, || None),
            Some((expiry, (weight, stored))) => {
                let entry = Entry { stored, origin: Origin::Loaded, expiry, in_demand: false };
                let place = || state.place_of_loaded(&key, expiry, now_ms);
                state.publish(leader, &key, outcome, Write::Insert(weight, entry), place);
            }
        }
    }
}

/// A fetched value that is not cached, without the buffer in which it came: one small value of an
/// answer for many keys would keep all of them alive for as long as its caller holds it.
///
/// A long value is left as it is. It fills most of its buffer, and the copy would cost more than it
/// saves.
fn without_buffer<V: Value>(value: V) -> Result<V, Error> {
    const MAX_COPIED_BYTES: usize = 64 << 10;
    caught("the value", || if value.weight() <= MAX_COPIED_BYTES { value.detach() } else { value })
}

/// The bytes that a cached "not found" is charged.
pub(crate) fn weight_of_not_found<V: Value>(key: &Key) -> usize {
    key.len().saturating_add(Entry::<V>::overhead(key, None))
}
