//! A value from the origin: by this node's loader, in a task of its own.

use std::sync::Arc;

use tokio::{runtime::Handle, time::timeout};

use crate::{
    Answer, Error, ErrorKind, Key, Loaded, Source, Value,
    cache::{Entry, Place, Reader},
    core::{Boarding, Core, Departure},
    flight::{FlightKey, Pilot},
    panic::{caught, caught_loading},
    permit::Permit,
};

impl<V: Value> Core<V> {
    /// Joins the load of `key` or starts it, with the `permit` of a fetch that failed or with one of its own.
    pub(crate) fn load(
        self: &Arc<Self>,
        key: Key,
        reader: Reader,
        runtime: &Handle,
        permit: Option<Permit>,
    ) -> Departure<V> {
        let (pilot, permit) = match self.board(FlightKey::load(key.clone()), reader, permit) {
            Boarding::Lead(pilot, permit) => (pilot, permit),
            Boarding::Done(departure) => return departure,
        };
        let passenger = pilot.waiter();
        let core = self.clone();
        runtime.spawn(async move {
            let loaded = core.call_loader(key.clone()).await;
            // Before anybody is told: whoever asks for the next key at once finds the permit free.
            drop(permit);
            core.land_loaded(pilot, key, loaded);
        });
        Departure::Waiting(passenger)
    }

    async fn call_loader(&self, key: Key) -> Result<V, Error> {
        let loader = self.loader.clone();
        let load = caught("the loader", || loader.start(key))?;
        match timeout(self.settings.load_timeout, caught_loading(load)).await {
            Ok(Ok(Ok(Loaded { value }))) => Ok(value),
            Ok(Ok(Err(failed))) => Err(failed.into_error()),
            Ok(Err(panicked)) => Err(panicked),
            Err(_) => Err(Error::new(ErrorKind::LoadTimedOut)),
        }
    }

    fn land_loaded(&self, pilot: Pilot<V>, key: Key, loaded: Result<V, Error>) {
        let weighed = loaded.and_then(|value| {
            let weight = self.weigh(&key, &value)?;
            Ok((if self.cache.fits(weight) { value.detach() } else { value }, weight))
        });
        match weighed {
            Ok((value, weight)) => {
                self.counters.local_loads.count();
                let entry = Entry { value: value.clone(), loaded: true, expires_ms: 0 };
                let answer = Answer { value, source: Source::Origin };
                let now_ms = self.clock.coarse_ms();
                let place = || self.place_of_loaded(&key);
                let evicted =
                    pilot.publish(Ok(answer), |_| self.cache.insert(key.clone(), weight, entry, now_ms, place));
                drop(evicted);
            }
            Err(error) => {
                self.counters.local_load_errors.count();
                pilot.finish(Err(error));
            }
        }
    }

    /// Main if the key is ours. If not, a peer took us for the owner, or the owner could not be asked: then the value is
    /// kept only briefly, so that it does not outlive the disagreement.
    fn place_of_loaded(&self, key: &Key) -> Option<(Place, u64)> {
        if self.members.view().owns(key.as_bytes()) {
            return Some((Place::Main, 0));
        }
        let ttl = self.settings.fallback_ttl.min(self.settings.hot_ttl);
        (!ttl.is_zero()).then(|| (Place::Hot, self.clock.deadline_ms(ttl)))
    }

    /// What an entry of this value is charged, in bytes; an error if the value is too large for the group.
    pub(crate) fn weigh(&self, key: &Key, value: &V) -> Result<usize, Error> {
        let (bytes, weight) = caught("the weigher", || (value.weight(), (self.settings.weigher)(key, value)))?;
        if bytes > self.settings.value_bytes_max {
            return Err(Error::with_message(
                ErrorKind::ValueTooLarge,
                format!(
                    "the value of {bytes} bytes is larger than the {} that the group takes",
                    self.settings.value_bytes_max
                ),
            ));
        }
        Ok(weight.saturating_add(key.len()).saturating_add(Entry::<V>::overhead()))
    }
}
