//! One load of many keys, in one call of a batched loader.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    core::carriers::Place,
    core::get_context::GetContext,
    core::join::{Started, join_or_lead},
    core::load_limit::{AcquirePermit, NoPermit},
    core::publish::Publisher,
    core::state::GroupState,
    core::watchdog::Watched,
    error::{Error, ErrorKind},
    key::Key,
    loader::any::{self, DynBatchLoader},
    loader::batch::Batch,
    loader::scope::LoadScope,
    loader::{LoadError, Loaded},
    store::flight::FlightKey,
    value::Value,
};

/// The most keys of one call.
const MAX_KEYS_PER_CALL: usize = 1_024;

/// Joins the loads of the keys that are being loaded, and starts those of all others in one call.
pub(crate) fn load_batch<V: Value>(
    state: &Arc<GroupState<V>>,
    loader: &Arc<dyn DynBatchLoader<V>>,
    keys: Vec<Key>,
    context: GetContext,
    place: &Place,
) -> Vec<Started<V>> {
    let mut led = Vec::new();
    let mut started = Vec::with_capacity(keys.len());
    for key in keys {
        started.push(join_or_lead(state, FlightKey::load(key), context, place, |publisher| led.push(publisher)));
    }
    while !led.is_empty() {
        let rest = led.split_off(led.len().min(MAX_KEYS_PER_CALL));
        let batch = LoadBatch::new(state.clone(), context, std::mem::replace(&mut led, rest));
        match place.workplace.loads.acquire(context.may_queue) {
            None => batch.fail(&state.overloaded()),
            Some(acquire) => {
                let scope = LoadScope::current().asked_by(context.chain);
                drop(place.runtime().spawn(scope.run(batch.run(loader.clone(), acquire))));
            }
        }
    }
    started
}

/// A load of many keys in progress, each with a flight of its own.
struct LoadBatch<V> {
    state: Arc<GroupState<V>>,
    context: GetContext,
    flights: Vec<Flight<V>>,
}

/// The flight of one key, `None` once it has ended.
type Flight<V> = Mutex<Option<Publisher<V>>>;

impl<V: Value> LoadBatch<V> {
    fn new(state: Arc<GroupState<V>>, context: GetContext, led: Vec<Publisher<V>>) -> Arc<Self> {
        let flights = led.into_iter().map(|publisher| Mutex::new(Some(publisher))).collect();
        Arc::new(LoadBatch { state, context, flights })
    }

    async fn run(self: Arc<Self>, loader: Arc<dyn DynBatchLoader<V>>, acquire: AcquirePermit) {
        let load_timeout = self.state.settings.limits.load_timeout;
        let was_queued = acquire.is_queued();
        let permit = match acquire.wait(load_timeout, self.context.deadline).await {
            Ok(permit) => permit,
            Err(NoPermit::CallerGone) => return self.end_each(Publisher::abandon),
            Err(NoPermit::TimedOut) => return self.fail(&self.state.overloaded()),
        };
        let (positions, keys) = self.wanted_keys(was_queued);
        if keys.is_empty() {
            return;
        }
        let watched: Vec<_> = positions.iter().filter_map(|&position| self.watch(position)).collect();
        let group = (self.state.id(), &*self.state.name);
        let scope = LoadScope::current().loading(group, keys.clone(), Arc::new(permit));
        let answered = self.clone();
        let batch = Batch::new(keys, move |nth, answer| answered.publish(positions[nth], answer));
        let loaded = scope.run(any::load_batch(loader, batch, load_timeout)).await;
        drop(watched);
        // For the keys that the loader has not answered.
        self.fail(&loaded.err().unwrap_or_else(|| Error::new(ErrorKind::NotFound)));
    }

    /// The keys that are still wanted, with their positions among the flights.
    fn wanted_keys(&self, was_queued: bool) -> (Vec<usize>, Vec<Key>) {
        let wanted = |(position, flight): (usize, &Flight<V>)| {
            let mut flight = flight.lock().unwrap_or_else(PoisonError::into_inner);
            if was_queued {
                *flight = flight.take()?.unless_unwanted(self.context);
            }
            let key = flight.as_ref()?.key().clone();
            self.state.counters.loads_deduped.count();
            Some((position, key))
        };
        self.flights.iter().enumerate().filter_map(wanted).unzip()
    }

    /// Has the clock end the key's flight if the loader blocks its thread for too long.
    fn watch(&self, position: usize) -> Option<Watched<V>> {
        let flight = self.flights[position].lock().unwrap_or_else(PoisonError::into_inner);
        let (key, waiter) = flight.as_ref().map(|publisher| (publisher.key().clone(), publisher.waiter()))?;
        drop(flight);
        Some(self.state.watch_load(key, waiter))
    }

    /// Publishes the loader's answer for one key; only the first counts.
    fn publish(&self, position: usize, answer: Result<Loaded<V>, LoadError>) {
        if let Some(publisher) = self.take(position) {
            publisher.publish_loaded(answer.map_err(LoadError::into_error));
        }
    }

    /// Publishes the same error for all keys that have not been answered.
    fn fail(&self, error: &Error) {
        self.end_each(|publisher| publisher.publish_loaded(Err(error.clone())));
    }

    fn end_each(&self, end: impl Fn(Publisher<V>)) {
        (0..self.flights.len()).filter_map(|position| self.take(position)).for_each(end);
    }

    fn take(&self, position: usize) -> Option<Publisher<V>> {
        self.flights[position].lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
