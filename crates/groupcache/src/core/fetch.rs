//! A value from the member that owns the key, and from here if that member cannot be asked.

use std::sync::Arc;

use tokio::{runtime::Handle, time::Instant};

use crate::{
    answer::Source,
    cache::entry::{Entry, Found, Freshness, Origin, Place},
    cache::expiry::Expiry,
    cache::stored::Stored,
    core::catch_panic::caught,
    core::permit::FetchPermit,
    core::{Core, GetContext, Started},
    error::{BoxError, Error, ErrorKind},
    hot::HotCandidate,
    key::Key,
    members::Remote,
    peer::{PeerError, PeerReply, PeerRequest, Reply, Terms, reply_meta::ReplyMeta},
    store::Write,
    store::flight::{FlightKey, FlightResult, Leader},
    value::Value,
};

/// A fetch under way, which the transport's reply brings to its end.
struct Fetch<V> {
    core: Arc<Core<V>>,
    key: Key,
    leader: Leader<V>,
    permit: FetchPermit,
    /// Of the ring that named the peer.
    digest: u64,
    context: GetContext,
    /// Where to load if the peer fails: the reply may come from a thread that knows no runtime.
    runtime: Handle,
}

/// The most keys that a peer is asked for in one go.
const KEYS_AT_ONCE_MAX: usize = 1_024;

impl<V: Value> Core<V> {
    /// Joins the fetch of `key` or starts it. No task: the transport calls back.
    pub(crate) fn fetch(
        self: &Arc<Self>,
        key: Key,
        remote: &Arc<Remote>,
        digest: u64,
        context: GetContext,
        runtime: &Handle,
    ) -> Started<V> {
        let (departure, fetch) = self.join_fetch(key, digest, context, runtime);
        if let Some(fetch) = fetch {
            if remote.has_undelivered(&self.name, fetch.key.as_bytes(), runtime) {
                fetch.load_here(remote)
            } else {
                let request = fetch.request();
                remote.peer.get(request, Reply::new(move |answer| fetch.land(answer)));
            }
        }
        departure
    }

    /// As [`fetch`](Core::fetch), for many keys of one owner in one go.
    pub(crate) fn fetch_many(
        self: &Arc<Self>,
        keys: Vec<Key>,
        remote: &Arc<Remote>,
        digest: u64,
        context: GetContext,
        runtime: &Handle,
    ) -> Vec<Started<V>> {
        let mut retries = Vec::with_capacity(keys.len());
        let mut requests = Vec::new();
        for key in keys {
            let (departure, fetch) = self.join_fetch(key, digest, context, runtime);
            retries.push(departure);
            match fetch {
                None => {}
                // Asked after boarding: a change that comes between is then known, or has detached the fetch.
                Some(fetch) if remote.has_undelivered(&self.name, fetch.key.as_bytes(), runtime) => {
                    fetch.load_here(remote);
                }
                Some(fetch) => requests.push((fetch.request(), Reply::new(move |answer| fetch.land(answer)))),
            }
        }
        while !requests.is_empty() {
            let rest = requests.split_off(requests.len().min(KEYS_AT_ONCE_MAX));
            remote.peer.get_many(std::mem::replace(&mut requests, rest));
        }
        retries
    }

    fn join_fetch(
        self: &Arc<Self>,
        key: Key,
        digest: u64,
        context: GetContext,
        runtime: &Handle,
    ) -> (Started<V>, Option<Fetch<V>>) {
        let leader = match self.join(FlightKey::fetch(key.clone()), context) {
            Ok(leader) => leader,
            Err(departure) => return (departure, None),
        };
        let waiter = leader.waiter();
        let Some(permit) = self.fetch_permits.acquire() else {
            self.store.fail(leader, &key, self.overloaded(), false, self.clock.coarse_ms());
            return (Started::Waiting(waiter), None);
        };
        self.counters.loads_deduped.count();
        let fetch = Fetch { core: self.clone(), key, leader, permit, digest, context, runtime: runtime.clone() };
        (Started::Waiting(waiter), Some(fetch))
    }
}

impl<V: Value> Fetch<V> {
    fn request(&self) -> PeerRequest {
        let settings = &self.core.settings;
        PeerRequest {
            group: self.core.name.clone(),
            key: self.key.clone(),
            load_timeout: settings.limits.load_timeout,
            max_value_bytes: settings.limits.max_value_bytes,
            terms: Terms {
                timeout: self.context.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())),
                fresh: self.context.freshness != Freshness::AllowStale,
            },
        }
    }

    fn land(self, answer: Result<PeerReply, PeerError>) {
        let counters = &self.core.counters;
        match answer.and_then(|reply| self.decode(reply)) {
            Ok(fetched) => {
                counters.peer_loads.count();
                self.publish(fetched);
            }
            Err(PeerError::Answered(error)) => {
                counters.peer_load_errors.count();
                self.refused(error);
            }
            Err(PeerError::Failed(cause)) => {
                counters.peer_errors.count();
                self.tell_of_failure(&cause);
                self.fall_back();
            }
            Err(PeerError::NotCarried) => {
                counters.keys_not_carried.count();
                self.fall_back();
            }
        }
    }

    /// Loads here, because the peer has not heard of a change yet that we know of.
    fn load_here(self, remote: &Remote) {
        self.core.counters.peer_errors.count();
        self.tell_of_failure(&format!("{} has missed a change and is not asked before it knows", remote.name).into());
        self.fall_back();
    }

    /// The owner's word is final.
    fn refused(self, error: Error) {
        let Fetch { core, key, leader, permit, context, .. } = self;
        drop(permit);
        match error.kind() {
            // The caller who started this is gone. Those who still want the key ask anew, with the time that they have. A peer that
            // says so too early is not believed for ever.
            ErrorKind::DeadlineExceeded if context.is_as_good_as_over() => leader.finish(FlightResult::Abandoned),
            ErrorKind::DeadlineExceeded if context.deadline.is_some() => leader.finish(FlightResult::Retry),
            ErrorKind::NotFound => core.store.publish(leader, key, Err(error), Write::Nothing, || None),
            _ => core.store.fail(leader, &key, error, false, core.clock.coarse_ms()),
        }
    }

    /// A dead peer fails every fetch: one line a second says so, the rest is for those who look closer.
    fn tell_of_failure(&self, cause: &BoxError) {
        let (group, key) = (&self.core.name, &self.key);
        if self.core.peer_warnings.due(self.core.clock.coarse_ms()) {
            tracing::warn!(%group, %key, %cause, "a peer failed, loading here")
        } else {
            tracing::debug!(%group, %key, %cause, "a peer failed, loading here")
        }
    }

    fn decode(&self, reply: PeerReply) -> Result<Fetched<V>, PeerError> {
        let PeerReply { value, meta: ReplyMeta { age, remaining, stale, ring, minute_qps } } = reply;
        let now_ms = self.core.clock.exact_ms();
        let expiry_policy = &self.core.settings.expiry_policy;
        let expiry = match value {
            Some(_) => expiry_policy.of_fetched(remaining, age, now_ms).filter(|_| !stale),
            None => expiry_policy.of_fetched_nothing(remaining, now_ms),
        };
        let (value, weight) = match value {
            None => (None, self.core.weight_of_not_found(&self.key)),
            Some(bytes) => {
                let value = caught("the decoder", || V::decode(bytes)).map_err(PeerError::failed)?;
                let value = value.map_err(PeerError::Failed)?;
                let weight = self.core.weigh(&self.key, &value).map_err(PeerError::Answered)?;
                (Some(value), weight)
            }
        };
        let agreed = ring.is_none_or(|ring| ring == self.digest);
        let source = if stale { Source::Stale } else { Source::Peer };
        let remaining_ms = if stale { Some(0) } else { remaining.map(millis) };
        let found = Found { value, source, age_ms: millis(age), remaining_ms, qps: minute_qps };
        Ok(Fetched { found, expiry: expiry.filter(|_| agreed), weight, now_ms })
    }

    fn publish(self, fetched: Fetched<V>) {
        let Fetch { core, key, leader, digest, permit, .. } = self;
        let Fetched { mut found, expiry, weight, now_ms } = fetched;
        drop(permit);
        let expiry = expiry.and_then(|expiry| {
            expiry.ending_within(core.settings.hot_ttl, now_ms, core.settings.expiry_policy.refresh_ahead)
        });
        // A copy that is there already was worth it once.
        let mirrored = expiry.filter(|_| {
            let copy = HotCandidate { key: &key, weight, minute_qps: found.qps };
            let admitted = caught("the hot admission", || core.settings.hot_admission.admit(&copy)).unwrap_or(false);
            (admitted || core.store.holds(key.as_bytes())) && core.store.admits(weight)
        });
        let Some(expiry) = mirrored else {
            let write = if found.source == Source::Stale { Write::Keep } else { Write::Nothing };
            return core.store.publish(leader, key, Ok(found), write, || None);
        };
        let stored = caught("the value", || Stored::new(key.as_bytes(), found.value.clone()));
        let Ok(stored) = stored else { return core.store.publish(leader, key, Ok(found), Write::Nothing, || None) };
        found.value = None;
        let mut entry = Entry { stored, origin: Origin::Fetched, expiry, in_demand: false };
        entry.in_demand = found.qps.is_some_and(|qps| qps >= core.members.view().names().len() as f64);
        found.value = entry.stored.value();
        let place = || core.place_of_fetched(digest, expiry);
        core.store.publish(leader, key, Ok(found), Write::Entry(weight, entry), place);
    }

    /// The owner could not be asked, so its key is loaded here: one more origin call rather than an error.
    fn fall_back(self) {
        let Fetch { core, key, leader, permit, context, runtime, .. } = self;
        runtime.clone().spawn(async move {
            // The fetch is held to the end, so that all who wait for it get what is loaded, and so is its permit: what waits for a
            // load is a fetch still.
            let result = core.load(key, context, &runtime).result().await;
            drop(permit);
            leader.finish_with(|still_mapped| if still_mapped { result } else { FlightResult::Retry });
        });
    }
}

/// What came, read.
struct Fetched<V> {
    found: Found<V>,
    /// `None` if it is not to be cached.
    expiry: Option<Expiry>,
    weight: usize,
    now_ms: u64,
}

impl<V: Value> Core<V> {
    /// Hot, unless the ring has changed since the fetch began: its answer may come from a member that is not told of
    /// later changes.
    fn place_of_fetched(&self, digest: u64, expiry: Expiry) -> Option<(Place, Expiry)> {
        let unchanged = self.members.view().digest() == digest;
        unchanged.then_some((Place::Hot, expiry))
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
