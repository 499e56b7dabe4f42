//! A group as peers see it: what is cached or loaded here, and never a fetch.

use std::sync::Arc;

use crate::{
    core::Core,
    core::awaited_loads::AwaitedLoads,
    core::get_context::GetContext,
    core::join::Started,
    core::reply::{encode, find_or_load, peek},
    core::state::GroupState,
    error::Error,
    key::Key,
    peer::Terms,
    peer::served_group::{HoldLimit, Served, ServedGroup},
    peer::update::{Ack, PeerUpdate},
    store::flight::FlightResult,
    value::Value,
};

impl<V: Value> ServedGroup for GroupState<V> {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn max_value_bytes(&self) -> usize {
        self.settings.limits.max_value_bytes
    }

    fn answer(self: Arc<Self>, key: &[u8], terms: Terms) -> Served {
        self.counters.server_requests.count();
        // No tick comes while a process is stopped, and a peer would keep what has expired since.
        self.clock.advance();
        let (core, context) = (Core::new(self), GetContext::for_peer(terms));
        if let Some(found) = core.look_up(key, context.requester, context.freshness, |seen| seen.served()) {
            return Served::Ready(encode(&core.state, Ok(found)));
        }
        let started = core.start(key, context);
        serve(core, Key::copy_from(key), context, started)
    }

    fn answer_many(self: Arc<Self>, keys: Vec<Key>, terms: Terms, limit: Arc<dyn HoldLimit>) -> Vec<Served> {
        self.clock.advance();
        let (core, context) = (Core::new(self), GetContext::for_peer(terms));
        let mut served = Vec::with_capacity(keys.len());
        let mut missing = Vec::new();
        for key in keys {
            core.state.counters.server_requests.count();
            match serve_cached(&core, &key, context, &*limit) {
                Some(cached) => served.push(Some(cached)),
                None => {
                    missing.push((served.len(), key));
                    served.push(None);
                }
            }
        }
        let mut awaited = AwaitedLoads::new(core.clone(), context, limit);
        for (position, key, started) in core.start_many(missing, context) {
            served[position] = Some(match started {
                Started::Done(result) => serve(core.clone(), key, context, Started::Done(result)),
                waiting @ Started::Waiting(_) => awaited.add(key, waiting),
            });
        }
        awaited.watch();
        served.into_iter().map(|served| served.expect("every key was found or has been started")).collect()
    }

    fn update(self: Arc<Self>, update: PeerUpdate) -> Result<Ack, Error> {
        let place = self.place()?;
        self.clock.start(place.runtime());
        self.apply(update, place.runtime())
    }
}

/// A value of this many bytes is cloned to see whether it may be held. Longer ones are looked up a
/// second time if they may: clones of a thousand strings would be as much as the cache.
const SMALL_BYTES: usize = 2 * 1024;

/// Answers with a cached value, if there is one: now, or when the transport has room for it.
fn serve_cached<V: Value>(core: &Core<V>, key: &Key, context: GetContext, limit: &dyn HoldLimit) -> Option<Served> {
    let (weight, small) = core.look_up(key.as_bytes(), context.requester, context.freshness, |seen| {
        let weight = seen.weight();
        (weight, (weight <= SMALL_BYTES).then(|| seen.served()))
    })?;
    let found = if limit.admits(weight) { small.or_else(|| peek(core, key, context)) } else { None };
    Some(match found {
        Some(found) => Served::Ready(encode(&core.state, Ok(found))),
        None => serve_later(core.clone(), key, context),
    })
}

/// Answers with what is cached when it can be sent, or loads it again. The key is copied: it may be
/// a part of a request, which is not kept alive until then.
fn serve_later<V: Value>(core: Core<V>, key: &Key, context: GetContext) -> Served {
    let key = Key::copy_from(key.as_bytes());
    Served::Loading(Box::pin(async move {
        let outcome = find_or_load(&core, &key, context).await;
        encode(&core.state, outcome)
    }))
}

/// Answers with the result of a load.
fn serve<V: Value>(core: Core<V>, key: Key, context: GetContext, started: Started<V>) -> Served {
    match started {
        Started::Done(FlightResult::Done(outcome)) => {
            let outcome = core.or_stale(key.as_bytes(), context.requester, outcome);
            Served::Ready(encode(&core.state, outcome))
        }
        waiting => Served::Loading(Box::pin(async move {
            let outcome = core.wait(&key, context, waiting).await;
            encode(&core.state, outcome)
        })),
    }
}
