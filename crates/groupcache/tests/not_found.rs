//! A "not found": how long it is cached, how it travels, and which errors are none.

mod support;

use std::time::Duration;

use peercache_groupcache::ErrorKind;
use support::{
    GROUP,
    cluster::{AB, Cluster},
    ms,
    origin::Health,
};
use tokio::time::sleep;

/// Two nodes that cache a "not found" for this long, and a key of `b` that does not exist.
fn cluster_with(negative_ttl: Duration) -> (Cluster, String) {
    let cluster = Cluster::with(AB, |group| group.negative_ttl(negative_ttl));
    let key = cluster.key_of("b");
    cluster.origin.delete(&key);
    (cluster, key)
}

#[tokio::test(start_paused = true)]
async fn a_not_found_is_cached_as_long_as_the_group_says() {
    let (cluster, key) = cluster_with(ms(1_000));
    assert_eq!(cluster["b"].read(&key).await, "NotFound");
    sleep(ms(970)).await;
    assert_eq!(cluster["b"].read(&key).await, "NotFound");
    assert_eq!(cluster.origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_not_found_is_cached_no_longer_than_the_group_says() {
    let (cluster, key) = cluster_with(ms(1_000));
    cluster["b"].read(&key).await;
    cluster.origin.put(&key, "new");
    sleep(ms(1_000)).await;
    assert_eq!(cluster["b"].read(&key).await, "new");
}

#[tokio::test(start_paused = true)]
async fn a_not_found_is_not_cached_unless_the_group_says_so() {
    let cluster = Cluster::new(["a"]);
    cluster.origin.health(Health::Empty);
    for _ in 0..5 {
        assert_eq!(cluster["a"].read("key").await, "NotFound");
    }
    assert_eq!((cluster.origin.calls(), cluster["a"].bytes()), (5, 0));
}

#[tokio::test(start_paused = true)]
async fn a_peek_does_not_show_a_cached_not_found() {
    let (cluster, key) = cluster_with(ms(1_000));
    cluster["b"].read(&key).await;
    assert!(cluster["b"].group.peek(&key).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_cached_not_found_is_charged_to_the_budget_and_freed() {
    let (cluster, key) = cluster_with(ms(1_000));
    cluster["b"].read(&key).await;
    assert!(cluster["b"].bytes() > 0);
    sleep(ms(1_100)).await;
    assert_eq!(cluster["b"].bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_not_found_travels_as_itself() {
    let (cluster, key) = cluster_with(ms(1_000));
    assert_eq!(cluster["a"].read(&key).await, "NotFound");
    assert_eq!((cluster.origin.calls_of("a"), cluster.origin.calls_of("b")), (0, 1));
    assert_eq!(cluster["a"].group.stats().peer_errors, 0);
}

#[tokio::test(start_paused = true)]
async fn the_owners_not_found_is_cached_by_the_asking_node() {
    let (cluster, key) = cluster_with(ms(1_000));
    for _ in 0..5 {
        assert_eq!(cluster["a"].read(&key).await, "NotFound");
    }
    assert_eq!(cluster.net.asked("b"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_owners_not_found_is_cached_no_longer_than_at_its_owner() {
    let (cluster, key) = cluster_with(ms(2_000));
    cluster["b"].read(&key).await;
    sleep(ms(1_500)).await;
    assert_eq!(cluster["a"].read(&key).await, "NotFound");
    cluster.origin.put(&key, "new");
    sleep(ms(500)).await;
    assert_eq!(cluster.read(&key).await, "new new");
}

#[tokio::test(start_paused = true)]
async fn a_not_found_that_its_owner_does_not_cache_is_cached_nowhere() {
    let mut cluster = Cluster::new(["b"]);
    cluster.add("a", &AB, |group| group.negative_ttl(ms(60_000)));
    cluster.set_members(&["b"], &AB);
    let key = cluster.key_of("b");
    cluster.origin.delete(&key);
    assert_eq!(cluster["a"].read(&key).await, "NotFound");
    cluster.origin.put(&key, "new");
    assert_eq!(cluster["a"].read(&key).await, "new");
}

#[tokio::test(start_paused = true)]
async fn an_owner_without_the_group_is_no_not_found() {
    let cluster = Cluster::with(AB, |group| group.negative_ttl(ms(60_000)));
    let key = cluster.key_of("b");
    cluster["b"].groups.remove(GROUP);
    assert_eq!(cluster["a"].read(&key).await, "v1");
}

#[tokio::test(start_paused = true)]
async fn a_load_that_fails_is_no_not_found_and_is_not_cached_as_one() {
    let cluster = Cluster::with(AB, |group| group.negative_ttl(ms(60_000)));
    let key = cluster.key_of("b");
    cluster.origin.health(Health::Fails);
    assert_eq!(cluster.read(&key).await, "LoadFailed LoadFailed");
    cluster.origin.health(Health::Fine);
    sleep(ms(1_100)).await;
    assert_eq!(cluster.read(&key).await, "v1 v1");
}

#[tokio::test(start_paused = true)]
async fn a_cached_not_found_keeps_its_kind() {
    let (cluster, key) = cluster_with(ms(1_000));
    cluster["b"].read(&key).await;
    let error = cluster["b"].group.get(&key).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
