//! Many values from the origin in one call of the loader.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;

use crate::{
    core::load::{bounded, still_wanted},
    core::load_limit::Slot,
    core::{Core, GetContext, Started},
    error::{Error, ErrorKind},
    key::Key,
    loader::batch::{Batch, DynBatchLoader},
    loader::{LoadError, Loaded},
    store::flight::{FlightKey, FlightResult, Leader},
    value::Value,
};

/// The most keys of one call.
const KEYS_AT_ONCE_MAX: usize = 1_024;

/// The flights of one call, each to be landed once.
struct LoadBatch<V> {
    core: Arc<Core<V>>,
    flights: Vec<Flight<V>>,
}

/// `None` once it has landed.
type Flight<V> = Mutex<Option<(Key, Leader<V>)>>;

impl<V: Value> Core<V> {
    /// Joins the loads of the keys that are being loaded, and starts those of all others in one call.
    pub(crate) fn load_batch(
        self: &Arc<Self>,
        loader: &Arc<dyn DynBatchLoader<V>>,
        keys: Vec<Key>,
        context: GetContext,
        runtime: &Handle,
    ) -> Vec<Started<V>> {
        let mut retries = Vec::with_capacity(keys.len());
        let mut leads = Vec::new();
        for key in keys {
            retries.push(match self.join(FlightKey::load(key.clone()), context) {
                Err(departure) => departure,
                Ok(leader) => {
                    let waiter = leader.waiter();
                    leads.push((key, leader));
                    Started::Waiting(waiter)
                }
            });
        }
        while !leads.is_empty() {
            let rest = leads.split_off(leads.len().min(KEYS_AT_ONCE_MAX));
            let flock = LoadBatch::new(self.clone(), std::mem::replace(&mut leads, rest));
            match self.slots.take() {
                None => flock.finish_all(&self.overloaded()),
                Some(slot) => drop(runtime.spawn(flock.fly(loader.clone(), slot, context))),
            }
        }
        retries
    }
}

impl<V: Value> LoadBatch<V> {
    fn new(core: Arc<Core<V>>, leads: Vec<(Key, Leader<V>)>) -> Arc<Self> {
        let flights = leads.into_iter().map(|lead| Mutex::new(Some(lead))).collect();
        Arc::new(LoadBatch { core, flights })
    }

    async fn fly(self: Arc<Self>, loader: Arc<dyn DynBatchLoader<V>>, slot: Slot, context: GetContext) {
        let waited = slot.is_queued();
        let turn = match self.core.turn(slot, context).await {
            Ok(turn) => turn,
            Err(None) => return self.take_all(|_, leader| leader.finish(FlightResult::Abandoned)),
            Err(Some(error)) => return self.finish_all(&error),
        };
        let keys = self.wanted_keys(waited, context);
        if keys.is_empty() {
            return;
        }
        let (positions, keys): (Vec<usize>, Vec<Key>) = keys.into_iter().unzip();
        let answering = self.clone();
        let batch = Batch::new(keys, move |nth, answer| answering.land(positions[nth], answer));
        let ended = bounded(self.core.settings.limits.load_timeout, || loader.start(batch)).await;
        drop(turn);
        match ended {
            Ok(Ok(())) => self.finish_all(&Error::new(ErrorKind::NotFound)),
            Ok(Err(failed)) => self.finish_all(&failed.into_error()),
            Err(error) => self.finish_all(&error),
        }
    }

    fn wanted_keys(&self, waited: bool, context: GetContext) -> Vec<(usize, Key)> {
        let wanted = |(position, flight): (usize, &Flight<V>)| {
            let mut flight = flight.lock().unwrap_or_else(PoisonError::into_inner);
            let (key, leader) = flight.take()?;
            *flight = Some((key.clone(), still_wanted(leader, waited, context)?));
            self.core.counters.loads_deduped.count();
            Some((position, key))
        };
        self.flights.iter().enumerate().filter_map(wanted).collect()
    }

    fn land(&self, position: usize, answer: Result<Loaded<V>, LoadError>) {
        if let Some((key, leader)) = self.take(position) {
            self.core.land_loaded(leader, key, answer.map_err(LoadError::into_error));
        }
    }

    /// What all get that have not been answered.
    fn finish_all(&self, error: &Error) {
        self.take_all(|key, leader| self.core.land_loaded(leader, key, Err(error.clone())));
    }

    fn take_all(&self, mut land: impl FnMut(Key, Leader<V>)) {
        for position in 0..self.flights.len() {
            if let Some((key, leader)) = self.take(position) {
                land(key, leader);
            }
        }
    }

    fn take(&self, position: usize) -> Option<(Key, Leader<V>)> {
        self.flights[position].lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
