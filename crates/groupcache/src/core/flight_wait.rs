//! The wait for a flight, which ends as well when the runtime that carries the flight falls silent.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    carrier::{Carrier, TimedWatch},
    core::carriers::Place,
    core::state::GroupState,
    store::flight::{FlightKey, FlightResult, Waiter, flight_result},
    value::Value,
};

/// A future of a flight's result. It is [`FlightResult::Abandoned`] if another runtime carries the
/// flight and shows no sign of life: the flight is then given up, and its late result ignored.
pub(crate) struct FlightWait<V> {
    waiter: Waiter<V>,
    /// The watch on another runtime, if that carries the flight.
    watch: Option<Box<Watched<V>>>,
}

struct Watched<V> {
    state: Arc<GroupState<V>>,
    key: FlightKey,
    watch: TimedWatch,
}

impl<V: Value> FlightWait<V> {
    pub(crate) fn new(
        state: &Arc<GroupState<V>>,
        key: FlightKey,
        waiter: Waiter<V>,
        carrier: Option<Arc<Carrier>>,
        place: &Place,
    ) -> Self {
        let elsewhere = carrier.filter(|carrier| carrier.id() != place.caller);
        let watch = elsewhere.and_then(TimedWatch::new);
        let watch = watch.map(|watch| Box::new(Watched { state: state.clone(), key, watch }));
        FlightWait { waiter, watch }
    }
}

impl<V: Value> Future for FlightWait<V> {
    type Output = FlightResult<V>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<FlightResult<V>> {
        let FlightWait { waiter, watch } = &mut *self;
        match (Pin::new(&mut *waiter).poll(cx), watch) {
            // Its runtime has dropped the work. One that is still there may do so again, so that
            // try counts.
            (Poll::Ready(Err(_)), Some(watched)) if watched.watch.carrier().is_there() => {
                Poll::Ready(FlightResult::Retry)
            }
            (Poll::Ready(Err(_)), Some(_)) => Poll::Ready(FlightResult::Abandoned),
            (Poll::Ready(result), _) => Poll::Ready(flight_result(result)),
            (Poll::Pending, None) => Poll::Pending,
            (Poll::Pending, Some(watched)) => watched.watch.poll_silent(cx).map(|()| {
                watched.state.counters.silent_runtimes.count();
                watched.state.store.give_up(&watched.key, waiter);
                FlightResult::Abandoned
            }),
        }
    }
}
