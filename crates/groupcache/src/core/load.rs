//! A value from the origin: by this node's loader, in a task of its own.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

use crate::{
    answer::Source,
    cache::entry::{Entry, Found, Freshness, Origin, Place},
    cache::expiry::Expiry,
    cache::stored::Stored,
    core::catch_panic::{caught, caught_loading},
    core::load_limit::{LoadPermit, Slot},
    core::{Core, GetContext, Started},
    error::{Error, ErrorKind},
    key::Key,
    loader::{AnyLoader, DynLoader, LoadError, Loaded},
    store::Write,
    store::flight::{FlightKey, FlightResult, Leader},
    value::Value,
};

/// Calls a loader, whose panics and delays are errors like others.
pub(crate) async fn bounded<T>(
    load_timeout: Duration,
    start: impl FnOnce() -> Pin<Box<dyn Future<Output = T> + Send>>,
) -> Result<T, Error> {
    let load = caught("the loader", start)?;
    let late = |_| Error::new(ErrorKind::LoadTimedOut);
    timeout(load_timeout, caught_loading(load)).await.map_err(late)?
}

/// The leader, unless what it is to bring is of no use by now: the key was removed while it waited for its turn, and whoever wants
/// it has departed anew, or all who wanted it have left. What is brought in the background nobody waits for.
pub(crate) fn still_wanted<V>(leader: Leader<V>, waited: bool, context: GetContext) -> Option<Leader<V>> {
    match waited {
        false => Some(leader),
        true if leader.is_forgotten() => {
            leader.finish(FlightResult::Retry);
            None
        }
        true if context.freshness == Freshness::FreshOnly => Some(leader),
        true => leader.end_unless_awaited().err(),
    }
}

/// What is to be cached of a load.
struct Kept<V> {
    /// `None` if its loader wants none of it.
    expiry: Option<Expiry>,
    /// What it is charged, and what it is, if the cache can hold it.
    entry: Option<(usize, Stored<V>)>,
}

impl<V: Value> Core<V> {
    /// Joins the load of `key` or starts it.
    pub(crate) fn load(self: &Arc<Self>, key: Key, context: GetContext, runtime: &Handle) -> Started<V> {
        match &self.loader {
            AnyLoader::Each(loader) => self.load_with(loader, key, context, runtime),
            AnyLoader::Batched(loader) => {
                let alone = self.load_batch(loader, vec![key], context, runtime).pop();
                alone.expect("there is a departure for each key")
            }
        }
    }

    /// As [`load`](Core::load), for many keys: in one call where the loader can.
    pub(crate) fn load_many(
        self: &Arc<Self>,
        keys: Vec<Key>,
        context: GetContext,
        runtime: &Handle,
    ) -> Vec<Started<V>> {
        match &self.loader {
            AnyLoader::Each(loader) => {
                keys.into_iter().map(|key| self.load_with(loader, key, context, runtime)).collect()
            }
            AnyLoader::Batched(loader) => self.load_batch(loader, keys, context, runtime),
        }
    }

    fn load_with(
        self: &Arc<Self>,
        loader: &Arc<dyn DynLoader<V>>,
        key: Key,
        context: GetContext,
        runtime: &Handle,
    ) -> Started<V> {
        let leader = match self.join(FlightKey::load(key.clone()), context) {
            Ok(leader) => leader,
            Err(departure) => return departure,
        };
        let waiter = leader.waiter();
        match self.slots.take() {
            None => self.store.fail(leader, &key, self.overloaded(), false, self.clock.coarse_ms()),
            Some(slot) => drop(runtime.spawn(self.clone().fly(loader.clone(), leader, key, slot, context))),
        }
        Started::Waiting(waiter)
    }

    async fn fly(
        self: Arc<Self>,
        loader: Arc<dyn DynLoader<V>>,
        leader: Leader<V>,
        key: Key,
        slot: Slot,
        context: GetContext,
    ) {
        let waited = slot.is_queued();
        let turn = match self.turn(slot, context).await {
            Ok(turn) => turn,
            Err(None) => return leader.finish(FlightResult::Abandoned),
            Err(Some(error)) => {
                return self.store.fail(leader, &key, error, false, self.clock.coarse_ms());
            }
        };
        let Some(leader) = still_wanted(leader, waited, context) else { return };
        self.counters.loads_deduped.count();
        let load_timeout = self.settings.limits.load_timeout;
        let loaded = bounded(load_timeout, || loader.start(key.clone())).await;
        let loaded = loaded.and_then(|loaded| loaded.map_err(LoadError::into_error));
        // Before anybody is told: whoever asks for the next key at once finds the turn free.
        drop(turn);
        self.land_loaded(leader, key, loaded);
    }

    /// The turn to call the loader. `Err(None)`: he who wanted it is gone, and if others do, one of them starts anew.
    pub(crate) async fn turn(&self, slot: Slot, context: GetContext) -> Result<LoadPermit, Option<Error>> {
        let patience = Instant::now() + self.settings.limits.load_timeout;
        let turn = slot.turn(context.deadline.map_or(patience, |deadline| deadline.min(patience))).await;
        match turn {
            _ if context.is_over() => Err(None),
            Some(turn) => Ok(turn),
            None => Err(Some(self.overloaded())),
        }
    }

    pub(crate) fn land_loaded(&self, leader: Leader<V>, key: Key, loaded: Result<Loaded<V>, Error>) {
        let now_ms = self.clock.exact_ms();
        match loaded.and_then(|loaded| self.keep_loaded(&key, loaded, now_ms)) {
            Ok((value, kept)) => {
                self.counters.local_loads.count();
                self.publish_loaded(leader, key, Some(value), kept, now_ms);
            }
            Err(error) => {
                self.counters.local_load_errors.count();
                match error.kind() {
                    ErrorKind::NotFound => {
                        let kept = self.keep_not_found(&key, now_ms);
                        self.publish_loaded(leader, key, None, kept, now_ms);
                    }
                    kind => {
                        let back_off = matches!(kind, ErrorKind::LoadFailed | ErrorKind::LoadTimedOut);
                        self.store.fail(leader, &key, error, back_off, now_ms);
                    }
                }
            }
        }
    }

    /// The value, and what is to be cached of it.
    fn keep_loaded(&self, key: &Key, Loaded { value, ttl }: Loaded<V>, now_ms: u64) -> Result<(V, Kept<V>), Error> {
        let weight = self.weigh(key, &value)?;
        let expiry = self.settings.expiry_policy.of_loaded(key, ttl, now_ms);
        if expiry.is_none() || !self.store.admits(weight) {
            return Ok((value, Kept { expiry, entry: None }));
        }
        let stored = caught("the value", || Stored::new(key.as_bytes(), Some(value)))?;
        let value = stored.value().expect("it was stored a line before");
        Ok((value, Kept { expiry, entry: Some((weight, stored)) }))
    }

    fn keep_not_found(&self, key: &Key, now_ms: u64) -> Kept<V> {
        let expiry = self.settings.expiry_policy.of_not_found(key, now_ms);
        let weight = self.weight_of_not_found(key);
        Kept { expiry, entry: Some((weight, Stored::new(key.as_bytes(), None))).filter(|_| expiry.is_some()) }
    }

    fn publish_loaded(&self, leader: Leader<V>, key: Key, value: Option<V>, kept: Kept<V>, now_ms: u64) {
        let Kept { expiry, entry } = kept;
        // What its loader does not want cached is told so to peers: it remains fresh for no time at all.
        let remaining_ms = expiry.map_or(Some(0), |expiry| expiry.remaining_ms(now_ms));
        let outcome = match (value, expiry) {
            (None, None) => Err(Error::new(ErrorKind::NotFound)),
            (value, _) => Ok(Found { value, source: Source::Origin, age_ms: 0, remaining_ms, qps: None }),
        };
        match expiry.zip(entry) {
            None => self.store.publish(leader, key, outcome, Write::Nothing, || None),
            Some((expiry, (weight, stored))) => {
                let entry = Entry { stored, origin: Origin::Loaded, expiry, in_demand: false };
                let place = || self.place_of_loaded(&key, expiry, now_ms);
                self.store.publish(leader, key.clone(), outcome, Write::Entry(weight, entry), place);
            }
        }
    }

    /// Main if the key is ours. If not, a peer took us for the owner, or the owner could not be asked: then the value is
    /// kept only briefly, so that it does not outlive the disagreement.
    pub(crate) fn place_of_loaded(&self, key: &Key, expiry: Expiry, now_ms: u64) -> Option<(Place, Expiry)> {
        if self.members.view().owns(key.as_bytes()) {
            return Some((Place::Main, expiry));
        }
        let ttl: Duration = self.settings.fallback_ttl.min(self.settings.hot_ttl);
        Some((Place::Hot, expiry.ending_within(ttl, now_ms, self.settings.expiry_policy.refresh_ahead)?))
    }

    /// What an entry of this value is charged, in bytes; an error if the value is too large for the group.
    pub(crate) fn weigh(&self, key: &Key, value: &V) -> Result<usize, Error> {
        let (bytes, weight) = caught("the weigher", || (value.weight(), (self.settings.weigher)(key, value)))?;
        if bytes > self.settings.limits.max_value_bytes {
            return Err(Error::with_message(
                ErrorKind::ValueTooLarge,
                format!(
                    "the value of {bytes} bytes is larger than the {} that the group takes",
                    self.settings.limits.max_value_bytes
                ),
            ));
        }
        Ok(weight.saturating_add(key.len()).saturating_add(Entry::overhead(key, Some(value))))
    }

    pub(crate) fn weight_of_not_found(&self, key: &Key) -> usize {
        key.len().saturating_add(Entry::<V>::overhead(key, None))
    }
}
