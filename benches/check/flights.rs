//! What a flight costs beside the call itself, and a call in a task of its own; the `async_singleflight` crate beside the second, with
//! its first caller in a task, which is the closest to what we do.

use std::{future::Future, hint::black_box, sync::Arc};

use peercache_singleflight::{Flights, Join, SingleFlight};
use tokio::runtime::{Builder, Runtime};

use crate::{
    Number,
    pairs::{Effort, Rounds, timed},
};

type Value = Arc<[u8]>;
type Rival = async_singleflight::UnaryGroup<String, Value>;

const KEY: &str = "user:00000000007";

pub fn measure(effort: Effort) -> Vec<Number> {
    let operations = effort.operations / 10;
    let value: Value = Arc::from([7; 100]);
    let runtime = Builder::new_current_thread().build().expect("a runtime starts");
    let (flights, flight, rival) = (Flights::new(), Arc::new(SingleFlight::new()), Arc::new(Rival::new()));
    let rounds = Rounds::measure(effort, |_| {
        let call = || {
            let (flight, value) = (Arc::clone(&flight), Arc::clone(&value));
            async move { drop(black_box(flight.run(KEY.to_owned(), || async move { value }).await)) }
        };
        let rivals = || {
            let (rival, value) = (Arc::clone(&rival), Arc::clone(&value));
            let caller = async move { rival.work(KEY, async move { value }).await };
            async move { drop(black_box(tokio::spawn(caller).await)) }
        };
        [
            timed(1, operations, |_| bookkeeping(&flights, &value, operations)),
            timed(1, operations, |_| calls(&runtime, operations, call)),
            timed(1, operations, |_| calls(&runtime, operations, rivals)),
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

/// Join and finish, with nothing to do in between and nobody else waiting.
fn bookkeeping(flights: &Flights<String, Value>, value: &Value, operations: u64) {
    for _ in 0..operations {
        let join = flights.lock(KEY).join_with(KEY, || KEY.to_owned());
        let Join::Lead(leader) = join else { unreachable!("nobody else flies") };
        black_box(leader.publish(Arc::clone(value), |value| value.len()));
    }
}

fn calls<F: Future<Output = ()>>(runtime: &Runtime, operations: u64, call: impl Fn() -> F) {
    runtime.block_on(async {
        for _ in 0..operations {
            call().await;
        }
    });
}
