//! A load is shared by its callers and belongs to none: neither what callers do nor what loaders do
//! hurts anyone else.

mod support;

use std::{
    error::Error as _,
    future::{Ready, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use peercache_groupcache::{Bytes, ErrorKind, Group, LoadError, loader_fn, loader_fn_with};
use support::{
    cluster::{Cluster, outcome},
    ms,
    origin::Health,
    outside_a_runtime, poll_once,
};
use tokio::{runtime::Runtime, task::yield_now};

#[tokio::test]
async fn a_load_outlives_the_caller_that_started_it() {
    let cluster = Cluster::new(["a"]);
    cluster.origin.hold();
    assert_eq!(cluster["a"].read_at_once("key").await, "waits");
    cluster.origin.until_called(1).await;
    cluster.origin.release();
    assert_eq!(cluster["a"].read("key").await, "v1");
    assert_eq!(cluster.origin.calls(), 1);
}

#[tokio::test]
async fn a_cancelled_leader_leaves_its_waiters_unharmed() {
    let cluster = Cluster::new(["a"]);
    cluster.origin.hold();
    let leader = cluster["a"].caller("key");
    cluster.origin.until_called(1).await;
    let mut waiter = pin!(cluster["a"].group.get("key"));
    assert!(poll_fn(|context| Poll::Ready(waiter.as_mut().poll(context))).await.is_pending());
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    cluster.origin.release();
    assert_eq!(waiter.await.unwrap(), "v1");
}

/// A caller may be gone after any number of polls; those that come later still get the value, from
/// one load.
#[tokio::test(start_paused = true)]
async fn a_get_may_be_cancelled_at_every_await() {
    for polls in 1..4 {
        let cluster = Cluster::new(["a"]);
        cluster.origin.hold();
        {
            let mut get = pin!(cluster["a"].group.get("key").timeout(ms(60_000)).detailed());
            for _ in 0..polls {
                assert!(poll_fn(|context| Poll::Ready(get.as_mut().poll(context))).await.is_pending());
                yield_now().await;
            }
        }
        cluster.origin.release();
        assert_eq!(cluster["a"].read("key").await, "v1");
        assert_eq!(cluster.origin.calls(), 1);
    }
}

#[tokio::test]
async fn a_panic_is_an_error_for_all_who_wait_and_the_key_is_free_at_once() {
    let cluster = Cluster::with(["a"], |group| group.error_backoff(Duration::ZERO, Duration::ZERO));
    cluster.origin.health(Health::Panics);
    cluster.origin.hold();
    let waiting = [(), (), ()].map(|()| {
        let group = cluster["a"].group.clone();
        tokio::spawn(async move { group.get("key").await })
    });
    cluster["a"].until_missed(3).await;
    cluster.origin.until_held(1).await;
    cluster.origin.health(Health::Fine);
    cluster.origin.release();
    for waiting in waiting {
        let error = waiting.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the loader panicked: a planned panic");
    }
    assert_eq!(cluster["a"].read("key").await, "v1");
}

#[tokio::test]
async fn a_panic_before_the_first_await_is_an_error_too() {
    let cluster = Cluster::new(["a"]);
    let loader = loader_fn(|_| -> Ready<Result<Bytes, LoadError>> { panic!("at once") });
    let group: Group<Bytes> = cluster["a"].groups.group("panicking", loader).build().unwrap();
    assert_eq!(outcome(group.get("key").await), "LoadFailed");
}

#[tokio::test(start_paused = true)]
async fn a_load_that_takes_too_long_is_ended() {
    let cluster = Cluster::with(["a"], |group| group.load_timeout(ms(500)));
    cluster.origin.hold();
    assert_eq!(cluster["a"].read("key").await, "LoadTimedOut");
}

#[tokio::test]
async fn the_loaders_error_is_kept_and_nothing_is_cached() {
    let cluster = Cluster::with(["a"], |group| group.error_backoff(Duration::ZERO, Duration::ZERO));
    cluster.origin.health(Health::Fails);
    let error = cluster["a"].error("key").await;
    assert_eq!(error.kind(), ErrorKind::LoadFailed);
    assert_eq!(error.source().unwrap().to_string(), "disk on fire");
    assert_eq!(cluster["a"].read("key").await, "LoadFailed");
    let stats = cluster["a"].group.stats();
    assert_eq!((cluster.origin.calls(), stats.local_load_errors, stats.main.items), (2, 2, 0));
}

#[tokio::test]
async fn a_nested_groups_not_found_stays_a_not_found() {
    let cluster = Cluster::new(["a"]);
    cluster.origin.delete("key");
    let inner = cluster["a"].group.clone();
    let loader = loader_fn_with(inner, |inner, key| async move { Ok(inner.get(&key).await?) });
    let outer: Group<Bytes> = cluster["a"].groups.group("outer", loader).build().unwrap();
    assert!(outer.get("key").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn nothing_stays_in_flight_however_a_load_ends() {
    let cluster = Cluster::with(["a"], |group| group.max_concurrent_loads(1).max_queued_loads(0));
    for health in [Health::Panics, Health::Fails, Health::Empty, Health::Fine] {
        cluster.origin.health(health);
        let _ = cluster["a"].read(&format!("{health:?}")).await;
        assert_eq!(cluster["a"].group.stats().in_flight, 0, "{health:?}");
    }
    assert_eq!(cluster["a"].group.stats().overloads, 0);
}

#[test]
fn a_miss_outside_a_runtime_is_an_error_and_no_panic() {
    let cluster = Cluster::new(["a"]);
    assert_eq!(outcome(outside_a_runtime(cluster["a"].group.get("key"))), "NoRuntime");
}

#[test]
fn a_load_whose_runtime_goes_away_is_begun_again_in_the_waiters_runtime() {
    let cluster = Cluster::new(["a"]);
    cluster.origin.hold();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second): (Runtime, Runtime) = (runtime(), runtime());
    first.block_on(async { assert!(poll_once(cluster["a"].group.get("key")).await.is_pending()) });
    let entered = second.enter();
    let waiter = cluster["a"].caller("key");
    drop(entered);
    second.block_on(cluster["a"].until_missed(2));
    cluster.origin.release();
    drop(first);
    assert_eq!(second.block_on(waiter).unwrap(), "v1");
    assert_eq!(cluster["a"].group.stats().local_loads, 1);
}
