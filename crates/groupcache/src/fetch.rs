//! A value from the member that owns the key, and from here if that member cannot be asked.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::{
    Answer, BoxError, Key, Peer, PeerError, PeerReply, PeerRequest, Reply, Source, Value,
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
        let (pilot, permit) = match self.board(FlightKey::fetch(key.clone()), Reader::Caller, None) {
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
                counters.peer_load_errors.count();
                drop(self.permit);
                self.pilot.finish(Err(error));
            }
            Err(PeerError::Failed(cause)) => {
                counters.peer_errors.count();
                self.tell_of_failure(&cause);
                self.fall_back();
            }
            Err(PeerError::KeyNotCarried) => {
                counters.keys_not_carried.count();
                self.fall_back();
            }
        }
    }

    /// A dead peer fails every fetch: one line a second says so, the rest is for those who look closer.
    fn tell_of_failure(&self, cause: &BoxError) {
        let (group, key) = (&self.core.name, &self.key);
        match self.core.peer_warnings.due(self.core.clock.coarse_ms()) {
            true => tracing::warn!(%group, %key, %cause, "a peer failed, loading here"),
            false => tracing::debug!(%group, %key, %cause, "a peer failed, loading here"),
        }
    }

    fn decode(&self, reply: PeerReply) -> Result<(V, usize), PeerError> {
        let value = caught("the decoder", || V::decode(reply.value)).map_err(PeerError::failed)?;
        let value = value.map_err(PeerError::Failed)?;
        let weight = self.core.weigh(&self.key, &value).map_err(PeerError::Answered)?;
        Ok((value, weight))
    }

    fn publish(self, value: V, weight: usize) {
        let Fetch { core, key, pilot, digest, permit, .. } = self;
        drop(permit);
        let mirrored = !core.settings.hot_ttl.is_zero() && core.settings.hot_admission.admit(&key, weight);
        if !mirrored || !core.cache.fits(weight) {
            return pilot.finish(Ok(Answer { value, source: Source::Peer }));
        }
        let value = value.detach();
        let entry = Entry { value: value.clone(), loaded: false, expires_ms: 0 };
        let now_ms = core.clock.coarse_ms();
        let place = || core.place_of_fetched(digest);
        let answer = Answer { value, source: Source::Peer };
        drop(pilot.publish(Ok(answer), |_| core.cache.insert(key, weight, entry, now_ms, place)));
    }

    /// The owner could not be asked, so its key is loaded here: one more origin call rather than an error.
    fn fall_back(self) {
        let Fetch { core, key, pilot, permit, runtime, .. } = self;
        runtime.clone().spawn(async move {
            // The fetch is held to the end, so that all who wait for it get what is loaded. Its permit is the load's now:
            // a second one might not be had, and a dead peer would be an error.
            let outcome = core.load(key, Reader::Caller, &runtime, Some(permit)).outcome().await;
            pilot.finish(outcome);
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
