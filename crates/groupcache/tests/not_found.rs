//! A "not found": how long it is kept, how it travels, and what is none.

mod support;

use std::time::Duration;

use peercache_groupcache::ErrorKind;
use support::{
    GROUP,
    cluster::{AB, Cluster},
    origin::Mood,
    ms,
};
use tokio::time::sleep;

/// A cluster that caches for so long that there is no such key.
fn cluster_without(key_life: Duration) -> (Cluster, String) {
    let cluster = Cluster::with(AB, |group| group.negative_ttl(key_life));
    let key = cluster.key_of("b");
    cluster.db.delete(&key);
    (cluster, key)
}

#[tokio::test(start_paused = true)]
async fn a_not_found_is_cached_as_long_as_the_group_says() {
    let (cluster, key) = cluster_without(ms(1_000));
    assert_eq!(cluster["b"].read(&key).await, "NotFound");
    sleep(ms(970)).await;
    assert_eq!(cluster["b"].read(&key).await, "NotFound");
    assert_eq!(cluster.db.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_not_found_is_cached_no_longer_than_the_group_says() {
    let (cluster, key) = cluster_without(ms(1_000));
    cluster["b"].read(&key).await;
    cluster.db.put(&key, "new");
    sleep(ms(1_000)).await;
    assert_eq!(cluster["b"].read(&key).await, "new");
}

#[tokio::test(start_paused = true)]
async fn a_not_found_is_not_cached_unless_the_group_says_so() {
    let cluster = Cluster::new(["a"]);
    cluster.db.mood(Mood::HasNothing);
    for _ in 0..5 {
        assert_eq!(cluster["a"].read("key").await, "NotFound");
    }
    assert_eq!((cluster.db.calls(), cluster["a"].bytes()), (5, 0));
}

#[tokio::test(start_paused = true)]
async fn a_cached_not_found_is_nothing_to_peek_at() {
    let (cluster, key) = cluster_without(ms(1_000));
    cluster["b"].read(&key).await;
    assert!(cluster["b"].group.peek(&key).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_cached_not_found_is_charged_and_given_back() {
    let (cluster, key) = cluster_without(ms(1_000));
    cluster["b"].read(&key).await;
    assert!(cluster["b"].bytes() > 0);
    sleep(ms(1_100)).await;
    assert_eq!(cluster["b"].bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_not_found_travels_as_itself() {
    let (cluster, key) = cluster_without(ms(1_000));
    assert_eq!(cluster["a"].read(&key).await, "NotFound");
    assert_eq!((cluster.db.calls_of("a"), cluster.db.calls_of("b")), (0, 1));
    assert_eq!(cluster["a"].group.stats().peer_errors, 0);
}

#[tokio::test(start_paused = true)]
async fn the_owners_not_found_is_kept_by_who_asked() {
    let (cluster, key) = cluster_without(ms(1_000));
    for _ in 0..5 {
        assert_eq!(cluster["a"].read(&key).await, "NotFound");
    }
    assert_eq!(cluster.net.asked("b"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_owners_not_found_is_kept_no_longer_than_at_its_owner() {
    let (cluster, key) = cluster_without(ms(2_000));
    cluster["b"].read(&key).await;
    sleep(ms(1_500)).await;
    assert_eq!(cluster["a"].read(&key).await, "NotFound");
    cluster.db.put(&key, "new");
    sleep(ms(500)).await;
    assert_eq!(cluster.read(&key).await, "new new");
}

#[tokio::test(start_paused = true)]
async fn a_not_found_that_its_owner_does_not_keep_is_not_kept_elsewhere() {
    let mut cluster = Cluster::new(["b"]);
    cluster.add("a", &AB, |group| group.negative_ttl(ms(60_000)));
    cluster.set_members(&["b"], &AB);
    let key = cluster.key_of("b");
    cluster.db.delete(&key);
    assert_eq!(cluster["a"].read(&key).await, "NotFound");
    cluster.db.put(&key, "new");
    assert_eq!(cluster["a"].read(&key).await, "new");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_does_not_know_the_group_is_no_not_found() {
    let cluster = Cluster::with(AB, |group| group.negative_ttl(ms(60_000)));
    let key = cluster.key_of("b");
    cluster["b"].groups.remove(GROUP);
    assert_eq!(cluster["a"].read(&key).await, "v1");
}

#[tokio::test(start_paused = true)]
async fn a_load_that_fails_is_no_not_found_and_is_not_kept_as_one() {
    let cluster = Cluster::with(AB, |group| group.negative_ttl(ms(60_000)));
    let key = cluster.key_of("b");
    cluster.db.mood(Mood::Fails);
    assert_eq!(cluster.read(&key).await, "LoadFailed LoadFailed");
    cluster.db.mood(Mood::Fine);
    sleep(ms(1_100)).await;
    assert_eq!(cluster.read(&key).await, "v1 v1");
}

#[tokio::test(start_paused = true)]
async fn a_cached_not_found_keeps_its_kind() {
    let (cluster, key) = cluster_without(ms(1_000));
    cluster["b"].read(&key).await;
    let error = cluster["b"].group.get(&key).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
