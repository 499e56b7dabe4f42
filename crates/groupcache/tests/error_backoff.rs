//! Back-off after failed loads: how often the origin is asked, what is answered meanwhile, and what
//! it costs.

mod support;

use std::time::Duration;

use peercache_groupcache::Bytes;
use support::{
    cluster::{ABC, Cluster, Node},
    keys, ms,
    origin::{Call, Health},
};
use tokio::time::{Instant, sleep};

/// Three nodes whose origin fails, and a key of `b`.
fn failing(health: Health) -> (Cluster, String) {
    let cluster = Cluster::new(ABC);
    cluster.origin.health(health);
    let key = cluster.key_of("b");
    (cluster, key)
}

async fn read_by_100_at_once(cluster: &Cluster, key: &str) {
    let readers: Vec<_> = cluster.nodes().cycle().take(100).map(|node| node.caller(key)).collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), "LoadFailed");
    }
}

async fn read_50_times(cluster: &Cluster, key: &str) {
    for node in cluster.nodes().cycle().take(50) {
        assert_eq!(node.read(key).await, "LoadFailed");
        sleep(ms(20)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_reads_at_once_of_a_key_that_fails_cost_three_calls_at_most() {
    let (cluster, key) = failing(Health::Fails);
    read_by_100_at_once(&cluster, &key).await;
    assert!(cluster.origin.calls() <= 3, "{} calls", cluster.origin.calls());
}

#[tokio::test(start_paused = true)]
async fn a_hundred_reads_at_once_of_a_key_that_panics_cost_three_calls_at_most() {
    let (cluster, key) = failing(Health::Panics);
    read_by_100_at_once(&cluster, &key).await;
    assert!(cluster.origin.calls() <= 3, "{} calls", cluster.origin.calls());
}

#[tokio::test(start_paused = true)]
async fn fifty_reads_in_a_row_of_a_key_that_fails_cost_five_calls_at_most() {
    let (cluster, key) = failing(Health::Fails);
    read_50_times(&cluster, &key).await;
    assert!(cluster.origin.calls() <= 5, "{} calls", cluster.origin.calls());
}

#[tokio::test(start_paused = true)]
async fn fifty_reads_in_a_row_of_a_key_that_panics_cost_five_calls_at_most() {
    let (cluster, key) = failing(Health::Panics);
    read_50_times(&cluster, &key).await;
    assert!(cluster.origin.calls() <= 5, "{} calls", cluster.origin.calls());
}

#[tokio::test(start_paused = true)]
async fn during_the_backoff_a_key_is_answered_with_its_own_error() {
    let (cluster, key) = failing(Health::Fails);
    cluster["b"].read(&key).await;
    let error = cluster["b"].error(&key).await;
    assert_eq!(cluster.origin.calls(), 1);
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "disk on fire");
}

#[tokio::test(start_paused = true)]
async fn loads_that_time_out_back_off() {
    let cluster = Cluster::with(["a"], |group| group.load_timeout(ms(100)));
    cluster.origin.hold();
    for _ in 0..3 {
        assert_eq!(cluster["a"].read("key").await, "LoadTimedOut");
    }
    assert_eq!(cluster.origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_one_key_does_not_concern_another() {
    let cluster = Cluster::new(["a"]);
    cluster.origin.health(Health::Fails);
    cluster["a"].read("one").await;
    cluster.origin.health(Health::Fine);
    assert_eq!(cluster["a"].read("other").await, "v1");
}

#[tokio::test(start_paused = true)]
async fn without_a_backoff_the_origin_is_asked_each_time() {
    let cluster = Cluster::with(["a"], |group| group.error_backoff(ms(0), ms(1_000)));
    cluster.origin.health(Health::Fails);
    for _ in 0..10 {
        cluster["a"].read("key").await;
    }
    assert_eq!(cluster.origin.calls(), 10);
}

/// Reads `key` every 10 ms for this long.
async fn read_for(node: &Node, key: &str, time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        node.read(key).await;
        sleep(ms(10)).await;
    }
}

/// The times between calls, in tenths of a second.
fn gaps(calls: &[Call]) -> Vec<u128> {
    let gap = |pair: &[Call]| (pair[1].at - pair[0].at).as_millis();
    let rounded = |gap: u128| {
        assert!(gap % 100 <= 30, "{gap} ms");
        gap / 100
    };
    calls.windows(2).map(gap).map(rounded).collect()
}

#[tokio::test(start_paused = true)]
async fn the_backoff_doubles_up_to_its_longest() {
    let cluster = Cluster::new(["a"]);
    cluster.origin.health(Health::Fails);
    read_for(&cluster["a"], "key", ms(5_000)).await;
    assert_eq!(gaps(&cluster.origin.call_log()), [1, 2, 4, 8, 10, 10, 10]);
}

#[tokio::test(start_paused = true)]
async fn the_backoff_is_as_the_group_is_set() {
    let cluster = Cluster::with(["a"], |group| group.error_backoff(ms(300), ms(700)));
    cluster.origin.health(Health::Fails);
    read_for(&cluster["a"], "key", ms(3_500)).await;
    assert_eq!(gaps(&cluster.origin.call_log()), [3, 6, 7, 7, 7]);
}

#[tokio::test(start_paused = true)]
async fn after_a_success_the_backoff_begins_again() {
    let cluster = Cluster::new(["a"]);
    cluster.origin.health(Health::Fails);
    read_for(&cluster["a"], "key", ms(1_000)).await;
    cluster.origin.health(Health::Fine);
    cluster.origin.ttl(ms(100));
    read_for(&cluster["a"], "key", ms(2_000)).await;
    assert_eq!(cluster["a"].read("key").await, "v1");
    sleep(ms(100)).await;
    cluster.origin.health(Health::Fails);
    let calls = cluster.origin.calls();
    read_for(&cluster["a"], "key", ms(500)).await;
    assert_eq!(gaps(&cluster.origin.call_log()[calls..]), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_remove_ends_the_backoff() {
    let (cluster, key) = failing(Health::Fails);
    cluster["b"].read(&key).await;
    cluster.origin.health(Health::Fine);
    cluster["a"].group.remove(&key).await.unwrap();
    assert_eq!(cluster.read(&key).await, "v1 v1 v1");
}

#[tokio::test(start_paused = true)]
async fn a_clear_ends_the_backoff() {
    let (cluster, key) = failing(Health::Fails);
    cluster["b"].read(&key).await;
    cluster.origin.health(Health::Fine);
    cluster["a"].group.clear().await.unwrap();
    assert_eq!(cluster.read(&key).await, "v1 v1 v1");
}

#[tokio::test(start_paused = true)]
async fn a_value_that_is_set_is_answered_during_a_backoff() {
    let (cluster, key) = failing(Health::Fails);
    cluster["b"].read(&key).await;
    cluster["a"].group.set(&key, Bytes::from("set")).await.unwrap();
    assert_eq!(cluster.read(&key).await, "set set set");
}

#[tokio::test(start_paused = true)]
async fn a_not_found_does_not_back_off() {
    let (cluster, key) = failing(Health::Empty);
    cluster["b"].read(&key).await;
    cluster.origin.health(Health::Fine);
    assert_eq!(cluster["b"].read(&key).await, "v1");
}

#[tokio::test(start_paused = true)]
async fn three_seconds_after_the_origin_recovers_all_nodes_answer_fresh_values() {
    let cluster = Cluster::with(ABC, |group| group.time_to_live(ms(1_000)).stale_while_revalidate(ms(5_000)));
    let key = cluster.key_of("b");
    cluster.read(&key).await;
    cluster.origin.health(Health::Fails);
    cluster.origin.change();
    for _ in 0..300 {
        cluster.read(&key).await;
        sleep(ms(10)).await;
    }
    cluster.origin.health(Health::Fine);
    for _ in 0..300 {
        cluster.read(&key).await;
        sleep(ms(10)).await;
    }
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
    assert!(!cluster.sources(&key).await.contains("stale"));
}

#[tokio::test(start_paused = true)]
async fn three_seconds_after_the_origin_recovers_no_node_answers_with_the_error() {
    let (cluster, key) = failing(Health::Fails);
    for _ in 0..300 {
        cluster.read(&key).await;
        sleep(ms(10)).await;
    }
    cluster.origin.health(Health::Fine);
    sleep(ms(1_010)).await;
    assert_eq!(cluster.read(&key).await, "v1 v1 v1");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_fails_backs_off_at_a_stand_in_too() {
    let (cluster, key) = failing(Health::Fails);
    cluster.net.cut("b");
    for _ in 0..50 {
        assert_eq!(cluster["a"].read(&key).await, "LoadFailed");
        sleep(ms(20)).await;
    }
    assert!(cluster.origin.calls() <= 5, "{} calls", cluster.origin.calls());
}

#[tokio::test(start_paused = true)]
async fn keys_that_fail_are_remembered_within_the_budget() {
    let cluster = Cluster::with(["a"], |group| group.max_bytes(64 << 10).error_backoff(ms(60_000), ms(60_000)));
    cluster.origin.health(Health::Fails);
    for key in 0..10_000 {
        cluster["a"].read(&format!("key-{key}")).await;
    }
    assert!(cluster["a"].bytes() <= 64 << 10);
    let calls = cluster.origin.calls();
    cluster["a"].read("key-9999").await;
    assert_eq!(cluster.origin.calls(), calls, "the latest is remembered");
    for key in 0..10_000 {
        cluster["a"].read(&format!("key-{key}")).await;
    }
    assert!(cluster.origin.calls() > calls + 5_000, "most are forgotten");
}

#[tokio::test(start_paused = true)]
async fn keys_that_fail_evict_no_values() {
    let cluster = Cluster::with(["a"], |group| group.max_bytes(256 << 10));
    for key in 0..100 {
        cluster["a"].read(&format!("value-{key}")).await;
    }
    cluster.origin.health(Health::Fails);
    for key in 0..10_000 {
        cluster["a"].read(&format!("failing-{key}")).await;
    }
    assert_eq!(cluster["a"].items(), 100);
}

#[tokio::test(start_paused = true)]
async fn keys_that_fail_are_charged_to_the_budget() {
    let cluster = Cluster::with(["a"], |group| group.max_bytes(256 << 10).error_backoff(ms(60_000), ms(60_000)));
    cluster["a"].read_many(&keys(5_000)).await;
    let full = cluster["a"].bytes();
    cluster.origin.health(Health::Fails);
    for key in 0..100 {
        cluster["a"].read(&format!("failing-{key}")).await;
    }
    cluster.origin.health(Health::Fine);
    cluster["a"].read("one more").await;
    let left = cluster["a"].bytes();
    assert!(left + 10_000 < full, "{left} of {full} bytes left to values");
}
