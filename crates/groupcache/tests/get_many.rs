//! get_many: one batch for each owner, and a result of its own for each key.

mod support;

use std::{collections::BTreeSet, future::poll_fn, pin::Pin, task::Poll, time::Duration};

use futures_core::Stream;
use peercache_groupcache::{Bytes, GetStream, Source};
use support::{
    cluster::{AB, ABC, Cluster, outcome, outcomes},
    keys, ms, poll_once, settle, soon,
};

#[tokio::test(start_paused = true)]
async fn results_are_in_the_order_of_the_keys() {
    let cluster = Cluster::new(ABC);
    let keys = keys(30);
    keys.iter().for_each(|key| cluster.origin.put(key, key));
    assert_eq!(cluster["a"].read_many(&keys).await, keys);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_asked_for_twice_is_answered_twice_and_loaded_once() {
    let cluster = Cluster::new(AB);
    let (own, other) = (cluster.key_of("a"), cluster.key_of("b"));
    let twice = [own.clone(), other.clone(), own, other];
    assert_eq!(cluster["a"].read_many(&twice).await, ["v1"; 4]);
    assert_eq!(cluster.origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_keys_have_no_results() {
    let cluster = Cluster::new(AB);
    assert_eq!(cluster["a"].read_many(&[]).await, Vec::<String>::new());
    assert!(next(&mut cluster["a"].group.get_many::<&str>([]).stream()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn each_key_has_an_error_of_its_own() {
    let cluster = Cluster::with(ABC, |group| group.max_key_bytes(10));
    cluster.origin.delete("key-1");
    let keys = ["key-0", "key-1", "a key that is too long", "key-3"].map(str::to_owned);
    assert_eq!(cluster["a"].read_many(&keys).await, ["v1", "NotFound", "KeyTooLong", "v1"]);
}

#[tokio::test(start_paused = true)]
async fn each_owner_is_sent_one_batch() {
    let cluster = Cluster::new(ABC);
    cluster["a"].read_many(&keys(200)).await;
    assert_eq!((cluster.net.batches("b"), cluster.net.batches("c")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn cached_keys_cost_no_request() {
    let cluster = Cluster::new(ABC);
    cluster["a"].read_many(&keys(200)).await;
    cluster.net.clear_log();
    assert_eq!(cluster["a"].read_many(&keys(200)).await, ["v1"; 200]);
    assert_eq!((cluster.net.asked("b"), cluster.net.asked("c"), cluster.origin.calls()), (0, 0, 200));
}

#[tokio::test(start_paused = true)]
async fn a_get_finds_the_values_that_get_many_has_brought() {
    let cluster = Cluster::new(ABC);
    cluster["a"].read_many(&keys(100)).await;
    for key in keys(100) {
        assert_ne!(cluster["a"].source(&key).await, Source::Origin);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_on_its_way_is_not_asked_for_again() {
    let cluster = Cluster::new(ABC);
    cluster.origin.hold();
    let reading = [(), ()].map(|()| cluster["a"].caller_of_many(keys(50)));
    cluster.origin.until_held(50).await;
    settle().await;
    cluster.origin.release();
    for reading in reading {
        assert_eq!(reading.await.unwrap(), ["v1"; 50]);
    }
    assert_eq!(cluster.origin.calls(), 50);
}

#[tokio::test(start_paused = true)]
async fn keys_of_an_unreachable_owner_are_loaded_here() {
    let cluster = Cluster::new(ABC);
    cluster.net.cut("b");
    assert_eq!(cluster["a"].read_many(&keys(60)).await, ["v1"; 60]);
    assert_eq!(cluster.origin.calls_of("b"), 0);
}

/// The next result of a stream.
async fn next(stream: &mut GetStream<Bytes>) -> Option<(usize, String)> {
    let next = soon(poll_fn(|context| Pin::new(&mut *stream).poll_next(context))).await;
    next.map(|(position, result)| (position, outcome(result.map(|answer| answer.value))))
}

/// The results that are there without waiting.
async fn ready_results(stream: &mut GetStream<Bytes>) -> Vec<(usize, String)> {
    let mut there = Vec::new();
    settle().await;
    while let Poll::Ready(Some((position, result))) =
        poll_once(poll_fn(|context| Pin::new(&mut *stream).poll_next(context))).await
    {
        there.push((position, outcome(result.map(|answer| answer.value))));
    }
    there
}

/// Reads 30 keys at `a` while the load of one of `owner` does not end.
async fn assert_fast_keys_do_not_wait_for_a_slow_one_of(cluster: &Cluster, owner: &str) {
    let keys = keys(30);
    let slow = keys.iter().position(|key| cluster["a"].members.view().owner_name(key) == owner).unwrap();
    cluster.origin.hold_key(&keys[slow]);
    let mut stream = cluster["a"].group.get_many(&keys).stream();
    assert!(poll_once(poll_fn(|context| Pin::new(&mut stream).poll_next(context))).await.is_pending());
    let fast: BTreeSet<usize> = ready_results(&mut stream).await.into_iter().map(|(position, _)| position).collect();
    assert_eq!(fast, (0..30).filter(|position| *position != slow).collect());
    cluster.origin.release();
    assert_eq!(next(&mut stream).await, Some((slow, "v1".to_owned())));
    assert_eq!(next(&mut stream).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_stream_gives_fast_keys_while_one_of_this_node_is_slow() {
    assert_fast_keys_do_not_wait_for_a_slow_one_of(&Cluster::new(ABC), "a").await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_gives_fast_keys_while_one_of_an_owner_is_slow() {
    assert_fast_keys_do_not_wait_for_a_slow_one_of(&Cluster::new(ABC), "b").await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_gives_fast_keys_of_a_batch_while_one_is_slow() {
    assert_fast_keys_do_not_wait_for_a_slow_one_of(&Cluster::batched(ABC, |group| group), "b").await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_gives_cached_keys_at_once() {
    let cluster = Cluster::new(AB);
    let cached = cluster.key_of("b");
    cluster["a"].read(&cached).await;
    cluster.origin.hold();
    let mut stream = cluster["a"].group.get_many([cluster.key_of("a"), cached]).stream();
    assert_eq!(next(&mut stream).await, Some((1, "v1".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_each_keys_own() {
    let cluster = Cluster::new(ABC);
    let keys = keys(10);
    cluster.origin.hold_key(&keys[4]);
    let results = outcomes(soon(cluster["a"].group.get_many(&keys).timeout(ms(100))).await);
    let expected = (0..10).map(|key| if key == 4 { "DeadlineExceeded" } else { "v1" });
    assert_eq!(results, expected.collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_load_goes_on_for_others_after_the_timeout() {
    let cluster = Cluster::new(ABC);
    cluster.origin.hold();
    drop(soon(cluster["a"].group.get_many(keys(10)).timeout(ms(100))).await);
    cluster.origin.release();
    settle().await;
    assert_eq!(cluster["a"].read_many(&keys(10)).await, ["v1"; 10]);
    assert_eq!(cluster.origin.calls(), 10);
}

#[tokio::test(start_paused = true)]
async fn with_a_timeout_of_zero_cached_keys_are_answered_and_no_load_starts() {
    let cluster = Cluster::new(ABC);
    cluster["a"].read("key-1").await;
    let results = outcomes(soon(cluster["a"].group.get_many(keys(3)).timeout(Duration::ZERO)).await);
    assert_eq!(results, ["DeadlineExceeded", "v1", "DeadlineExceeded"]);
    assert_eq!(cluster.origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_removed_on_their_way_are_answered_with_the_new_value() {
    let cluster = Cluster::new(ABC);
    cluster.origin.hold();
    let reading = cluster["a"].caller_of_many(keys(30));
    cluster.origin.until_held(30).await;
    cluster.origin.change();
    soon(cluster["b"].group.remove_many(keys(30))).await.unwrap();
    cluster.origin.release();
    assert_eq!(reading.await.unwrap(), ["v2"; 30]);
}

#[tokio::test(start_paused = true)]
async fn a_loader_without_batches_is_asked_key_by_key() {
    let cluster = Cluster::new(ABC);
    assert_eq!(cluster["a"].read_many(&keys(300)).await, ["v1"; 300]);
    assert_eq!(cluster.origin.calls(), 300);
}

#[tokio::test(start_paused = true)]
async fn very_many_keys_are_no_overload() {
    let cluster = Cluster::new(ABC);
    let read = cluster["a"].read_many(&keys(20_000)).await;
    assert_eq!(read.iter().filter(|outcome| *outcome != "v1").count(), 0);
}
