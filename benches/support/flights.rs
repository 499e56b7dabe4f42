//! Flights as everybody measures them: criterion, and `check` side by side.

use std::{future::Future, hint::black_box, sync::Arc};

use peercache_singleflight::{Flights, Join, SingleFlight};

pub type Value = Arc<[u8]>;
/// The rival, which runs a call inside its first caller.
pub type Rival = async_singleflight::UnaryGroup<String, Value>;

pub const KEY: &str = "user:00000000007";

pub fn value() -> Value {
    Arc::from([7; 100])
}

/// Joins and finishes, with nothing to do in between and nobody else waiting.
pub fn join_and_finish(flights: &Flights<String, Value>, value: &Value) {
    let join = flights.lock(KEY).join_with(KEY, || KEY.to_owned());
    let Join::Lead(leader) = join else { unreachable!("no other flight is in progress") };
    black_box(leader.publish(Arc::clone(value), |value| value.len()));
}

/// One caller of a call that is ready at once.
pub fn call(flight: &Arc<SingleFlight<String, Value>>, value: &Value) -> impl Future<Output = ()> + Send + use<> {
    let (flight, value) = (Arc::clone(flight), Arc::clone(value));
    async move { drop(black_box(flight.run(KEY.to_owned(), || async move { value }).await.expect("it returns"))) }
}

/// The same of the rival, with its caller in a task, which is the closest to what we do.
pub fn spawned_call(rival: &Arc<Rival>, value: &Value) -> impl Future<Output = ()> + Send + use<> {
    let (rival, value) = (Arc::clone(rival), Arc::clone(value));
    let caller = async move { rival.work(KEY, async move { value }).await };
    async move { drop(black_box(tokio::spawn(caller).await.expect("it returns"))) }
}

/// One after the other, inside one entry of a runtime: entering it is not what is measured.
pub async fn repeat<F: Future>(count: u64, once: impl Fn() -> F) {
    for _ in 0..count {
        once().await;
    }
}
