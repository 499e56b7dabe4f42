//! Many values from the origin in one call of the loader.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;

use crate::{
    core::load::{bounded, still_wanted},
    core::load_limit::Slot,
    core::{Core, Departure, Trip},
    error::{Error, ErrorKind},
    key::Key,
    loader::batch::{Batch, DynBatchLoader},
    loader::{LoadError, Loaded},
    store::flight::{FlightKey, Landing, Pilot},
    value::Value,
};

/// The most keys of one call.
const KEYS_AT_ONCE_MAX: usize = 1_024;

/// The flights of one call, each to be landed once.
struct Flock<V> {
    core: Arc<Core<V>>,
    flights: Vec<Flight<V>>,
}

/// `None` once it has landed.
type Flight<V> = Mutex<Option<(Key, Pilot<V>)>>;

impl<V: Value> Core<V> {
    /// Joins the loads of the keys that are being loaded, and starts those of all others in one call.
    pub(crate) fn load_batch(
        self: &Arc<Self>,
        loader: &Arc<dyn DynBatchLoader<V>>,
        keys: Vec<Key>,
        trip: Trip,
        runtime: &Handle,
    ) -> Vec<Departure<V>> {
        let mut departures = Vec::with_capacity(keys.len());
        let mut leads = Vec::new();
        for key in keys {
            departures.push(match self.board(FlightKey::load(key.clone()), trip) {
                Err(departure) => departure,
                Ok(pilot) => {
                    let passenger = pilot.waiter();
                    leads.push((key, pilot));
                    Departure::Waiting(passenger)
                }
            });
        }
        while !leads.is_empty() {
            let rest = leads.split_off(leads.len().min(KEYS_AT_ONCE_MAX));
            let flock = Flock::new(self.clone(), std::mem::replace(&mut leads, rest));
            match self.slots.take() {
                None => flock.land_all(&self.overloaded()),
                Some(slot) => drop(runtime.spawn(flock.fly(loader.clone(), slot, trip))),
            }
        }
        departures
    }
}

impl<V: Value> Flock<V> {
    fn new(core: Arc<Core<V>>, leads: Vec<(Key, Pilot<V>)>) -> Arc<Self> {
        let flights = leads.into_iter().map(|lead| Mutex::new(Some(lead))).collect();
        Arc::new(Flock { core, flights })
    }

    async fn fly(self: Arc<Self>, loader: Arc<dyn DynBatchLoader<V>>, slot: Slot, trip: Trip) {
        let waited = slot.is_queued();
        let turn = match self.core.turn(slot, trip).await {
            Ok(turn) => turn,
            Err(None) => return self.take_all(|_, pilot| pilot.finish(Landing::Left)),
            Err(Some(error)) => return self.land_all(&error),
        };
        let keys = self.wanted_keys(waited, trip);
        if keys.is_empty() {
            return;
        }
        let (positions, keys): (Vec<usize>, Vec<Key>) = keys.into_iter().unzip();
        let answering = self.clone();
        let batch = Batch::new(keys, move |nth, answer| answering.land(positions[nth], answer));
        let ended = bounded(self.core.settings.load_timeout, || loader.start(batch)).await;
        drop(turn);
        match ended {
            Ok(Ok(())) => self.land_all(&Error::new(ErrorKind::NotFound)),
            Ok(Err(failed)) => self.land_all(&failed.into_error()),
            Err(error) => self.land_all(&error),
        }
    }

    fn wanted_keys(&self, waited: bool, trip: Trip) -> Vec<(usize, Key)> {
        let wanted = |(position, flight): (usize, &Flight<V>)| {
            let mut flight = flight.lock().unwrap_or_else(PoisonError::into_inner);
            let (key, pilot) = flight.take()?;
            *flight = Some((key.clone(), still_wanted(pilot, waited, trip)?));
            self.core.counters.loads_deduped.count();
            Some((position, key))
        };
        self.flights.iter().enumerate().filter_map(wanted).collect()
    }

    fn land(&self, position: usize, answer: Result<Loaded<V>, LoadError>) {
        if let Some((key, pilot)) = self.take(position) {
            self.core.land_loaded(pilot, key, answer.map_err(LoadError::into_error));
        }
    }

    /// What all get that have not been answered.
    fn land_all(&self, error: &Error) {
        self.take_all(|key, pilot| self.core.land_loaded(pilot, key, Err(error.clone())));
    }

    fn take_all(&self, mut land: impl FnMut(Key, Pilot<V>)) {
        for position in 0..self.flights.len() {
            if let Some((key, pilot)) = self.take(position) {
                land(key, pilot);
            }
        }
    }

    fn take(&self, position: usize) -> Option<(Key, Pilot<V>)> {
        self.flights[position].lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
