//! The cost of a flight beside the call itself: its bookkeeping, a call in a task of its own, and
//! many callers of one call. The rival is `async_singleflight`, which runs the call inside its
//! first caller; `spawned` puts that caller into a task, which is the closest to what we do.
//!
//! Same key (16 bytes), value (an `Arc`) and hasher (std's) for all.

mod support;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use peercache_singleflight::{Flights, SingleFlight};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinSet, yield_now};

use support::durations;
use support::flights::{KEY, Rival, Value, call, join_and_finish, repeat, spawned_call, value};

const CALLERS: u64 = 64;

/// Join and finish, with nothing to do in between and nobody else waiting.
fn bookkeeping(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("singleflight/bookkeeping");
    let value = value();

    let flights: Flights<String, Value> = Flights::new();
    group.bench_function("peercache", |bencher| {
        bencher.iter(|| join_and_finish(&flights, &value));
    });

    let (rival, runtime) = (Rival::new(), one_thread());
    per_iteration(&mut group, "async_singleflight", &runtime, || {
        let value = Arc::clone(&value);
        rival.work(KEY, async move { value })
    });
    group.finish();
}

/// One caller, one call that is ready at once.
fn one_caller(criterion: &mut Criterion) {
    for (threads, runtime) in [("1_thread", one_thread()), ("2_threads", two_threads())] {
        let mut group = criterion.benchmark_group(format!("singleflight/call/{threads}"));
        let value = value();

        let flight: Arc<SingleFlight<String, Value>> = Arc::default();
        per_iteration_in_task(&mut group, "peercache", &runtime, {
            let value = Arc::clone(&value);
            move || call(&flight, &value)
        });

        let rival = Arc::new(Rival::new());
        per_iteration_in_task(&mut group, "async_singleflight_spawned", &runtime, move || spawned_call(&rival, &value));

        // The cost of the task alone.
        per_iteration_in_task(&mut group, "bare_spawn", &runtime, || async {
            tokio::spawn(async {}).await.expect("it returns");
        });
        group.finish();
    }
}

/// Callers in tasks of their own, all sharing a call that yields once.
fn shared(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("singleflight/64_callers");
    group.throughput(Throughput::Elements(CALLERS));
    let (runtime, value) = (one_thread(), value());

    let flight: Arc<SingleFlight<String, Value>> = Arc::default();
    per_iteration(&mut group, "peercache", &runtime, || {
        callers(|| {
            let (flight, value) = (Arc::clone(&flight), Arc::clone(&value));
            let call = || async move {
                yield_now().await;
                value
            };
            async move { flight.run(KEY.to_owned(), call).await.expect("it returns").value }
        })
    });

    let rival = Arc::new(Rival::new());
    per_iteration(&mut group, "async_singleflight", &runtime, || {
        callers(|| {
            let (rival, value) = (Arc::clone(&rival), Arc::clone(&value));
            let call = async move {
                yield_now().await;
                value
            };
            async move { rival.work(KEY, call).await }
        })
    });
    group.finish();
}

async fn callers<F>(caller: impl Fn() -> F)
where
    F: Future<Output = Value> + Send + 'static,
{
    let mut tasks: JoinSet<Value> = (0..CALLERS).map(|_| caller()).collect();
    while let Some(value) = tasks.join_next().await {
        value.expect("no caller panics");
    }
}

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// Entering the runtime is not what we measure, so one entry is for many iterations.
fn per_iteration<F: Future>(group: &mut Group<'_>, name: &str, runtime: &Runtime, once: impl Fn() -> F) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| runtime.block_on(timed(iterations, &once)));
    });
}

/// Does the same from inside a task, where a caller usually is.
fn per_iteration_in_task<F, O>(group: &mut Group<'_>, name: &str, runtime: &Runtime, once: O)
where
    F: Future + Send + 'static,
    O: Fn() -> F + Clone + Send + Sync + 'static,
{
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let once = once.clone();
            let task = runtime.spawn(async move { timed(iterations, &once).await });
            runtime.block_on(task).expect("no iteration panics")
        });
    });
}

async fn timed<F: Future>(iterations: u64, once: &impl Fn() -> F) -> Duration {
    let started = Instant::now();
    repeat(iterations, once).await;
    started.elapsed()
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime starts")
}

fn two_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).build().expect("a runtime starts")
}

criterion_group! {
    name = benches;
    config = durations::criterion();
    targets = bookkeeping, one_caller, shared
}
criterion_main!(benches);
