//! A flight joined, or led.

use std::sync::Arc;

use crate::{
    core::carriers::Place,
    core::flight_wait::FlightWait,
    core::get_context::GetContext,
    core::publish::Publisher,
    core::state::GroupState,
    error::Error,
    store::Joined,
    store::flight::{FlightKey, FlightResult, Outcome},
    value::Value,
};

/// A get that has been started.
pub(crate) enum Started<V> {
    /// It has ended already.
    Done(FlightResult<V>),
    /// A flight brings its result.
    Waiting(FlightWait<V>),
}

impl<V> Started<V> {
    pub(crate) fn done(outcome: Outcome<V>) -> Self {
        Started::Done(FlightResult::Done(outcome))
    }

    pub(crate) fn failed(error: Error) -> Self {
        Started::done(Err(error))
    }
}

impl<V: Value> Started<V> {
    /// Waits for the result of the flight.
    pub(crate) async fn result(self) -> FlightResult<V> {
        match self {
            Started::Done(result) => result,
            Started::Waiting(wait) => wait.await,
        }
    }
}

/// Joins the flight of `key`, or has `lead` start a new one.
///
/// Neither is needed if the value has come since the caller looked, or if the key is in back-off.
pub(crate) fn join_or_lead<V: Value>(
    state: &Arc<GroupState<V>>,
    key: FlightKey,
    context: GetContext,
    place: &Place,
    lead: impl FnOnce(Publisher<V>),
) -> Started<V> {
    let now_ms = state.clock.coarse_ms();
    let key = key.carried_by(&place.workplace.carrier);
    match state.store.join(key.clone(), context.requester, context.freshness, now_ms) {
        Joined::Lead(leader) => {
            let wait = FlightWait::new(state, key.clone(), leader.waiter(), key.carrier.clone(), place);
            lead(Publisher::new(state.clone(), key.key, leader));
            Started::Waiting(wait)
        }
        Joined::Wait(waiter, carrier) => Started::Waiting(FlightWait::new(state, key, waiter, carrier, place)),
        Joined::Hit(found) => {
            state.counters.late_hits.count();
            Started::done(Ok(found))
        }
        Joined::BackedOff(error) => {
            state.counters.backed_off.count();
            Started::failed(error)
        }
    }
}
