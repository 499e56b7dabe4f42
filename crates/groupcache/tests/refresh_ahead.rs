//! Refresh ahead: a value is loaded again before it expires, so that no caller waits.

mod support;

use peercache_groupcache::Source;
use support::{
    cluster::{AB, Cluster, Node},
    ms,
    origin::Health,
    settle,
};
use tokio::time::sleep;

/// The number of reads, one every 10 ms, that waited.
async fn waits(node: &Node, key: &str, reads: u32) -> u32 {
    let mut waits = 0;
    for _ in 0..reads {
        if node.read_at_once(key).await == "waits" {
            waits += 1;
        }
        sleep(ms(10)).await;
    }
    waits
}

/// Values live 1 s and take 50 ms to load.
fn slow_and_short(refresh_ahead: f64) -> Cluster {
    let cluster = Cluster::with(AB, |group| group.time_to_live(ms(1_000)).refresh_ahead(refresh_ahead));
    cluster.origin.delay(ms(50));
    cluster
}

#[tokio::test(start_paused = true)]
async fn with_refresh_ahead_no_caller_waits_after_the_first_load() {
    let cluster = slow_and_short(0.8);
    let key = cluster.key_of("a");
    cluster["a"].read(&key).await;
    assert_eq!(waits(&cluster["a"], &key, 1_000).await, 0);
}

#[tokio::test(start_paused = true)]
async fn without_refresh_ahead_some_callers_wait() {
    let cluster = slow_and_short(1.0);
    let key = cluster.key_of("a");
    cluster["a"].read(&key).await;
    assert!(waits(&cluster["a"], &key, 1_000).await >= 9);
}

#[tokio::test(start_paused = true)]
async fn with_refresh_ahead_no_caller_waits_for_a_copy_either() {
    let cluster = slow_and_short(0.8);
    let key = cluster.key_of("b");
    cluster["a"].read(&key).await;
    assert_eq!(waits(&cluster["a"], &key, 1_000).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_ahead_is_one_load_per_time_to_live() {
    let cluster = slow_and_short(0.8);
    let key = cluster.key_of("a");
    cluster["a"].read(&key).await;
    waits(&cluster["a"], &key, 1_000).await;
    assert!((11..=13).contains(&cluster.origin.calls()), "{} loads in 10 s", cluster.origin.calls());
}

#[tokio::test(start_paused = true)]
async fn a_refresh_ahead_starts_when_it_is_due_and_not_sooner() {
    let cluster = slow_and_short(0.8);
    let key = cluster.key_of("a");
    cluster["a"].read(&key).await;
    sleep(ms(760)).await;
    cluster["a"].read(&key).await;
    settle().await;
    assert_eq!(cluster.origin.calls(), 1);
    sleep(ms(60)).await;
    cluster["a"].read(&key).await;
    settle().await;
    assert_eq!(cluster.origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_value_refreshed_ahead_is_never_stale() {
    let cluster = slow_and_short(0.8);
    let key = cluster.key_of("a");
    cluster["a"].read(&key).await;
    for _ in 0..500 {
        assert_eq!(cluster["a"].source(&key).await, Source::Main);
        sleep(ms(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_ahead_that_fails_keeps_the_value_to_its_end() {
    let cluster = Cluster::with(["a"], |group| group.time_to_live(ms(1_000)).refresh_ahead(0.5));
    cluster["a"].read("key").await;
    cluster.origin.health(Health::Fails);
    sleep(ms(600)).await;
    cluster["a"].read_at_once("key").await;
    sleep(ms(370)).await;
    assert_eq!(cluster["a"].read_at_once("key").await, "main v1");
    sleep(ms(30)).await;
    assert_eq!(cluster["a"].read_detailed("key").await, "LoadFailed");
}

#[tokio::test(start_paused = true)]
async fn refreshes_that_fail_back_off() {
    let cluster = Cluster::with(["a"], |group| group.time_to_live(ms(10_000)).refresh_ahead(0.5));
    cluster["a"].read("key").await;
    cluster.origin.health(Health::Fails);
    sleep(ms(6_000)).await;
    assert_eq!(waits(&cluster["a"], "key", 100).await, 0);
    assert!(cluster.origin.calls() <= 6, "{} calls in 1 s", cluster.origin.calls());
}

#[tokio::test(start_paused = true)]
async fn a_value_that_does_not_expire_is_not_refreshed() {
    let cluster = Cluster::with(["a"], |group| group.refresh_ahead(0.1));
    cluster["a"].read("key").await;
    sleep(ms(60_000)).await;
    assert_eq!(waits(&cluster["a"], "key", 10).await, 0);
    assert_eq!(cluster.origin.calls(), 1);
}
