//! Answers past their time to live: at once while a new value is loaded, or when none can be had.

mod support;

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use peercache_groupcache::{Bytes, GroupBuilder, PeerReply, Source};
use support::{
    cluster::{AB, Cluster},
    db::Mood,
    keys, ms,
    net::What::Answers,
    settle,
};
use tokio::time::sleep;

/// Values live 1 s, and are answered 5 s more while a new one is loaded.
fn revalidating(group: GroupBuilder<Bytes>) -> GroupBuilder<Bytes> {
    group.time_to_live(ms(1_000)).stale_while_revalidate(ms(5_000)).error_backoff(ms(0), ms(0))
}

/// Values live 1 s, and are answered 5 s more if the origin fails.
fn forgiving(group: GroupBuilder<Bytes>) -> GroupBuilder<Bytes> {
    group.time_to_live(ms(1_000)).stale_if_error(ms(5_000)).error_backoff(ms(0), ms(0))
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_is_answered_at_once() {
    let cluster = Cluster::with(["a"], revalidating);
    cluster["a"].read("key").await;
    cluster.db.hold();
    sleep(ms(1_100)).await;
    assert_eq!(cluster["a"].at_once("key").await, "stale v1");
}

#[tokio::test(start_paused = true)]
async fn reads_of_a_stale_value_start_one_load_in_the_background() {
    let cluster = Cluster::with(["a"], revalidating);
    cluster["a"].read("key").await;
    cluster.db.hold();
    sleep(ms(1_100)).await;
    for _ in 0..50 {
        assert_eq!(cluster["a"].at_once("key").await, "stale v1");
        settle().await;
    }
    assert_eq!(cluster.db.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_load_in_the_background_brings_the_new_value() {
    let cluster = Cluster::with(["a"], revalidating);
    cluster["a"].read("key").await;
    cluster.db.change();
    sleep(ms(1_100)).await;
    cluster["a"].at_once("key").await;
    settle().await;
    assert_eq!(cluster["a"].at_once("key").await, "main v2");
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_says_how_old_it_is_and_that_it_holds_no_more() {
    let cluster = Cluster::with(["a"], revalidating);
    cluster["a"].read("key").await;
    sleep(ms(3_000)).await;
    let answer = cluster["a"].answer("key").await;
    assert_eq!((answer.source, answer.remaining), (Source::Stale, Some(Duration::ZERO)));
    assert!((ms(2_980)..=ms(3_010)).contains(&answer.age), "{:?}", answer.age);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_nobody_asks_for_is_not_loaded_in_the_background() {
    let cluster = Cluster::with(["a"], revalidating);
    cluster["a"].read("key").await;
    sleep(ms(5_900)).await;
    assert_eq!(cluster.db.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_the_stale_time_a_caller_waits_for_the_new_value() {
    let cluster = Cluster::with(["a"], revalidating);
    cluster["a"].read("key").await;
    cluster.db.change();
    sleep(ms(6_000)).await;
    assert_eq!(cluster["a"].at_once("key").await, "waits");
    assert_eq!(cluster["a"].in_the_end("key").await, "origin v2");
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_is_peeked() {
    let cluster = Cluster::with(["a"], revalidating);
    cluster["a"].read("key").await;
    sleep(ms(1_100)).await;
    assert_eq!(cluster["a"].group.peek("key").unwrap().source, Source::Stale);
    sleep(ms(4_900)).await;
    assert!(cluster["a"].group.peek("key").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stale_values_bytes_are_given_back_after_the_stale_time() {
    let cluster = Cluster::with(["a"], revalidating);
    cluster["a"].read("key").await;
    sleep(ms(5_900)).await;
    assert!(cluster["a"].bytes() > 0);
    sleep(ms(200)).await;
    assert_eq!(cluster["a"].bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_load_in_the_background_that_fails_keeps_the_old_value() {
    let cluster = Cluster::with(["a"], revalidating);
    cluster["a"].read("key").await;
    cluster.db.mood(Mood::Fails);
    sleep(ms(1_100)).await;
    for _ in 0..3 {
        assert_eq!(cluster["a"].at_once("key").await, "stale v1");
        settle().await;
    }
    assert_eq!(cluster.db.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_load_in_the_background_that_panics_keeps_the_old_value() {
    let cluster = Cluster::with(["a"], revalidating);
    cluster["a"].read("key").await;
    cluster.db.mood(Mood::Panics);
    sleep(ms(1_100)).await;
    cluster["a"].at_once("key").await;
    settle().await;
    assert_eq!(cluster["a"].at_once("key").await, "stale v1");
}

#[tokio::test(start_paused = true)]
async fn loads_in_the_background_that_fail_back_off() {
    let cluster = Cluster::with(["a"], |group| revalidating(group).error_backoff(ms(100), ms(1_000)));
    cluster["a"].read("key").await;
    cluster.db.mood(Mood::Fails);
    sleep(ms(1_100)).await;
    for _ in 0..100 {
        assert_eq!(cluster["a"].at_once("key").await, "stale v1");
        sleep(ms(10)).await;
    }
    assert!((3..=6).contains(&cluster.db.calls()), "{} calls in 1 s", cluster.db.calls());
}

#[tokio::test(start_paused = true)]
async fn a_load_in_the_background_that_finds_nothing_ends_the_old_value() {
    let cluster = Cluster::with(["a"], revalidating);
    cluster["a"].read("key").await;
    cluster.db.delete("key");
    sleep(ms(1_100)).await;
    cluster["a"].at_once("key").await;
    settle().await;
    assert_eq!(cluster["a"].in_the_end("key").await, "NotFound");
}

#[tokio::test(start_paused = true)]
async fn a_stale_not_found_is_not_answered() {
    let cluster = Cluster::with(["a"], |group| revalidating(group).negative_ttl(ms(1_000)));
    cluster.db.delete("key");
    cluster["a"].read("key").await;
    cluster.db.put("key", "new");
    sleep(ms(1_100)).await;
    assert_eq!(cluster["a"].in_the_end("key").await, "origin new");
}

/// A cluster whose value is stale at both nodes, and the key, which `b` owns.
async fn stale_everywhere() -> (Cluster, String) {
    let cluster = Cluster::with(AB, revalidating);
    let key = cluster.key_of("b");
    assert_eq!(cluster.read(&key).await, "v1 v1");
    cluster.db.change();
    cluster.net.forget_asked();
    sleep(ms(1_100)).await;
    (cluster, key)
}

#[tokio::test(start_paused = true)]
async fn a_stale_copy_is_answered_at_once() {
    let (cluster, key) = stale_everywhere().await;
    cluster.db.hold();
    assert_eq!(cluster["a"].at_once(&key).await, "stale v1");
}

#[tokio::test(start_paused = true)]
async fn reads_of_a_stale_copy_start_one_fetch_and_one_load() {
    let (cluster, key) = stale_everywhere().await;
    cluster.db.hold();
    for _ in 0..50 {
        assert_eq!(cluster["a"].at_once(&key).await, "stale v1");
        settle().await;
    }
    assert_eq!((cluster.net.asked("b"), cluster.db.calls()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn reads_of_a_stale_value_at_two_nodes_start_one_load() {
    let (cluster, key) = stale_everywhere().await;
    cluster.db.hold();
    for _ in 0..20 {
        assert_eq!(cluster["a"].at_once(&key).await, "stale v1");
        assert_eq!(cluster["b"].at_once(&key).await, "stale v1");
        settle().await;
    }
    assert_eq!(cluster.db.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_fetch_in_the_background_brings_the_new_value() {
    let (cluster, key) = stale_everywhere().await;
    cluster["a"].at_once(&key).await;
    settle().await;
    assert_eq!(cluster["a"].at_once(&key).await, "hot v2");
    assert_eq!(cluster["b"].at_once(&key).await, "main v2");
}

#[tokio::test(start_paused = true)]
async fn a_fetch_in_the_background_asks_for_a_fresh_value() {
    let (cluster, key) = stale_everywhere().await;
    cluster["a"].at_once(&key).await;
    settle().await;
    let asked: Vec<bool> = cluster.net.requests("b").iter().map(|request| request.terms.fresh).collect();
    assert_eq!(asked, [true]);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_in_the_background_whose_load_fails_keeps_the_old_copy() {
    let (cluster, key) = stale_everywhere().await;
    cluster.db.mood(Mood::Fails);
    for _ in 0..3 {
        assert_eq!(cluster["a"].at_once(&key).await, "stale v1");
        settle().await;
    }
}

/// What it brought is not kept; to go on with the old value would be to go back in time.
#[tokio::test(start_paused = true)]
async fn a_fetch_in_the_background_that_ends_under_another_ring_ends_the_old_copy() {
    let (cluster, key) = stale_everywhere().await;
    cluster.net.stop("b", Answers);
    assert_eq!(cluster["a"].at_once(&key).await, "stale v1");
    cluster.net.until_stopped("b", Answers, 1).await;
    cluster["a"].members.set(["a", "b", "c"]).unwrap();
    assert_eq!(cluster["a"].items(), 1);
    cluster.net.let_go("b", Answers);
    settle().await;
    assert_eq!(cluster["a"].items(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_owner_answers_a_peer_with_a_stale_value_at_once() {
    let cluster = Cluster::with(AB, revalidating);
    let key = cluster.key_of("b");
    cluster["b"].read(&key).await;
    cluster.db.change();
    cluster.db.hold();
    sleep(ms(1_100)).await;
    assert_eq!(cluster["a"].in_the_end(&key).await, "stale v1");
    settle().await;
    assert_eq!(cluster.db.calls(), 2, "one load in the background at the owner");
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_of_the_owner_is_not_kept_as_a_copy() {
    let cluster = Cluster::with(AB, revalidating);
    let key = cluster.key_of("b");
    cluster["b"].read(&key).await;
    cluster.db.change();
    cluster.db.hold();
    sleep(ms(1_100)).await;
    cluster["a"].in_the_end(&key).await;
    assert_eq!(cluster["a"].items(), 0);
}

/// What a node that is out of reach may answer is bounded by `hot_ttl`, whatever staleness is allowed besides.
#[tokio::test(start_paused = true)]
async fn a_copy_past_hot_ttl_is_not_answered_however_stale_it_may_be() {
    let cluster = Cluster::with(AB, |group| {
        group.time_to_live(ms(1_000)).hot_ttl(ms(2_000)).stale_while_revalidate(ms(60_000)).stale_if_error(ms(60_000))
    });
    let key = cluster.key_of("b");
    cluster["a"].read(&key).await;
    sleep(ms(2_000)).await;
    cluster.db.mood(Mood::Fails);
    cluster.net.cut("b");
    assert_eq!(cluster["a"].in_the_end(&key).await, "LoadFailed");
}

#[tokio::test(start_paused = true)]
async fn while_the_origin_fails_the_old_value_is_answered() {
    let cluster = Cluster::with(["a"], forgiving);
    cluster["a"].read("key").await;
    cluster.db.mood(Mood::Fails);
    sleep(ms(2_000)).await;
    assert_eq!(cluster["a"].in_the_end("key").await, "stale v1");
    assert_eq!(cluster.db.calls(), 2, "the origin was asked first");
}

#[tokio::test(start_paused = true)]
async fn while_the_origin_is_fine_nothing_old_is_answered() {
    let cluster = Cluster::with(["a"], forgiving);
    cluster["a"].read("key").await;
    cluster.db.change();
    sleep(ms(1_100)).await;
    assert_eq!(cluster["a"].in_the_end("key").await, "origin v2");
}

#[tokio::test(start_paused = true)]
async fn while_the_origin_panics_or_takes_too_long_the_old_value_is_answered() {
    let cluster = Cluster::with(["a"], |group| forgiving(group).load_timeout(ms(500)));
    cluster["a"].read("key").await;
    cluster.db.mood(Mood::Panics);
    sleep(ms(2_000)).await;
    assert_eq!(cluster["a"].in_the_end("key").await, "stale v1");
    cluster.db.mood(Mood::Fine);
    cluster.db.hold();
    assert_eq!(cluster["a"].in_the_end("key").await, "stale v1");
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_has_no_such_key_any_more_is_believed() {
    let cluster = Cluster::with(["a"], forgiving);
    cluster["a"].read("key").await;
    cluster.db.delete("key");
    sleep(ms(2_000)).await;
    assert_eq!(cluster["a"].in_the_end("key").await, "NotFound");
    cluster.db.mood(Mood::Fails);
    assert_eq!(cluster["a"].in_the_end("key").await, "LoadFailed");
}

#[tokio::test(start_paused = true)]
async fn past_the_time_for_errors_an_error_is_an_error() {
    let cluster = Cluster::with(["a"], forgiving);
    cluster["a"].read("key").await;
    cluster.db.mood(Mood::Fails);
    sleep(ms(6_000)).await;
    assert_eq!(cluster["a"].in_the_end("key").await, "LoadFailed");
}

#[tokio::test(start_paused = true)]
async fn of_two_stale_times_the_one_for_errors_may_be_the_longer() {
    let cluster =
        Cluster::with(["a"], |group| revalidating(group).stale_while_revalidate(ms(1_000)).stale_if_error(ms(5_000)));
    cluster["a"].read("key").await;
    cluster.db.mood(Mood::Fails);
    sleep(ms(1_500)).await;
    assert_eq!(cluster["a"].at_once("key").await, "stale v1");
    sleep(ms(1_000)).await;
    assert_eq!(cluster["a"].at_once("key").await, "waits");
    assert_eq!(cluster["a"].in_the_end("key").await, "stale v1");
    sleep(ms(3_500)).await;
    assert_eq!(cluster["a"].in_the_end("key").await, "LoadFailed");
}

#[tokio::test(start_paused = true)]
async fn the_owners_old_value_is_answered_elsewhere_and_marked() {
    let cluster = Cluster::with(AB, forgiving);
    let key = cluster.key_of("b");
    cluster["b"].read(&key).await;
    cluster.db.mood(Mood::Fails);
    sleep(ms(2_000)).await;
    assert_eq!(cluster["a"].in_the_end(&key).await, "stale v1");
    assert_eq!((cluster["a"].items(), cluster.db.calls_of("a")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_of_the_owner_leaves_an_old_copy_where_it_is() {
    let cluster = Cluster::with(AB, forgiving);
    let key = cluster.key_of("b");
    cluster["a"].read(&key).await;
    cluster.db.mood(Mood::Fails);
    sleep(ms(2_000)).await;
    assert_eq!(cluster["a"].in_the_end(&key).await, "stale v1");
    assert_eq!(cluster["a"].items(), 1);
}

/// A peer of another version may say of a stale value that it holds for a while.
#[tokio::test(start_paused = true)]
async fn what_a_peer_calls_stale_is_not_kept_whatever_it_says_of_its_life() {
    let cluster = Cluster::new(AB);
    let key = cluster.key_of("b");
    cluster.net.hold("b");
    let waiting = cluster["a"].caller(&key);
    cluster.net.until_asked("b", 1).await;
    cluster.net.answer_held("b", || {
        let mut reply = PeerReply::new(Bytes::from("old"));
        (reply.meta.stale, reply.meta.remaining) = (true, Some(ms(60_000)));
        Ok(reply)
    });
    assert_eq!(waiting.await.unwrap(), "old");
    assert_eq!(cluster["a"].items(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_old_copy_is_answered_when_neither_owner_nor_origin_can_be_asked() {
    let cluster = Cluster::with(AB, forgiving);
    let key = cluster.key_of("b");
    cluster["a"].read(&key).await;
    cluster.db.mood(Mood::Fails);
    cluster.net.cut("b");
    sleep(ms(2_000)).await;
    assert_eq!(cluster["a"].in_the_end(&key).await, "stale v1");
}

#[tokio::test(start_paused = true)]
async fn all_who_waited_for_the_load_that_failed_get_the_old_value() {
    let cluster = Cluster::with(["a"], forgiving);
    cluster["a"].read("key").await;
    sleep(ms(2_000)).await;
    cluster.db.mood(Mood::Fails);
    cluster.db.hold();
    let callers = [(), (), ()].map(|()| cluster["a"].caller("key"));
    cluster.db.called(2).await;
    settle().await;
    cluster.db.open();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), "v1");
    }
}

#[tokio::test(start_paused = true)]
async fn many_stale_values_are_answered_at_once_and_loaded_in_the_background() {
    let cluster = Cluster::with(AB, revalidating);
    cluster["a"].read_many(&keys(20)).await;
    cluster.db.change();
    sleep(ms(1_100)).await;
    assert_eq!(cluster["a"].read_many(&keys(20)).await, ["v1"; 20]);
    settle().await;
    assert_eq!(cluster["a"].read_many(&keys(20)).await, ["v2"; 20]);
    assert_eq!(cluster.db.calls(), 40);
}

#[test]
fn outside_a_runtime_a_stale_value_is_answered_all_the_same() {
    let cluster = Cluster::with(["a"], revalidating);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        cluster["a"].read("key").await;
        sleep(ms(1_100)).await;
    });
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(answer) = pin!(cluster["a"].group.get("key").detailed()).poll(&mut context) else {
        panic!("nothing to wait for")
    };
    assert_eq!(answer.unwrap().source, Source::Stale);
}
