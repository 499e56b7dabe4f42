//! A group as peers see it: what is cached or loaded here, and never a fetch.

use std::sync::Arc;

use crate::{
    answer::Source,
    cache::entry::Found,
    catch_panic::caught,
    core::Core,
    core::get_context::GetContext,
    core::join::Started,
    core::state::GroupState,
    error::{Error, ErrorKind},
    key::Key,
    peer::served_group::{Served, ServedGroup},
    peer::update::{Ack, PeerUpdate},
    peer::{PeerReply, Terms, reply_meta::ReplyMeta},
    store::flight::{FlightResult, Outcome},
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
        let (core, context) = (Core::new(self), GetContext::for_peer(terms));
        if let Some(found) = core.look_up(key, context.requester, context.freshness, |seen| seen.served()) {
            return Served::Ready(encode(&core.state, Ok(found)));
        }
        let started = core.start(key, context);
        serve(core, Key::copy_from(key), context, started)
    }

    fn answer_many(self: Arc<Self>, keys: Vec<Key>, terms: Terms, hold: &mut dyn FnMut(usize) -> bool) -> Vec<Served> {
        let (core, context) = (Core::new(self), GetContext::for_peer(terms));
        let mut served = Vec::with_capacity(keys.len());
        let mut missing = Vec::new();
        for key in keys {
            core.state.counters.server_requests.count();
            match core.look_up(key.as_bytes(), context.requester, context.freshness, |seen| seen.served()) {
                Some(found) => {
                    let is_held = hold(found.value.as_ref().map_or(0, V::weight));
                    served.push(Some(serve_found(core.clone(), found, is_held)));
                }
                None => {
                    missing.push((served.len(), key));
                    served.push(None);
                }
            }
        }
        for (position, key, started) in core.start_many(missing, context) {
            served[position] = Some(serve(core.clone(), key, context, started));
        }
        served.into_iter().map(|served| served.expect("every key was found or has been started")).collect()
    }

    fn update(self: Arc<Self>, update: PeerUpdate) -> Result<Ack, Error> {
        let place = self.place()?;
        self.clock.start(place.runtime());
        self.apply(update, place.runtime())
    }
}

/// Answers with a cached value: encoded now, or when the transport has room for it.
fn serve_found<V: Value>(core: Core<V>, found: Found<V>, is_held: bool) -> Served {
    if is_held {
        Served::Ready(encode(&core.state, Ok(found)))
    } else {
        Served::Loading(Box::pin(async move { encode(&core.state, Ok(found)) }))
    }
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

fn encode<V: Value>(state: &GroupState<V>, outcome: Outcome<V>) -> Result<PeerReply, Error> {
    let found = outcome?;
    let meta = ReplyMeta {
        age: found.age(),
        remaining: found.remaining(),
        stale: found.source == Source::Stale,
        ring: Some(state.members.view().digest()),
        minute_qps: found.qps,
    };
    let encoded = found.value.map(|value| caught("the encoder", || value.encode())).transpose()?;
    let value = encoded.transpose().map_err(|cause| Error::with_source(ErrorKind::Codec, cause))?;
    Ok(PeerReply { value, meta })
}
