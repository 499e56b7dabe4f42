//! Stale answers: at once while a new value is loaded, or when none can be loaded.

mod support;

use std::time::Duration;

use peercache_groupcache::{Bytes, GroupBuilder, Source};
use support::{
    cluster::{AB, Cluster, Settings},
    keys, ms,
    net::{Kind::Answers, reply},
    origin::Health,
    outside_a_runtime, settle,
};
use tokio::time::sleep;

/// Values have a time to live of 1 s, and are answered 5 s more while a new one is loaded.
fn revalidating(group: GroupBuilder<Bytes>) -> GroupBuilder<Bytes> {
    group.time_to_live(ms(1_000)).stale_while_revalidate(ms(5_000)).error_backoff(ms(0), ms(0))
}

/// Values have a time to live of 1 s, and are answered 5 s more if the origin fails.
fn forgiving(group: GroupBuilder<Bytes>) -> GroupBuilder<Bytes> {
    group.time_to_live(ms(1_000)).stale_if_error(ms(5_000)).error_backoff(ms(0), ms(0))
}

/// A node alone that has loaded `key` this long ago.
async fn alone_with_a_value_of_age(age: Duration, set: impl Settings) -> Cluster {
    let cluster = Cluster::with(["a"], set);
    cluster["a"].read("key").await;
    sleep(age).await;
    cluster
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_is_answered_at_once() {
    let cluster = alone_with_a_value_of_age(ms(1_100), revalidating).await;
    cluster.origin.hold();
    assert_eq!(cluster["a"].read_at_once("key").await, "stale v1");
}

#[tokio::test(start_paused = true)]
async fn reads_of_a_stale_value_start_one_load_in_the_background() {
    let cluster = alone_with_a_value_of_age(ms(1_100), revalidating).await;
    cluster.origin.hold();
    for _ in 0..50 {
        assert_eq!(cluster["a"].read_at_once("key").await, "stale v1");
        settle().await;
    }
    assert_eq!(cluster.origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_load_in_the_background_brings_the_new_value() {
    let cluster = alone_with_a_value_of_age(ms(1_100), revalidating).await;
    cluster.origin.change();
    cluster["a"].read_at_once("key").await;
    settle().await;
    assert_eq!(cluster["a"].read_at_once("key").await, "main v2");
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_says_how_old_it_is_and_that_no_time_remains() {
    let cluster = alone_with_a_value_of_age(ms(3_000), revalidating).await;
    let answer = cluster["a"].answer("key").await;
    assert_eq!((answer.source, answer.remaining), (Source::Stale, Some(Duration::ZERO)));
    assert!((ms(2_980)..=ms(3_010)).contains(&answer.age), "{:?}", answer.age);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_nobody_asks_for_is_not_loaded_in_the_background() {
    let cluster = alone_with_a_value_of_age(ms(5_900), revalidating).await;
    assert_eq!(cluster.origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_the_stale_time_a_caller_waits_for_the_new_value() {
    let cluster = alone_with_a_value_of_age(ms(6_000), revalidating).await;
    cluster.origin.change();
    assert_eq!(cluster["a"].read_at_once("key").await, "waits");
    assert_eq!(cluster["a"].read_detailed("key").await, "origin v2");
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_is_peeked() {
    let cluster = alone_with_a_value_of_age(ms(1_100), revalidating).await;
    assert_eq!(cluster["a"].group.peek("key").unwrap().source, Source::Stale);
    sleep(ms(4_900)).await;
    assert!(cluster["a"].group.peek("key").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stale_values_bytes_are_freed_after_the_stale_time() {
    let cluster = alone_with_a_value_of_age(ms(5_900), revalidating).await;
    assert!(cluster["a"].bytes() > 0);
    sleep(ms(200)).await;
    assert_eq!(cluster["a"].bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_load_in_the_background_that_fails_keeps_the_old_value() {
    let cluster = alone_with_a_value_of_age(ms(1_100), revalidating).await;
    cluster.origin.health(Health::Fails);
    for _ in 0..3 {
        for _ in 0..5 {
            assert_eq!(cluster["a"].read_at_once("key").await, "stale v1");
            settle().await;
        }
        sleep(ms(128)).await;
    }
    // The hits that came side by side have started one load for all.
    assert_eq!(cluster.origin.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_load_in_the_background_that_panics_keeps_the_old_value() {
    let cluster = alone_with_a_value_of_age(ms(1_100), revalidating).await;
    cluster.origin.health(Health::Panics);
    cluster["a"].read_at_once("key").await;
    settle().await;
    assert_eq!(cluster["a"].read_at_once("key").await, "stale v1");
}

#[tokio::test(start_paused = true)]
async fn loads_in_the_background_that_fail_back_off() {
    let cluster =
        alone_with_a_value_of_age(ms(1_100), |group| revalidating(group).error_backoff(ms(100), ms(1_000))).await;
    cluster.origin.health(Health::Fails);
    for _ in 0..100 {
        assert_eq!(cluster["a"].read_at_once("key").await, "stale v1");
        sleep(ms(10)).await;
    }
    assert!((3..=6).contains(&cluster.origin.calls()), "{} calls in 1 s", cluster.origin.calls());
}

#[tokio::test(start_paused = true)]
async fn a_load_in_the_background_that_finds_nothing_ends_the_old_value() {
    let cluster = alone_with_a_value_of_age(ms(1_100), revalidating).await;
    cluster.origin.delete("key");
    cluster["a"].read_at_once("key").await;
    settle().await;
    assert_eq!(cluster["a"].read_detailed("key").await, "NotFound");
}

#[tokio::test(start_paused = true)]
async fn a_stale_not_found_is_not_answered() {
    let cluster = Cluster::with(["a"], |group| revalidating(group).negative_ttl(ms(1_000)));
    cluster.origin.delete("key");
    cluster["a"].read("key").await;
    cluster.origin.put("key", "new");
    sleep(ms(1_100)).await;
    assert_eq!(cluster["a"].read_detailed("key").await, "origin new");
}

/// A cluster whose value is stale at both nodes, and the key, which `b` owns.
async fn stale_everywhere() -> (Cluster, String) {
    let cluster = Cluster::with(AB, revalidating);
    let key = cluster.key_of("b");
    assert_eq!(cluster.read(&key).await, "v1 v1");
    cluster.origin.change();
    cluster.net.clear_log();
    sleep(ms(1_100)).await;
    (cluster, key)
}

#[tokio::test(start_paused = true)]
async fn a_stale_copy_is_answered_at_once() {
    let (cluster, key) = stale_everywhere().await;
    cluster.origin.hold();
    assert_eq!(cluster["a"].read_at_once(&key).await, "stale v1");
}

#[tokio::test(start_paused = true)]
async fn reads_of_a_stale_copy_start_one_fetch_and_one_load() {
    let (cluster, key) = stale_everywhere().await;
    cluster.origin.hold();
    for _ in 0..50 {
        assert_eq!(cluster["a"].read_at_once(&key).await, "stale v1");
        settle().await;
    }
    assert_eq!((cluster.net.asked("b"), cluster.origin.calls()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn reads_of_a_stale_value_at_two_nodes_start_one_load() {
    let (cluster, key) = stale_everywhere().await;
    cluster.origin.hold();
    for _ in 0..20 {
        assert_eq!(cluster["a"].read_at_once(&key).await, "stale v1");
        assert_eq!(cluster["b"].read_at_once(&key).await, "stale v1");
        settle().await;
    }
    assert_eq!(cluster.origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_fetch_in_the_background_brings_the_new_value() {
    let (cluster, key) = stale_everywhere().await;
    cluster["a"].read_at_once(&key).await;
    settle().await;
    assert_eq!(cluster["a"].read_at_once(&key).await, "hot v2");
    assert_eq!(cluster["b"].read_at_once(&key).await, "main v2");
}

#[tokio::test(start_paused = true)]
async fn a_fetch_in_the_background_asks_for_a_fresh_value() {
    let (cluster, key) = stale_everywhere().await;
    cluster["a"].read_at_once(&key).await;
    settle().await;
    let asked: Vec<bool> = cluster.net.requests("b").iter().map(|request| request.terms.fresh).collect();
    assert_eq!(asked, [true]);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_in_the_background_whose_load_fails_keeps_the_old_copy() {
    let (cluster, key) = stale_everywhere().await;
    cluster.origin.health(Health::Fails);
    for _ in 0..3 {
        assert_eq!(cluster["a"].read_at_once(&key).await, "stale v1");
        settle().await;
    }
}

/// The fetched value is not cached, and to answer the old one after it would be to go back in time.
#[tokio::test(start_paused = true)]
async fn a_fetch_in_the_background_that_ends_under_another_ring_ends_the_old_copy() {
    let (cluster, key) = stale_everywhere().await;
    cluster.net.pause("b", Answers);
    assert_eq!(cluster["a"].read_at_once(&key).await, "stale v1");
    cluster.net.until_paused("b", Answers, 1).await;
    cluster["a"].members.set(["a", "b", "c"]).unwrap();
    assert_eq!(cluster["a"].items(), 1);
    cluster.net.resume("b", Answers);
    settle().await;
    assert_eq!(cluster["a"].items(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_owner_answers_a_peer_with_a_stale_value_at_once() {
    let cluster = Cluster::with(AB, revalidating);
    let key = cluster.key_of("b");
    cluster["b"].read(&key).await;
    cluster.origin.change();
    cluster.origin.hold();
    sleep(ms(1_100)).await;
    assert_eq!(cluster["a"].read_detailed(&key).await, "stale v1");
    settle().await;
    assert_eq!(cluster.origin.calls(), 2, "one load in the background at the owner");
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_of_the_owner_is_not_kept_as_a_copy() {
    let cluster = Cluster::with(AB, revalidating);
    let key = cluster.key_of("b");
    cluster["b"].read(&key).await;
    cluster.origin.change();
    cluster.origin.hold();
    sleep(ms(1_100)).await;
    cluster["a"].read_detailed(&key).await;
    assert_eq!(cluster["a"].items(), 0);
}

/// `hot_ttl` bounds the answers of a node that cannot be reached, whatever staleness is allowed
/// besides.
#[tokio::test(start_paused = true)]
async fn a_copy_past_hot_ttl_is_not_answered_however_stale_it_may_be() {
    let cluster = Cluster::with(AB, |group| {
        group.time_to_live(ms(1_000)).hot_ttl(ms(2_000)).stale_while_revalidate(ms(60_000)).stale_if_error(ms(60_000))
    });
    let key = cluster.key_of("b");
    cluster["a"].read(&key).await;
    sleep(ms(2_000)).await;
    cluster.origin.health(Health::Fails);
    cluster.net.cut("b");
    assert_eq!(cluster["a"].read_detailed(&key).await, "LoadFailed");
}

#[tokio::test(start_paused = true)]
async fn while_the_origin_fails_the_old_value_is_answered() {
    let cluster = alone_with_a_value_of_age(ms(2_000), forgiving).await;
    cluster.origin.health(Health::Fails);
    assert_eq!(cluster["a"].read_detailed("key").await, "stale v1");
    assert_eq!(cluster.origin.calls(), 2, "the origin was asked first");
}

#[tokio::test(start_paused = true)]
async fn while_the_origin_is_fine_nothing_old_is_answered() {
    let cluster = alone_with_a_value_of_age(ms(1_100), forgiving).await;
    cluster.origin.change();
    assert_eq!(cluster["a"].read_detailed("key").await, "origin v2");
}

#[tokio::test(start_paused = true)]
async fn while_the_origin_panics_or_takes_too_long_the_old_value_is_answered() {
    let cluster = alone_with_a_value_of_age(ms(2_000), |group| forgiving(group).load_timeout(ms(500))).await;
    cluster.origin.health(Health::Panics);
    assert_eq!(cluster["a"].read_detailed("key").await, "stale v1");
    cluster.origin.health(Health::Fine);
    cluster.origin.hold();
    assert_eq!(cluster["a"].read_detailed("key").await, "stale v1");
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_no_longer_has_the_key_is_believed() {
    let cluster = alone_with_a_value_of_age(ms(2_000), forgiving).await;
    cluster.origin.delete("key");
    assert_eq!(cluster["a"].read_detailed("key").await, "NotFound");
    cluster.origin.health(Health::Fails);
    assert_eq!(cluster["a"].read_detailed("key").await, "LoadFailed");
}

#[tokio::test(start_paused = true)]
async fn past_the_time_for_errors_an_error_is_an_error() {
    let cluster = alone_with_a_value_of_age(ms(6_000), forgiving).await;
    cluster.origin.health(Health::Fails);
    assert_eq!(cluster["a"].read_detailed("key").await, "LoadFailed");
}

#[tokio::test(start_paused = true)]
async fn the_stale_time_for_errors_may_be_longer_than_the_one_for_refreshes() {
    let cluster = alone_with_a_value_of_age(ms(1_500), |group| {
        revalidating(group).stale_while_revalidate(ms(1_000)).stale_if_error(ms(5_000))
    })
    .await;
    cluster.origin.health(Health::Fails);
    assert_eq!(cluster["a"].read_at_once("key").await, "stale v1");
    sleep(ms(1_000)).await;
    assert_eq!(cluster["a"].read_at_once("key").await, "waits");
    assert_eq!(cluster["a"].read_detailed("key").await, "stale v1");
    sleep(ms(3_500)).await;
    assert_eq!(cluster["a"].read_detailed("key").await, "LoadFailed");
}

#[tokio::test(start_paused = true)]
async fn the_owners_old_value_is_answered_elsewhere_and_marked() {
    let cluster = Cluster::with(AB, forgiving);
    let key = cluster.key_of("b");
    cluster["b"].read(&key).await;
    cluster.origin.health(Health::Fails);
    sleep(ms(2_000)).await;
    assert_eq!(cluster["a"].read_detailed(&key).await, "stale v1");
    assert_eq!((cluster["a"].items(), cluster.origin.calls_of("a")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_of_the_owner_leaves_an_old_copy_where_it_is() {
    let cluster = Cluster::with(AB, forgiving);
    let key = cluster.key_of("b");
    cluster["a"].read(&key).await;
    cluster.origin.health(Health::Fails);
    sleep(ms(2_000)).await;
    assert_eq!(cluster["a"].read_detailed(&key).await, "stale v1");
    assert_eq!(cluster["a"].items(), 1);
}

/// A peer of another version may say that a stale value has time left.
#[tokio::test(start_paused = true)]
async fn a_value_that_a_peer_calls_stale_is_not_cached_whatever_time_remains() {
    let cluster = Cluster::new(AB);
    let key = cluster.key_of("b");
    cluster.net.hold_requests("b");
    let waiting = cluster["a"].caller(&key);
    cluster.net.until_asked("b", 1).await;
    cluster.net.answer_held("b", || reply("old", |facts| (facts.stale, facts.remaining) = (true, Some(ms(60_000)))));
    assert_eq!(waiting.await.unwrap(), "old");
    assert_eq!(cluster["a"].items(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_old_copy_is_answered_when_neither_owner_nor_origin_can_be_asked() {
    let cluster = Cluster::with(AB, forgiving);
    let key = cluster.key_of("b");
    cluster["a"].read(&key).await;
    cluster.origin.health(Health::Fails);
    cluster.net.cut("b");
    sleep(ms(2_000)).await;
    assert_eq!(cluster["a"].read_detailed(&key).await, "stale v1");
}

#[tokio::test(start_paused = true)]
async fn all_who_waited_for_the_load_that_failed_get_the_old_value() {
    let cluster = alone_with_a_value_of_age(ms(2_000), forgiving).await;
    cluster.origin.health(Health::Fails);
    cluster.origin.hold();
    let callers = [(), (), ()].map(|()| cluster["a"].caller("key"));
    cluster.origin.until_called(2).await;
    settle().await;
    cluster.origin.release();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), "v1");
    }
}

#[tokio::test(start_paused = true)]
async fn many_stale_values_are_answered_at_once_and_loaded_in_the_background() {
    let cluster = Cluster::with(AB, revalidating);
    cluster["a"].read_many(&keys(20)).await;
    cluster.origin.change();
    sleep(ms(1_100)).await;
    assert_eq!(cluster["a"].read_many(&keys(20)).await, ["v1"; 20]);
    settle().await;
    assert_eq!(cluster["a"].read_many(&keys(20)).await, ["v2"; 20]);
    assert_eq!(cluster.origin.calls(), 40);
}

#[test]
fn outside_a_runtime_a_stale_value_is_answered_all_the_same() {
    let cluster = Cluster::with(["a"], revalidating);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        cluster["a"].read("key").await;
        sleep(ms(1_100)).await;
    });
    let answer = outside_a_runtime(cluster["a"].group.get("key").detailed());
    assert_eq!(answer.unwrap().source, Source::Stale);
}
