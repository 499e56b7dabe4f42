//! A value from the member that owns the key, and from here if that member cannot be asked.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::{
    Answer, Key, Peer, PeerError, PeerReply, PeerRequest, Reply, Source, Value,
    cache::{Entry, Place, Reader},
    core::{Boarding, Core, Departure},
    flight::{FlightKey, Outcome, Pilot, landed},
    panic::caught,
    permit::Permit,
};

/// A fetch under way, which the transport's reply brings to its end.
struct Fetch<V> {
    core: Arc<Core<V>>,
    key: Key,
    pilot: Pilot<V>,
    permit: Permit,
    /// Of the ring that named the peer.
    digest: u64,
    /// Where to load if the peer fails: the reply may come from a thread that knows no runtime.
    runtime: Handle,
}

impl<V: Value> Core<V> {
    /// Joins the fetch of `key` or starts it. No task: the transport calls back.
    pub(crate) fn fetch(
        self: &Arc<Self>,
        key: Key,
        peer: &Arc<dyn Peer>,
        digest: u64,
        runtime: &Handle,
    ) -> Departure<V> {
        let (pilot, permit) = match self.board(FlightKey::fetch(key.clone()), Reader::Caller) {
            Boarding::Lead(pilot, permit) => (pilot, permit),
            Boarding::Done(departure) => return departure,
        };
        let passenger = pilot.waiter();
        let request = PeerRequest {
            group: self.name.clone(),
            key: key.clone(),
            load_timeout: self.settings.load_timeout,
            value_bytes_max: self.settings.value_bytes_max,
        };
        let fetch = Fetch { core: self.clone(), key, pilot, permit, digest, runtime: runtime.clone() };
        peer.get(request, Reply::new(move |answer| fetch.land(answer)));
        Departure::Waiting(passenger)
    }
}

impl<V: Value> Fetch<V> {
    fn land(self, answer: Result<PeerReply, PeerError>) {
        let counters = &self.core.counters;
        match answer.and_then(|reply| self.decode(reply)) {
            Ok((value, weight)) => {
                counters.peer_loads.count();
                self.publish(value, weight);
            }
            Err(PeerError::Answered(error)) => {
                counters.peer_loads.count();
                self.pilot.finish(Err(error));
            }
            Err(PeerError::Failed(cause)) => {
                counters.peer_errors.count();
                tracing::warn!(group = %self.core.name, key = %self.key, %cause, "peer failed, loading here");
                self.fall_back();
            }
            Err(PeerError::KeyNotCarried) => {
                counters.keys_not_carried.count();
                self.fall_back();
            }
        }
    }

    fn decode(&self, reply: PeerReply) -> Result<(V, usize), PeerError> {
        let value = caught("the decoder", || V::decode(reply.value)).map_err(PeerError::failed)?;
        let value = value.map_err(PeerError::Failed)?;
        let weight = self.core.weigh(&self.key, &value).map_err(PeerError::Answered)?;
        Ok((value, weight))
    }

    fn publish(self, value: V, weight: usize) {
        let Fetch { core, key, pilot, digest, .. } = self;
        let mirrored = !core.settings.hot_ttl.is_zero() && core.settings.hot_admission.admit(&key, weight);
        if !mirrored || !core.cache.fits(weight) {
            return pilot.finish(Ok(Answer { value, source: Source::Peer }));
        }
        let value = value.detach();
        let entry = Entry { value: value.clone(), loaded: false, expires_ms: 0 };
        let place = || core.place_of_fetched(digest);
        let answer = Answer { value, source: Source::Peer };
        drop(pilot.publish(Ok(answer), |_| core.cache.insert(key, weight, entry, place)));
    }

    /// The owner could not be asked, so its key is loaded here: one more origin call rather than an error.
    fn fall_back(self) {
        let Fetch { core, key, pilot, permit, runtime, .. } = self;
        runtime.clone().spawn(async move {
            // Our place among the fetches is held to the end, so that all who wait for it get what is loaded.
            let outcome = core.load(key, Reader::Caller, &runtime).outcome().await;
            pilot.finish(outcome);
            drop(permit);
        });
    }
}

impl<V: Value> Core<V> {
    /// Hot, unless the ring has changed since the fetch began: its answer may come from a member that is not told of
    /// later changes.
    fn place_of_fetched(&self, digest: u64) -> Option<(Place, u64)> {
        let unchanged = self.members.view().digest() == digest;
        unchanged.then(|| (Place::Hot, self.clock.deadline_ms(self.settings.hot_ttl)))
    }
}

impl<V: Value> Departure<V> {
    /// What it came to.
    pub(crate) async fn outcome(self) -> Outcome<V> {
        match self {
            Departure::Landed(outcome) => outcome,
            Departure::Waiting(passenger) => landed(passenger.await),
        }
    }
}
