//! The cost of a flight beside the call itself, and of a call in a task of its own; the
//! `async_singleflight` crate beside the second, with its first caller in a task, which is the
//! closest to what we do.

use std::sync::Arc;

use peercache_singleflight::{Flights, SingleFlight};
use tokio::runtime::Builder;

use crate::{
    number::Number,
    pairs::{Effort, Rounds, timed},
    support::flights::{Rival, call, join_and_finish, repeat, spawned_call, value},
};

pub fn measure(effort: Effort) -> Vec<Number> {
    let operations = effort.operations / 10;
    let value = value();
    let runtime = Builder::new_current_thread().build().expect("a runtime starts");
    let (flights, flight, rival) = (Flights::new(), Arc::new(SingleFlight::new()), Arc::new(Rival::new()));
    let rounds = Rounds::measure(effort, |_| {
        [
            timed(1, operations, |_| (0..operations).for_each(|_| join_and_finish(&flights, &value))),
            timed(1, operations, |_| runtime.block_on(repeat(operations, || call(&flight, &value)))),
            timed(1, operations, |_| runtime.block_on(repeat(operations, || spawned_call(&rival, &value)))),
        ]
    });
    let spawned = Number {
        name: "flight-spawned-call-ns".into(),
        ours: rounds.median([1], |[ns]| ns),
        rival: Some(rounds.median([2], |[ns]| ns)),
        ratio: None,
        undisturbed: Some(rounds.undisturbed([1, 2])),
    };
    let bookkeeping = Number::new("flight-join-and-finish-ns", rounds.median([0], |[ns]| ns));
    vec![Number { undisturbed: Some(rounds.undisturbed([0])), ..bookkeeping }, spawned]
}
