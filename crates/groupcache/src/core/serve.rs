//! A group as peers see it.

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Handle, time::Instant};

use crate::{
    answer::Source,
    cache::entry::{Found, Freshness, Requester},
    core::catch_panic::caught,
    core::{Core, GetContext, Started},
    error::{Error, ErrorKind},
    key::Key,
    peer::served_group::{Served, ServedGroup},
    peer::update::{Ack, PeerUpdate},
    peer::{PeerReply, Terms, reply_meta::ReplyMeta},
    store::flight::{FlightResult, Outcome},
    value::Value,
};

impl<V: Value> ServedGroup for Core<V> {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn answer(self: Arc<Self>, key: &[u8], terms: Terms) -> Served {
        self.counters.server_requests.count();
        let context = GetContext::of_peer(terms);
        if let Some(found) = self.look_up(key, context.requester, context.freshness, |seen| seen.served()) {
            return Served::Ready(self.encode(Ok(found)));
        }
        let departure = self.start(key, context);
        self.serve(Key::copy_from(key), context, departure)
    }

    fn answer_many(self: Arc<Self>, keys: Vec<Key>, terms: Terms, hold: &mut dyn FnMut(usize) -> bool) -> Vec<Served> {
        let context = GetContext::of_peer(terms);
        let mut served = Vec::with_capacity(keys.len());
        let mut missing = Vec::new();
        for key in keys {
            self.counters.server_requests.count();
            match self.look_up(key.as_bytes(), context.requester, context.freshness, |seen| seen.served()) {
                Some(found) => {
                    let is_held = hold(found.value.as_ref().map_or(0, V::weight));
                    served.push(Some(self.clone().serve_found(found, is_held)));
                }
                None => {
                    missing.push((served.len(), key));
                    served.push(None);
                }
            }
        }
        for (position, key, departure) in self.depart_many_for_peer(missing, context) {
            served[position] = Some(self.clone().serve(key, context, departure));
        }
        served.into_iter().map(|served| served.expect("every key was found or has departed")).collect()
    }

    fn update(self: Arc<Self>, update: PeerUpdate) -> Result<Ack, Error> {
        let runtime = Handle::try_current().map_err(|_| Error::new(ErrorKind::NoRuntime))?;
        self.clock.start(&runtime);
        self.make(update, &runtime)
    }
}

impl GetContext {
    fn of_peer(terms: Terms) -> Self {
        GetContext {
            requester: Requester::Peer,
            freshness: if terms.fresh { Freshness::FreshOnly } else { Freshness::AllowStale },
            // A time beyond what a clock can say is none.
            deadline: terms.timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
        }
    }
}

impl<V: Value> Core<V> {
    fn serve_found(self: Arc<Self>, found: Found<V>, is_held: bool) -> Served {
        if is_held {
            Served::Ready(self.encode(Ok(found)))
        } else {
            Served::Loading(Box::pin(async move { self.encode(Ok(found)) }))
        }
    }

    fn serve(self: Arc<Self>, key: Key, context: GetContext, departure: Started<V>) -> Served {
        match departure {
            Started::Done(FlightResult::Done(outcome)) => {
                Served::Ready(self.encode(self.arrived(key.as_bytes(), context.requester, outcome)))
            }
            waiting => Served::Loading(Box::pin(async move {
                let outcome = self.clone().travel(key, context, waiting).await;
                self.encode(outcome)
            })),
        }
    }

    fn depart_many_for_peer(
        self: &Arc<Self>,
        keys: Vec<(usize, Key)>,
        context: GetContext,
    ) -> Vec<(usize, Key, Started<V>)> {
        let mut retries = Vec::with_capacity(keys.len());
        let mut ready = Vec::new();
        let mut runtime = None;
        for (position, key) in keys {
            match self.prepare(key.as_bytes()) {
                Ok((key, handle)) if !context.is_over() => {
                    runtime = Some(handle);
                    ready.push((position, key));
                }
                Ok((key, _)) => {
                    retries.push((position, key, Started::failed(Error::new(ErrorKind::DeadlineExceeded))));
                }
                Err(error) => retries.push((position, key, Started::failed(error))),
            }
        }
        if let Some(runtime) = runtime {
            let loads = self.load_many(ready.iter().map(|(_, key)| key.clone()).collect(), context, &runtime);
            retries.extend(ready.into_iter().zip(loads).map(|((position, key), load)| (position, key, load)));
        }
        retries
    }

    fn encode(&self, outcome: Outcome<V>) -> Result<PeerReply, Error> {
        let Found { value, source, age_ms, remaining_ms, qps } = outcome?;
        let encoded = value.map(|value| caught("the encoder", || value.encode())).transpose()?;
        let value = encoded.transpose().map_err(|cause| Error::with_source(ErrorKind::Codec, cause))?;
        let meta = ReplyMeta {
            age: Duration::from_millis(age_ms),
            remaining: remaining_ms.map(Duration::from_millis),
            stale: source == Source::Stale,
            ring: Some(self.members.view().digest()),
            minute_qps: qps,
        };
        Ok(PeerReply { value, meta })
    }
}
