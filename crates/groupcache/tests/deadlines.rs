//! Deadlines: they end a caller's wait, travel to the owner, and leave the load to those who still
//! wait.

mod support;

use std::time::Duration;

use peercache_groupcache::{ErrorKind, Terms};
use support::{
    cluster::{AB, Cluster, outcomes},
    ms, settle, soon,
};
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_wait_and_the_load_goes_on() {
    let cluster = Cluster::new(["a"]);
    cluster.origin.hold();
    let began = Instant::now();
    assert_eq!(cluster["a"].read_within("key", ms(100)).await, "DeadlineExceeded");
    assert!(began.elapsed() < ms(110), "{:?}", began.elapsed());
    cluster.origin.release();
    assert_eq!(cluster["a"].read("key").await, "v1");
    assert_eq!((cluster.origin.calls(), cluster["a"].group.stats().main.items), (1, 1));
}

#[tokio::test]
async fn a_deadline_that_has_passed_starts_no_load() {
    let cluster = Cluster::new(["a"]);
    assert_eq!(cluster["a"].read_within("key", Duration::ZERO).await, "DeadlineExceeded");
    assert_eq!(cluster.origin.calls(), 0);
}

#[tokio::test]
async fn a_deadline_that_has_passed_still_gets_a_cached_value() {
    let cluster = Cluster::new(["a"]);
    cluster["a"].read("key").await;
    assert_eq!(cluster["a"].read_within("key", Duration::ZERO).await, "v1");
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_deadline_passes_in_a_queue_starts_no_load() {
    for busy in AB {
        let (cluster, key) = Cluster::with_busy(busy).await;
        assert_eq!(cluster["a"].read_within(&key, ms(100)).await, "DeadlineExceeded");
        cluster.origin.release();
        sleep(ms(1_000)).await;
        assert_eq!(cluster.origin.calls(), 1, "{busy} is busy");
    }
}

#[tokio::test(start_paused = true)]
async fn the_remaining_time_is_sent_to_the_owner() {
    let (cluster, key) = Cluster::with_busy("b").await;
    cluster["a"].read_within(&key, ms(100)).await;
    assert_eq!(cluster.net.requests("b")[0].terms.timeout, Some(ms(100)));
}

#[tokio::test(start_paused = true)]
async fn without_a_deadline_none_is_sent() {
    let cluster = Cluster::new(AB);
    cluster["a"].read(&cluster.key_of("b")).await;
    assert_eq!(cluster.net.requests("b")[0].terms.timeout, None);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_arrives_after_its_deadline_starts_no_load() {
    let cluster = Cluster::new(AB);
    let key = cluster.key_of("b");
    let terms = Terms::new().timeout(Some(Duration::ZERO));
    let error = cluster["b"].answer_peer(&key, terms).await.unwrap_err();
    assert_eq!((error.kind(), cluster.origin.calls()), (ErrorKind::DeadlineExceeded, 0));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_is_served_when_another_has_left_the_queue() {
    let (cluster, key) = Cluster::with_busy("a").await;
    let hurried = cluster["a"].caller_within(&key, ms(100));
    settle().await;
    let patient = cluster["a"].caller(&key);
    assert_eq!(hurried.await.unwrap(), "DeadlineExceeded");
    sleep(ms(500)).await;
    cluster.origin.release();
    assert_eq!(patient.await.unwrap(), "v1");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_is_served_when_another_has_left_the_owners_queue() {
    let (cluster, key) = Cluster::with_busy("b").await;
    let hurried = cluster["a"].caller_within(&key, ms(100));
    settle().await;
    let patient = cluster["a"].caller(&key);
    assert_eq!(hurried.await.unwrap(), "DeadlineExceeded");
    sleep(ms(500)).await;
    cluster.origin.release();
    assert_eq!(patient.await.unwrap(), "v1");
    assert_eq!(cluster.origin.calls_of("a"), 0, "the owner is well, so nothing is loaded in its place");
}

#[tokio::test(start_paused = true)]
async fn one_callers_deadline_does_not_end_another_nodes_wait() {
    let (cluster, key) = Cluster::with_busy("b").await;
    let hurried = cluster["a"].caller_within(&key, ms(100));
    settle().await;
    let patient = cluster["b"].caller(&key);
    assert_eq!(hurried.await.unwrap(), "DeadlineExceeded");
    sleep(ms(500)).await;
    cluster.origin.release();
    assert_eq!(patient.await.unwrap(), "v1");
}

#[tokio::test(start_paused = true)]
async fn a_load_that_has_started_is_finished_after_the_deadline() {
    let cluster = Cluster::new(AB);
    let key = cluster.key_of("b");
    cluster.origin.hold();
    assert_eq!(cluster["a"].read_within(&key, ms(100)).await, "DeadlineExceeded");
    cluster.origin.release();
    settle().await;
    assert_eq!(cluster.cached(&key).split(' ').nth(1), Some("v1"));
}

#[tokio::test(start_paused = true)]
async fn the_remaining_time_is_sent_with_each_of_many_keys() {
    let cluster = Cluster::new(AB);
    let keys = cluster.keys_of("b", 3);
    soon(cluster["a"].group.get_many(&keys).timeout(ms(100))).await;
    let times: Vec<_> = cluster.net.requests("b").iter().map(|request| request.terms.timeout).collect();
    assert_eq!(times, [Some(ms(100)); 3]);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_beyond_all_clocks_is_none() {
    let cluster = Cluster::new(AB);
    let keys = cluster.keys_of("b", 2);
    assert_eq!(cluster["a"].read_within(&keys[0], Duration::MAX).await, "v1");
    assert_eq!(outcomes(soon(cluster["a"].group.get_many(&keys[1..]).timeout(Duration::MAX)).await), ["v1"]);
}
