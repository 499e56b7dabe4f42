//! One load: a key's value from the origin, by this node's loader, in a task of its own.

use std::sync::Arc;

use crate::{
    core::carriers::Place,
    core::get_context::GetContext,
    core::join::{Started, join_or_lead},
    core::load_batch::load_batch,
    core::load_limit::{AcquirePermit, NoPermit},
    core::publish::Publisher,
    core::state::GroupState,
    key::Key,
    loader::any::{self, AnyLoader, DynLoader},
    loader::scope::LoadScope,
    store::flight::FlightKey,
    value::Value,
};

/// Joins the load of `key`, or starts it.
pub(crate) fn load<V: Value>(state: &Arc<GroupState<V>>, key: Key, context: GetContext, place: &Place) -> Started<V> {
    match &state.loader {
        AnyLoader::Single(loader) => load_single(state, loader, key, context, place),
        AnyLoader::Batched(loader) => {
            let started = load_batch(state, loader, vec![key], context, place).pop();
            started.expect("each key of a batch is started")
        }
    }
}

/// Joins or starts the loads of many keys: in one call of the loader if it can take them.
pub(crate) fn load_many<V: Value>(
    state: &Arc<GroupState<V>>,
    keys: Vec<Key>,
    context: GetContext,
    place: &Place,
) -> Vec<Started<V>> {
    match &state.loader {
        AnyLoader::Single(loader) => {
            keys.into_iter().map(|key| load_single(state, loader, key, context, place)).collect()
        }
        AnyLoader::Batched(loader) => load_batch(state, loader, keys, context, place),
    }
}

fn load_single<V: Value>(
    state: &Arc<GroupState<V>>,
    loader: &Arc<dyn DynLoader<V>>,
    key: Key,
    context: GetContext,
    place: &Place,
) -> Started<V> {
    join_or_lead(state, FlightKey::load(key), context, place, |publisher| {
        match place.workplace.loads.acquire(context.may_queue) {
            None => publisher.fail_overloaded(),
            Some(acquire) => {
                let load = Load { publisher, context }.run(loader.clone(), acquire);
                drop(place.runtime().spawn(LoadScope::current().asked_by(context.chain).run(load)));
            }
        }
    })
}

/// A load in progress: it waits for a permit, calls the loader, and ends the flight.
struct Load<V> {
    publisher: Publisher<V>,
    context: GetContext,
}

impl<V: Value> Load<V> {
    async fn run(self, loader: Arc<dyn DynLoader<V>>, acquire: AcquirePermit) {
        let Load { mut publisher, context } = self;
        let load_timeout = publisher.state().settings.limits.load_timeout;
        let was_queued = acquire.is_queued();
        let permit = match acquire.wait(load_timeout, context.deadline).await {
            Ok(permit) => permit,
            Err(NoPermit::CallerGone) => return publisher.abandon(),
            Err(NoPermit::TimedOut) => return publisher.fail_overloaded(),
        };
        if was_queued {
            let Some(wanted) = publisher.unless_unwanted(context) else { return };
            publisher = wanted;
        }
        let state = publisher.state();
        state.counters.loads_deduped.count();
        let watched = state.watch_load(publisher.key().clone(), publisher.waiter());
        let key = publisher.key().clone();
        let group = (state.id(), &*state.name);
        let scope = LoadScope::current().loading(group, vec![key.clone()], Arc::new(permit));
        // The permit goes with the scope, before the waiters are told: one that asks for the next
        // key at once finds it free.
        let loaded = scope.run(any::load(loader, key, load_timeout)).await;
        drop(watched);
        publisher.publish_loaded(loaded);
    }
}
