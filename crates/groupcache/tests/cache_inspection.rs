//! A look into the cache: why entries left, peeks, snapshots, and where an answer came from.

mod support;

use std::time::Duration;

use peercache_groupcache::{Bytes, Cached, EvictionPolicy, Source};
use support::{
    assert_about,
    cluster::{AB, Cluster, Node},
    ms,
    origin::Health,
    settle,
};
use tokio::time::sleep;

/// A node alone whose values have this time to live.
fn alone(ttl: Duration) -> Cluster {
    Cluster::with(["a"], |group| group.time_to_live(ttl))
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_expires_is_counted_as_expired_alone() {
    let cluster = alone(ms(1_000));
    for key in ["x", "y", "z"] {
        cluster["a"].read(key).await;
    }
    sleep(ms(1_100)).await;
    assert_eq!(cluster["a"].discarded(), "evicted 0, expired 3, replaced 0, removed 0");
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_makes_room_is_counted_as_evicted_alone() {
    let cluster = Cluster::with(["a"], |group| group.max_bytes(64 << 10).shards(1));
    for key in 0..1_000 {
        cluster["a"].read(&format!("key-{key}")).await;
    }
    let evicted = 1_000 - cluster["a"].items();
    assert!(evicted > 0);
    assert_eq!(cluster["a"].discarded(), format!("evicted {evicted}, expired 0, replaced 0, removed 0"));
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_removed_is_counted_as_removed_alone() {
    let cluster = Cluster::new(["a"]);
    for key in ["x", "y", "z"] {
        cluster["a"].read(key).await;
    }
    cluster["a"].group.remove("x").await.unwrap();
    cluster["a"].group.remove_many(["y", "absent"]).await.unwrap();
    assert_eq!(cluster["a"].discarded(), "evicted 0, expired 0, replaced 0, removed 2");
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_cleared_is_counted_as_removed_alone() {
    let cluster = Cluster::new(["a"]);
    for key in ["x", "y", "z"] {
        cluster["a"].read(key).await;
    }
    cluster["a"].group.clear().await.unwrap();
    assert_eq!(cluster["a"].discarded(), "evicted 0, expired 0, replaced 0, removed 3");
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_a_new_value_replaces_is_counted_as_replaced_alone() {
    let cluster = Cluster::with(["a"], |group| group.time_to_live(ms(1_000)).refresh_ahead(0.5));
    cluster["a"].read("key").await;
    sleep(ms(700)).await;
    cluster["a"].read("key").await;
    settle().await;
    assert_eq!(cluster.origin.calls(), 2);
    assert_eq!(cluster["a"].discarded(), "evicted 0, expired 0, replaced 1, removed 0");
}

#[tokio::test(start_paused = true)]
async fn a_peek_does_not_show_an_expired_value() {
    let cluster = alone(ms(1_000));
    cluster["a"].read("key").await;
    sleep(ms(970)).await;
    assert_eq!(cluster.cached("key"), "v1");
    sleep(ms(30)).await;
    assert_eq!(cluster.cached("key"), "-");
}

#[tokio::test(start_paused = true)]
async fn a_peek_loads_nothing_and_counts_nowhere() {
    let cluster = Cluster::new(AB);
    let (cached, absent) = (cluster.key_of("a"), cluster.key_of("b"));
    cluster["a"].read(&cached).await;
    let before = cluster["a"].group.stats();
    assert!(cluster["a"].group.peek(&cached).is_some() && cluster["a"].group.peek(&absent).is_none());
    settle().await;
    assert_eq!((cluster["a"].group.stats(), cluster.origin.calls(), cluster.net.asked("b")), (before, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_peek_says_where_the_value_is_and_how_long_it_holds() {
    let cluster = Cluster::with(AB, |group| group.time_to_live(ms(10_000)));
    let key = cluster.key_of("b");
    cluster.read(&key).await;
    sleep(ms(1_000)).await;
    let [copy, own] = ["a", "b"].map(|node| cluster[node].group.peek(&key).unwrap());
    assert_eq!((copy.source, own.source), (Source::Hot, Source::Main));
    assert_about(own.age, ms(1_000));
    assert_about(own.remaining.unwrap(), ms(9_000));
}

#[tokio::test(start_paused = true)]
async fn a_peek_does_not_keep_an_entry_from_being_evicted() {
    let cluster =
        Cluster::with(["a"], |group| group.max_bytes(64 << 10).shards(1).eviction_policy(EvictionPolicy::Lru));
    cluster["a"].read("first").await;
    for key in 0..1_000 {
        cluster["a"].group.peek("first");
        cluster["a"].read(&format!("key-{key}")).await;
    }
    assert_eq!(cluster.cached("first"), "-");
}

fn sorted(node: &Node) -> Vec<Cached<Bytes>> {
    let mut snapshot = node.group.snapshot();
    snapshot.sort_by(|one, other| one.key.cmp(&other.key));
    snapshot
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_shows_all_entries_with_their_place() {
    let cluster = Cluster::new(AB);
    let (own, copy) = (cluster.key_of("a"), cluster.key_of("b"));
    cluster["a"].read(&own).await;
    cluster["a"].read(&copy).await;
    let mut seen: Vec<_> =
        sorted(&cluster["a"]).into_iter().map(|entry| (entry.key.to_string(), entry.place)).collect();
    let mut expected = vec![(own, Source::Main), (copy, Source::Hot)];
    seen.sort_by(|one, other| one.0.cmp(&other.0));
    expected.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(seen, expected);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_says_how_old_entries_are_and_how_long_they_stay_fresh() {
    let cluster = alone(ms(10_000));
    cluster["a"].read("key").await;
    sleep(ms(4_000)).await;
    let [entry] = sorted(&cluster["a"]).try_into().unwrap();
    assert_about(entry.age, ms(4_000));
    assert_about(entry.remaining.unwrap(), ms(6_000));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_shows_a_cached_not_found_as_no_value() {
    let cluster = Cluster::with(["a"], |group| group.negative_ttl(ms(1_000)));
    cluster.origin.health(Health::Empty);
    cluster["a"].read("key").await;
    let [entry] = sorted(&cluster["a"]).try_into().unwrap();
    assert_eq!((entry.value, entry.place), (None, Source::Main));
}

#[tokio::test]
async fn an_answer_says_where_it_came_from() {
    let cluster = Cluster::new(["a"]);
    assert_eq!(cluster["a"].source("key").await, Source::Origin);
    assert_eq!(cluster["a"].source("key").await, Source::Main);
}
