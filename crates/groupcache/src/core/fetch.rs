//! One fetch: a key's value from its owner, from the next in line if that is down, or from a load
//! here if neither can be asked.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    answer::Source,
    cache::entry::{Found, Freshness},
    cache::expiry::Expiry,
    catch_panic::caught,
    clock::millis,
    core::carriers::{Place, Workplace},
    core::fetch_limit::{FetchPermit, MemberId},
    core::get_context::GetContext,
    core::join::{Started, join_or_lead},
    core::load::load,
    core::publish::{Fetched, Publisher, weight_of_not_found},
    core::state::GroupState,
    error::{BoxError, Error, ErrorKind},
    key::Key,
    loader::scope::LoadScope,
    members::remote::Remote,
    members::view::{Owner, View},
    peer::{PeerError, PeerReply, PeerRequest, Reply, Terms, reply_meta::ReplyMeta},
    settings::OverloadPolicy,
    store::flight::FlightKey,
    value::Value,
};

/// The most keys of one request.
const MAX_KEYS_PER_REQUEST: usize = 1_024;

/// A member to fetch from, and what all fetches of one call have in common.
#[derive(Clone, Copy)]
pub(crate) struct FetchFrom<'a> {
    /// The keys' owner, or who stands in for it.
    pub(crate) remote: &'a Arc<Remote>,
    /// The list that names it.
    pub(crate) view: &'a Arc<View>,
    pub(crate) context: GetContext,
    /// Its runtime carries the request, and the load if the owner fails: the reply may come from a
    /// thread that knows no runtime.
    pub(crate) place: &'a Place,
}

/// Joins the fetch of `key`, or starts it. It needs no task: the transport calls back.
pub(crate) fn fetch<V: Value>(state: &Arc<GroupState<V>>, key: Key, from: FetchFrom<'_>) -> Started<V> {
    join_or_lead(state, FlightKey::fetch(key), from.context, from.place, |publisher| {
        if let Some(fetch) = Fetch::begin(publisher, from) {
            let (request, reply) = fetch.into_request();
            let _entered = from.place.runtime().enter();
            from.remote.peer.get(request, reply);
        }
    })
}

/// Joins or starts the fetches of many keys, in one request.
pub(crate) fn fetch_many<V: Value>(state: &Arc<GroupState<V>>, keys: Vec<Key>, from: FetchFrom<'_>) -> Vec<Started<V>> {
    let mut requests = Vec::new();
    let mut started = Vec::with_capacity(keys.len());
    for key in keys {
        started.push(join_or_lead(state, FlightKey::fetch(key), from.context, from.place, |publisher| {
            requests.extend(Fetch::begin(publisher, from).map(Fetch::into_request));
        }));
    }
    let _entered = from.place.runtime().enter();
    while !requests.is_empty() {
        let rest = requests.split_off(requests.len().min(MAX_KEYS_PER_REQUEST));
        from.remote.peer.get_many(std::mem::replace(&mut requests, rest));
    }
    started
}

/// The number of a member: its place in memory, where it stays while any request of it is in
/// progress.
fn id_of(remote: &Arc<Remote>) -> MemberId {
    Arc::as_ptr(remote).addr()
}

/// A fetch in progress, which the transport's reply brings to its end.
struct Fetch<V> {
    publisher: Publisher<V>,
    /// Given back as soon as the owner's answer is there, or its failure. A load that begins then
    /// is bounded as all loads are.
    permit: Option<FetchPermit>,
    scope: LoadScope,
    /// The member that is asked.
    remote: Arc<Remote>,
    began: Instant,
    view: Arc<View>,
    /// Whether another member was asked before.
    is_second: bool,
    context: GetContext,
    workplace: Arc<Workplace>,
}

impl<V: Value> Fetch<V> {
    /// Begins a fetch; `None` if the flight is ended without asking the owner.
    fn begin(publisher: Publisher<V>, from: FetchFrom<'_>) -> Option<Self> {
        let FetchFrom { remote, view, context, place } = from;
        let fetch = Fetch {
            publisher,
            permit: None,
            scope: LoadScope::current(),
            remote: remote.clone(),
            began: Instant::now(),
            view: view.clone(),
            is_second: false,
            context,
            workplace: place.workplace.clone(),
        };
        fetch.state().second_asks.fetched();
        fetch.permitted()
    }

    /// Takes a permit to ask the member; `None` if the flight is ended without asking it.
    fn permitted(mut self) -> Option<Self> {
        self.permit = self.workplace.fetches.acquire(id_of(&self.remote));
        let fetch = self;
        if fetch.permit.is_none() {
            fetch.end_overloaded(Error::new(ErrorKind::Overloaded));
            return None;
        }
        fetch.state().counters.loads_deduped.count();
        // A removal may reach this node and miss the member, which then has the value from before.
        // This node notes the miss and then detaches the key's flights. A get does it the other way
        // round: it joins the flight, as has been done by now, and then looks for the note.
        //   - The note came before this look: it is found, and the member is not asked.
        //   - It comes after this look: so does the detaching, which has the waiters of this flight
        //     start again.
        if fetch.has_missed() {
            fetch.load_instead_of_asking();
            return None;
        }
        Some(fetch)
    }

    /// Whether the member has missed an update of the key.
    fn has_missed(&self) -> bool {
        let (group, key) = (&self.state().name, self.publisher.key().as_bytes());
        // The simulated cluster must find this out.
        if cfg!(peercache_mutant = "stand_in_that_missed") && self.view.owner_name(key) != self.remote.name {
            return false;
        }
        self.remote.has_undelivered(group, key, self.workplace.runtime())
    }

    fn state(&self) -> &Arc<GroupState<V>> {
        self.publisher.state()
    }

    fn into_request(self) -> (PeerRequest, Reply) {
        let limits = &self.state().settings.limits;
        let request = PeerRequest {
            group: self.state().name.clone(),
            key: self.publisher.key().clone(),
            load_timeout: limits.load_timeout,
            max_value_bytes: limits.max_value_bytes,
            terms: Terms {
                timeout: self.context.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())),
                fresh: self.context.freshness != Freshness::AllowStale,
                chain: self.scope.chain(),
            },
        };
        (request, Reply::new(move |answer| self.end(answer)))
    }

    /// Ends the fetch as the owner's answer says, or loads here if there is none.
    fn end(mut self, answer: Result<PeerReply, PeerError>) {
        self.permit = None;
        self.remote.note_exchange(&answer, self.began, Some(self.workplace.runtime()));
        let counters = &self.state().counters;
        match answer.and_then(|reply| self.decode(reply)) {
            Ok(fetched) => {
                counters.peer_loads.count();
                self.log_return();
                self.publisher.publish_fetched(fetched);
            }
            Err(PeerError::Answered(error)) if error.kind() == ErrorKind::Overloaded => self.end_overloaded(error),
            Err(PeerError::Answered(error)) => {
                counters.peer_load_errors.count();
                self.end_with_owners_error(error);
            }
            Err(PeerError::Failed(cause)) => {
                counters.peer_errors.count();
                self.log_failure(&cause);
                let context = self.context;
                self.load_here(context);
            }
            Err(PeerError::Unreachable(cause) | PeerError::Silent(cause)) => {
                counters.peer_errors.count();
                self.log_failure(&cause);
                self.ask_next_in_line();
            }
            Err(PeerError::NotCarried) => {
                counters.keys_not_carried.count();
                let context = self.context;
                self.load_here(context);
            }
        }
    }

    /// The owner's error is the answer, but for a deadline that has passed there.
    fn end_with_owners_error(self, error: Error) {
        let Fetch { publisher, context, .. } = self;
        match error.kind() {
            // The caller who started this is gone. Others who still want the key ask again, with
            // their own deadlines.
            ErrorKind::DeadlineExceeded if context.is_over_at_peer() => publisher.abandon(),
            // The peer says so too early, which is counted as a retry: it is not believed for ever.
            ErrorKind::DeadlineExceeded if context.deadline.is_some() => publisher.retry(),
            ErrorKind::NotFound => publisher.publish_not_found(error),
            _ => publisher.fail(error),
        }
    }

    /// Ends the fetch because the owner, or the way to it, has too much to do: with a load here if
    /// the group allows it and a permit is free, else with this error.
    fn end_overloaded(self, error: Error) {
        let state = self.state();
        state.counters.overloaded_peers.count();
        match state.settings.overload {
            OverloadPolicy::Answer => {
                state.counters.overloads.count();
                self.publisher.fail(error);
            }
            OverloadPolicy::LoadHere => {
                let context = self.context.without_queue();
                self.load_here(context);
            }
        }
    }

    /// Asks the next in line, since this member is down: once, and only while few fetches fail. A
    /// member that is down for all who wait for it must not double what the others are asked.
    fn ask_next_in_line(mut self) {
        let (view, key, runtime) = (self.view.clone(), self.publisher.key().clone(), self.workplace.runtime().clone());
        let has_missed = |remote: &Arc<Remote>| remote.has_undelivered(&self.state().name, key.as_bytes(), &runtime);
        let asked = view.remote_position(key.as_bytes()).filter(|_| !self.is_second && !self.context.is_over());
        let next = asked.and_then(|owner| view.stand_in(key.as_bytes(), owner, has_missed));
        match view.at(next) {
            Owner::Remote(next) if self.state().second_asks.may_ask() => {
                (self.remote, self.began, self.is_second) = (next.clone(), Instant::now(), true);
                let Some(fetch) = self.permitted() else { return };
                let (request, reply) = fetch.into_request();
                let _entered = runtime.enter();
                next.peer.get(request, reply);
            }
            _ => {
                let context = self.context;
                self.load_here(context);
            }
        }
    }

    /// Loads here because the member has missed an update, and may have what was removed.
    fn load_instead_of_asking(self) {
        self.state().counters.peer_errors.count();
        let member = &self.remote.name;
        self.log_failure(&format!("{member} has missed a change and is not asked before it knows").into());
        let context = self.context;
        self.load_here(context);
    }

    /// Loads the owner's key here: one more call of the origin rather than an error.
    fn load_here(self, context: GetContext) {
        let Fetch { publisher, scope, workplace, .. } = self;
        let place = Place::within(workplace);
        // The fetch stays in flight until the load ends, so that all who wait for it get what is
        // loaded. It has given its permit back: it waits for a load, and for no peer any more.
        place.runtime().clone().spawn(scope.run(async move {
            let result = load(publisher.state(), publisher.key().clone(), context, &place).result().await;
            publisher.pass_on(result);
        }));
    }

    /// Logs that the owner failed, with a warning once a second at most: a dead peer fails every
    /// fetch.
    fn log_failure(&self, cause: &BoxError) {
        let (state, member) = (self.state(), &self.remote.name);
        let (group, key) = (&state.name, state.logged(self.publisher.key()));
        if self.remote.failures.failed(state.clock.coarse_ms()) {
            tracing::warn!(%member, %group, %key, %cause, "a peer failed");
        } else {
            tracing::debug!(%member, %group, %key, %cause, "a peer failed");
        }
    }

    /// Logs that the owner, which had failed, answers again.
    fn log_return(&self) {
        if self.remote.failures.answered() {
            tracing::info!(member = self.remote.name, "a peer that had failed answers again");
        }
    }

    fn decode(&self, reply: PeerReply) -> Result<Fetched<V>, PeerError> {
        let (state, key) = (self.state(), self.publisher.key());
        let PeerReply { value, meta: ReplyMeta { age, remaining, stale, ring, minute_qps } } = reply;
        let now_ms = state.clock.exact_ms();
        let expiry_policy = &state.settings.expiry_policy;
        let expiry = match value {
            Some(_) => expiry_policy.of_fetched(remaining, age, now_ms).filter(|_| !stale),
            None => Expiry::of_fetched_not_found(remaining, now_ms),
        };
        let (value, weight) = match value {
            None => (None, weight_of_not_found::<V>(key)),
            Some(bytes) => {
                let value = caught("the decoder", || V::decode(bytes)).map_err(PeerError::failed)?;
                let value = value.map_err(PeerError::Failed)?;
                let weight = state.weigh(key, &value).map_err(PeerError::Answered)?;
                (Some(value), weight)
            }
        };
        let agreed = ring.is_none_or(|ring| ring == self.view.digest());
        let source = if stale { Source::Stale } else { Source::Peer };
        let remaining_ms = if stale { Some(0) } else { remaining.map(millis) };
        let found = Found { value, source, age_ms: millis(age), remaining_ms, qps: minute_qps };
        Ok(Fetched { found, expiry: expiry.filter(|_| agreed), weight, now_ms, digest: self.view.digest() })
    }
}
