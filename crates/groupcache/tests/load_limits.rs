//! How many loads there may be at one time, who waits for a turn, and who has stopped waiting.

mod support;

use std::{collections::BTreeSet, time::Duration};

use peercache_groupcache::{
    BuildError, Bytes, Clock, ErrorKind, Group, GroupBuilder, Groups, Members, Terms, loader_fn, loader_fn_with,
};
use support::{
    GROUP, Net,
    cluster::{AB, Cluster, told},
    origin::Db,
    keys, ms,
    net::What,
    settle, soon,
};
use tokio::time::{Instant, sleep, timeout};

/// Callers of so many different keys of `a`.
fn callers(cluster: &Cluster, count: usize) -> Vec<tokio::task::JoinHandle<String>> {
    cluster.keys_of("a", count).iter().map(|key| cluster["a"].caller(key)).collect()
}

#[tokio::test(start_paused = true)]
async fn there_are_no_more_loads_at_once_than_the_group_says() {
    let cluster = Cluster::with(["a"], |group| group.max_concurrent_loads(3));
    cluster.db.takes(ms(50));
    for caller in callers(&cluster, 20) {
        assert_eq!(caller.await.unwrap(), "v1");
    }
    assert_eq!((cluster.db.most_at_once(), cluster.db.calls()), (3, 20));
}

#[tokio::test(start_paused = true)]
async fn a_load_more_than_may_wait_is_refused() {
    let cluster = Cluster::with(["a"], |group| group.max_concurrent_loads(1).max_queued_loads(1));
    cluster.db.hold();
    let waiting = callers(&cluster, 2);
    settle().await;
    assert_eq!(cluster["a"].read("one more").await, "Overloaded");
    assert_eq!(cluster["a"].group.stats().overloads, 1);
    cluster.db.open();
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), "v1");
    }
}

#[tokio::test(start_paused = true)]
async fn with_no_queue_what_cannot_be_loaded_at_once_is_refused() {
    let cluster = Cluster::with(["a"], |group| group.max_concurrent_loads(1).max_queued_loads(0));
    cluster.db.hold();
    let _waiting = callers(&cluster, 1);
    settle().await;
    assert_eq!(cluster["a"].read("one more").await, "Overloaded");
}

#[tokio::test(start_paused = true)]
async fn to_join_a_load_that_waits_is_always_allowed() {
    let cluster = Cluster::with(["a"], |group| group.max_concurrent_loads(1).max_queued_loads(1));
    cluster.db.hold();
    let keys = cluster.keys_of("a", 2);
    let waiting: Vec<_> = [&keys[0], &keys[1], &keys[0], &keys[1]].map(|key| cluster["a"].caller(key)).into();
    settle().await;
    cluster.db.open();
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), "v1");
    }
}

#[tokio::test(start_paused = true)]
async fn an_overload_does_not_back_off() {
    let cluster = Cluster::with(["a"], |group| group.max_concurrent_loads(1).max_queued_loads(0));
    cluster.db.hold();
    let waiting = callers(&cluster, 1);
    settle().await;
    assert_eq!(cluster["a"].read("one more").await, "Overloaded");
    cluster.db.open();
    for waiting in waiting {
        waiting.await.unwrap();
    }
    assert_eq!(cluster["a"].read("one more").await, "v1");
}

#[tokio::test(start_paused = true)]
async fn fetches_take_no_place_of_loads() {
    let cluster = Cluster::with(AB, |group| group.max_concurrent_loads(1).max_queued_loads(0));
    cluster.net.stop("b", What::Answers);
    let waiting: Vec<_> = cluster.keys_of("b", 20).iter().map(|key| cluster["a"].caller(key)).collect();
    settle().await;
    assert_eq!(cluster.net.asked("b"), 20);
    assert_eq!(cluster["a"].read(&cluster.key_of("a")).await, "v1");
    cluster.net.let_go("b", What::Answers);
    drop(waiting);
}

#[tokio::test(start_paused = true)]
async fn fetches_have_a_bound_of_their_own() {
    let cluster = Cluster::with(AB, |group| group.max_concurrent_fetches(2));
    let keys = cluster.keys_of("b", 3);
    cluster.net.stop("b", What::Answers);
    let waiting: Vec<_> = keys[..2].iter().map(|key| cluster["a"].caller(key)).collect();
    settle().await;
    assert_eq!(cluster["a"].read(&keys[2]).await, "Overloaded");
    cluster.net.let_go("b", What::Answers);
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), "v1");
    }
    assert_eq!(cluster["a"].read(&keys[2]).await, "v1");
}

/// Two nodes with two groups, of which the outer's loader asks the inner one; each may load one key at a time.
fn nested() -> Vec<Group<Bytes>> {
    let net = Net::default();
    let db = Db::new();
    db.takes(ms(10));
    let outer = |name: &str| {
        let members = Members::builder(name, net.seen_by(name)).members(AB).build().unwrap();
        let groups = Groups::with_clock(members, Clock::tokio());
        net.add(name, &groups);
        let one = |group: GroupBuilder<Bytes>| group.max_concurrent_loads(1).build().unwrap();
        let inner = one(groups.group("inner", loader_fn_with(db.asked_by(name), Db::load)));
        one(groups.group("outer", loader_fn_with(inner, |inner, key| async move { Ok(inner.get(&key).await?) })))
    };
    AB.map(outer).into()
}

#[tokio::test(start_paused = true)]
async fn loaders_that_ask_another_group_do_not_wait_for_each_other() {
    let outer = nested();
    let readers: Vec<_> = keys(40)
        .into_iter()
        .enumerate()
        .map(|(nth, key)| {
            let group = outer[nth % 2].clone();
            tokio::spawn(async move { timeout(ms(5_000), group.get(&key)).await })
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap().expect("no deadlock").unwrap(), "v1");
    }
}

/// A cluster where each node loads one key at a time, and `owner` is busy with one.
async fn busy(owner: &str) -> (Cluster, String) {
    let cluster = Cluster::with(AB, |group| group.max_concurrent_loads(1));
    let [first, second] = cluster.keys_of(owner, 2).try_into().unwrap();
    cluster.db.hold();
    drop(cluster[owner].caller(&first));
    cluster.db.holding(1).await;
    cluster.db.hold_no_more();
    (cluster, second)
}

async fn read_within(cluster: &Cluster, key: &str, time: Duration) -> String {
    told(soon(cluster["a"].group.get(key).timeout(time)).await)
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_time_is_over_in_the_queue_starts_no_load() {
    let (cluster, key) = busy("a").await;
    assert_eq!(read_within(&cluster, &key, ms(100)).await, "DeadlineExceeded");
    cluster.db.open();
    sleep(ms(1_000)).await;
    assert_eq!(cluster.db.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_time_is_over_in_the_owners_queue_starts_no_load() {
    let (cluster, key) = busy("b").await;
    assert_eq!(read_within(&cluster, &key, ms(100)).await, "DeadlineExceeded");
    cluster.db.open();
    sleep(ms(1_000)).await;
    assert_eq!(cluster.db.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_time_that_is_left_travels_to_the_owner() {
    let (cluster, key) = busy("b").await;
    read_within(&cluster, &key, ms(100)).await;
    assert_eq!(cluster.net.requests("b")[0].terms.timeout, Some(ms(100)));
}

#[tokio::test(start_paused = true)]
async fn no_deadline_travels_as_none() {
    let cluster = Cluster::new(AB);
    cluster["a"].read(&cluster.key_of("b")).await;
    assert_eq!(cluster.net.requests("b")[0].terms.timeout, None);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_arrives_after_its_time_starts_no_load() {
    let cluster = Cluster::new(AB);
    let key = cluster.key_of("b");
    let served = cluster["b"].groups.get(GROUP).unwrap();
    let terms = Terms::new().timeout(Some(Duration::ZERO));
    let error = served.answer(key.as_bytes(), terms).finish().await.unwrap_err();
    assert_eq!((error.kind(), cluster.db.calls()), (ErrorKind::DeadlineExceeded, 0));
}

#[tokio::test(start_paused = true)]
async fn who_still_waits_is_served_when_another_has_left_the_queue() {
    let (cluster, key) = busy("a").await;
    let (group, hurried) = (cluster["a"].group.clone(), key.clone());
    let hurried = tokio::spawn(async move { told(group.get(&hurried).timeout(ms(100)).await) });
    settle().await;
    let patient = cluster["a"].caller(&key);
    assert_eq!(hurried.await.unwrap(), "DeadlineExceeded");
    sleep(ms(500)).await;
    cluster.db.open();
    assert_eq!(patient.await.unwrap(), "v1");
}

#[tokio::test(start_paused = true)]
async fn who_still_waits_is_served_when_another_has_left_the_owners_queue() {
    let (cluster, key) = busy("b").await;
    let (group, hurried) = (cluster["a"].group.clone(), key.clone());
    let hurried = tokio::spawn(async move { told(group.get(&hurried).timeout(ms(100)).await) });
    settle().await;
    let patient = cluster["a"].caller(&key);
    assert_eq!(hurried.await.unwrap(), "DeadlineExceeded");
    sleep(ms(500)).await;
    cluster.db.open();
    assert_eq!(patient.await.unwrap(), "v1");
    assert_eq!(cluster.db.calls_of("a"), 0, "the owner is well, so nothing is loaded in its place");
}

/// The patient one comes last, so that each time one leaves the queue, another of them takes its place there.
async fn is_served_among_hurried_ones(busy_node: &str) -> String {
    let (cluster, key) = busy(busy_node).await;
    for nth in 1..=30 {
        let (group, key) = (cluster["a"].group.clone(), key.clone());
        tokio::spawn(async move { drop(group.get(&key).timeout(ms(100 * nth)).await) });
    }
    settle().await;
    let patient = cluster["a"].caller(&key);
    sleep(ms(5_000)).await;
    cluster.db.open();
    patient.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn who_still_waits_is_served_however_many_have_left_the_queue() {
    assert_eq!(is_served_among_hurried_ones("a").await, "v1");
}

#[tokio::test(start_paused = true)]
async fn who_still_waits_is_served_however_many_have_left_the_owners_queue() {
    assert_eq!(is_served_among_hurried_ones("b").await, "v1");
}

#[tokio::test(start_paused = true)]
async fn the_time_of_one_caller_is_not_another_nodes() {
    let (cluster, key) = busy("b").await;
    let (group, hurried) = (cluster["a"].group.clone(), key.clone());
    let hurried = tokio::spawn(async move { told(group.get(&hurried).timeout(ms(100)).await) });
    settle().await;
    let patient = cluster["b"].caller(&key);
    assert_eq!(hurried.await.unwrap(), "DeadlineExceeded");
    sleep(ms(500)).await;
    cluster.db.open();
    assert_eq!(patient.await.unwrap(), "v1");
}

#[tokio::test(start_paused = true)]
async fn a_load_that_has_begun_is_finished_though_the_time_is_over() {
    let cluster = Cluster::new(AB);
    let key = cluster.key_of("b");
    cluster.db.hold();
    assert_eq!(read_within(&cluster, &key, ms(100)).await, "DeadlineExceeded");
    cluster.db.open();
    settle().await;
    assert_eq!(cluster.cached(&key).split(' ').nth(1), Some("v1"));
}

#[tokio::test(start_paused = true)]
async fn a_load_waits_for_its_turn_no_longer_than_a_load_may_take() {
    let cluster = Cluster::with(["a"], |group| group.max_concurrent_loads(1).load_timeout(ms(1_000)));
    cluster.db.hold();
    let first = cluster["a"].caller("first");
    cluster.db.holding(1).await;
    sleep(ms(10)).await;
    let began = Instant::now();
    let ends: BTreeSet<String> = ["LoadTimedOut", "Overloaded", "v1"].map(str::to_owned).into();
    assert!(ends.contains(&cluster["a"].read("second").await));
    assert!(began.elapsed() <= ms(2_010), "{:?}", began.elapsed());
    assert_eq!(first.await.unwrap(), "LoadTimedOut");
}

#[tokio::test(start_paused = true)]
async fn a_removed_key_that_waits_for_its_turn_is_not_loaded_for_nobody() {
    let (cluster, key) = busy("a").await;
    let waiting = cluster["a"].caller(&key);
    settle().await;
    waiting.abort();
    settle().await;
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    cluster.db.open();
    sleep(ms(1_000)).await;
    assert_eq!((cluster.db.calls(), cluster["a"].group.stats().in_flight), (1, 0));
}

#[tokio::test]
async fn bounds_of_nothing_are_refused() {
    let build = |set: fn(GroupBuilder<Bytes>) -> GroupBuilder<Bytes>| {
        let groups = Groups::with_clock(Members::alone(), Clock::tokio());
        set(groups.group("g", loader_fn(|_| async { Ok(Bytes::new()) }))).build()
    };
    assert!(matches!(build(|group| group.max_concurrent_loads(0)), Err(BuildError::Setting { .. })));
    assert!(matches!(build(|group| group.max_concurrent_fetches(0)), Err(BuildError::Setting { .. })));
    assert!(build(|group| group.max_queued_loads(0)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_time_that_is_left_for_many_keys_travels_with_each() {
    let cluster = Cluster::new(AB);
    let keys = cluster.keys_of("b", 3);
    soon(cluster["a"].group.get_many(&keys).timeout(ms(100))).await;
    let times: Vec<_> = cluster.net.requests("b").iter().map(|request| request.terms.timeout).collect();
    assert_eq!(times, [Some(ms(100)); 3]);
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_beyond_all_clocks_is_none() {
    let cluster = Cluster::new(AB);
    let keys = cluster.keys_of("b", 2);
    assert_eq!(told(soon(cluster["a"].group.get(&keys[0]).timeout(Duration::MAX)).await), "v1");
    assert_eq!(told(soon(cluster["a"].group.get_many(&keys[1..]).timeout(Duration::MAX)).await.remove(0)), "v1");
}
