//! Limits of loads and fetches: how many there may be at one time, how many may queue, and what
//! becomes of the rest.

mod support;

use std::collections::BTreeSet;

use peercache_groupcache::{OverloadPolicy, loader_fn_with};
use support::{
    cluster::{AB, Cluster},
    keys, ms,
    net::Kind,
    settle, soon,
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

/// Callers of different keys of `a`.
fn callers(cluster: &Cluster, count: usize) -> Vec<JoinHandle<String>> {
    cluster.keys_of("a", count).iter().map(|key| cluster["a"].caller(key)).collect()
}

#[tokio::test(start_paused = true)]
async fn there_are_no_more_loads_at_once_than_the_group_says() {
    let cluster = Cluster::with(["a"], |group| group.max_concurrent_loads(3));
    cluster.origin.delay(ms(50));
    for caller in callers(&cluster, 20) {
        assert_eq!(caller.await.unwrap(), "v1");
    }
    assert_eq!((cluster.origin.max_in_flight(), cluster.origin.calls()), (3, 20));
}

#[tokio::test(start_paused = true)]
async fn a_load_beyond_the_queue_is_refused() {
    let cluster = Cluster::with(["a"], |group| group.max_concurrent_loads(1).max_queued_loads(1));
    cluster.origin.hold();
    let waiting = callers(&cluster, 2);
    settle().await;
    assert_eq!(cluster["a"].read("one more").await, "Overloaded");
    assert_eq!(cluster["a"].group.stats().overloads, 1);
    cluster.origin.release();
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), "v1");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_queue_a_load_that_cannot_start_is_refused() {
    let cluster = Cluster::with(["a"], |group| group.max_concurrent_loads(1).max_queued_loads(0));
    cluster.origin.hold();
    let _waiting = callers(&cluster, 1);
    settle().await;
    assert_eq!(cluster["a"].read("one more").await, "Overloaded");
}

#[tokio::test(start_paused = true)]
async fn joining_a_queued_load_is_always_allowed() {
    let cluster = Cluster::with(["a"], |group| group.max_concurrent_loads(1).max_queued_loads(1));
    cluster.origin.hold();
    let keys = cluster.keys_of("a", 2);
    let waiting: Vec<_> = [&keys[0], &keys[1], &keys[0], &keys[1]].map(|key| cluster["a"].caller(key)).into();
    settle().await;
    cluster.origin.release();
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), "v1");
    }
}

#[tokio::test(start_paused = true)]
async fn an_overload_does_not_back_off() {
    let cluster = Cluster::with(["a"], |group| group.max_concurrent_loads(1).max_queued_loads(0));
    cluster.origin.hold();
    let waiting = callers(&cluster, 1);
    settle().await;
    assert_eq!(cluster["a"].read("one more").await, "Overloaded");
    cluster.origin.release();
    for waiting in waiting {
        waiting.await.unwrap();
    }
    assert_eq!(cluster["a"].read("one more").await, "v1");
}

/// The one permit is free again before the value is handed out, so that a caller's next get never
/// finds it taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_get_after_another_is_never_an_overload() {
    let cluster = Cluster::with(["a"], |group| group.max_concurrent_loads(1).max_queued_loads(0).max_bytes(0));
    for key in keys(2_000) {
        cluster["a"].group.get(&key).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn fetches_take_no_permits_of_loads() {
    let cluster = Cluster::with(AB, |group| group.max_concurrent_loads(1).max_queued_loads(0));
    cluster.net.pause("b", Kind::Answers);
    let waiting: Vec<_> = cluster.keys_of("b", 20).iter().map(|key| cluster["a"].caller(key)).collect();
    settle().await;
    assert_eq!(cluster.net.asked("b"), 20);
    assert_eq!(cluster["a"].read(&cluster.key_of("a")).await, "v1");
    cluster.net.resume("b", Kind::Answers);
    drop(waiting);
}

#[tokio::test(start_paused = true)]
async fn fetches_have_a_limit_of_their_own() {
    let cluster = Cluster::with(AB, |group| group.max_concurrent_fetches(3).overload(OverloadPolicy::Answer));
    let keys = cluster.keys_of("b", 3);
    cluster.net.pause("b", Kind::Answers);
    let waiting: Vec<_> = keys[..2].iter().map(|key| cluster["a"].caller(key)).collect();
    settle().await;
    assert_eq!(cluster["a"].read(&keys[2]).await, "Overloaded");
    cluster.net.resume("b", Kind::Answers);
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), "v1");
    }
    assert_eq!(cluster["a"].read(&keys[2]).await, "v1");
}

/// Each node has two groups that load one key at a time, and the loader of the outer one asks the
/// inner one.
#[tokio::test(start_paused = true)]
async fn loaders_that_ask_another_group_do_not_wait_for_each_other() {
    let cluster = Cluster::with(AB, |group| group.max_concurrent_loads(1));
    cluster.origin.delay(ms(10));
    let outer = AB.map(|name| {
        let inner = cluster[name].group.clone();
        let loader = loader_fn_with(inner, |inner, key| async move { Ok(inner.get(&key).await?) });
        cluster[name].groups.group("outer", loader).max_concurrent_loads(1).build().unwrap()
    });
    let readers: Vec<_> = keys(40)
        .into_iter()
        .zip(outer.iter().cycle().cloned())
        .map(|(key, group)| tokio::spawn(async move { timeout(ms(5_000), group.get(&key)).await }))
        .collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap().expect("no deadlock").unwrap(), "v1");
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_queues_no_longer_than_a_load_may_take() {
    let cluster = Cluster::with(["a"], |group| group.max_concurrent_loads(1).load_timeout(ms(1_000)));
    cluster.origin.hold();
    let first = cluster["a"].caller("first");
    cluster.origin.until_held(1).await;
    sleep(ms(10)).await;
    let began = Instant::now();
    let ends: BTreeSet<String> = ["LoadTimedOut", "Overloaded", "v1"].map(str::to_owned).into();
    assert!(ends.contains(&cluster["a"].read("second").await));
    assert!(began.elapsed() <= ms(2_010), "{:?}", began.elapsed());
    assert_eq!(first.await.unwrap(), "LoadTimedOut");
}

#[tokio::test(start_paused = true)]
async fn a_queued_load_of_a_removed_key_without_callers_never_starts() {
    let (cluster, key) = Cluster::with_busy("a").await;
    let waiting = cluster["a"].caller(&key);
    settle().await;
    waiting.abort();
    settle().await;
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    cluster.origin.release();
    sleep(ms(1_000)).await;
    assert_eq!((cluster.origin.calls(), cluster["a"].group.stats().in_flight), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_silent_member_leaves_fetches_for_the_others_and_its_keys_are_loaded_here() {
    let cluster = Cluster::with(["a", "b", "c"], |group| group.max_concurrent_fetches(8));
    let (of_b, of_c) = (cluster.keys_of("b", 70), cluster.keys_of("c", 2));
    cluster.net.pause("b", Kind::Answers);
    let waiting: Vec<_> = of_b.iter().map(|key| cluster["a"].caller(key)).collect();
    settle().await;
    let stats = cluster["a"].group.stats();
    assert_eq!((cluster.net.asked("b"), stats.overloaded_peers, stats.local_loads), (4, 66, 66));
    for key in of_c {
        assert_eq!(cluster["a"].read(&key).await, "v1", "a healthy member is asked");
    }
    assert_eq!((cluster.net.asked("c"), cluster["a"].group.stats().overloads), (2, 0));
    cluster.net.resume("b", Kind::Answers);
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), "v1");
    }
}

#[tokio::test(start_paused = true)]
async fn loads_in_place_of_a_dead_member_hold_no_fetch_permits() {
    let cluster = Cluster::with(["a", "b", "c"], |group| group.max_concurrent_fetches(8));
    let (of_b, of_c) = (cluster.keys_of("b", 70), cluster.keys_of("c", 1));
    cluster.net.cut("b");
    cluster.origin.hold();
    let waiting: Vec<_> = of_b.iter().map(|key| cluster["a"].caller(key)).collect();
    settle().await;
    let healthy = cluster["a"].caller(&of_c[0]);
    settle().await;
    assert_eq!((cluster.net.asked("c"), cluster["a"].group.stats().overloads), (1, 0));
    cluster.origin.release();
    assert_eq!(healthy.await.unwrap(), "v1");
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), "v1");
    }
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_owner_is_helped_by_a_load_here_or_answered_as_the_group_says() {
    for (policy, expected) in [(OverloadPolicy::LoadHere, "v1"), (OverloadPolicy::Answer, "Overloaded")] {
        let cluster = Cluster::with(AB, |group| group.max_concurrent_loads(1).max_queued_loads(0).overload(policy));
        let keys = cluster.keys_of("b", 2);
        cluster.origin.hold();
        let busy = cluster["b"].caller(&keys[0]);
        settle().await;
        let helped = cluster["a"].caller(&keys[1]);
        settle().await;
        cluster.origin.release();
        assert_eq!(helped.await.unwrap(), expected);
        assert_eq!(busy.await.unwrap(), "v1");
        assert_eq!(cluster["a"].group.stats().overloaded_peers, 1);
    }
}
