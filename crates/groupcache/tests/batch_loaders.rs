//! Batch loaders: how keys are put into batches, and what a batch answers for each.

mod support;

use futures_util::StreamExt;
use peercache_groupcache::{Batch, BatchLoader, Bytes, Clock, Groups, LoadError, Loaded, Members};
use support::{
    GROUP,
    cluster::{AB, ABC, Cluster, outcomes},
    keys, ms,
    origin::Health,
    settle, soon,
};
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn a_cold_start_costs_each_owner_one_batch() {
    let cluster = Cluster::batched(ABC, |group| group);
    assert_eq!(cluster["a"].read_many(&keys(300)).await, ["v1"; 300]);
    let mut askers: Vec<String> = cluster.origin.batches().iter().map(|(node, _)| node.to_string()).collect();
    askers.sort();
    assert_eq!(askers, ABC);
    assert_eq!(cluster.origin.calls(), 300);
}

#[tokio::test(start_paused = true)]
async fn a_single_get_is_a_batch_of_one() {
    let cluster = Cluster::batched(AB, |group| group);
    assert_eq!(cluster["a"].read(&cluster.key_of("b")).await, "v1");
    assert_eq!(cluster.origin.batches(), [("b".into(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_no_key_twice() {
    let cluster = Cluster::batched(["a"], |group| group);
    cluster["a"].read_many(&["x", "y", "x"].map(str::to_owned)).await;
    assert_eq!(cluster.origin.batches(), [("a".into(), 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_being_loaded_is_left_out_of_a_batch() {
    let cluster = Cluster::batched(["a"], |group| group);
    cluster.origin.hold_key("key-3");
    let waiting = cluster["a"].caller("key-3");
    cluster.origin.until_held(1).await;
    let reading = cluster["a"].caller_of_many(keys(10));
    settle().await;
    cluster.origin.release();
    assert_eq!(reading.await.unwrap(), ["v1"; 10]);
    waiting.await.unwrap();
    assert_eq!(cluster.origin.batches(), [("a".into(), 1), ("a".into(), 9)]);
}

#[tokio::test(start_paused = true)]
async fn very_many_keys_are_several_bounded_batches() {
    let cluster = Cluster::batched(["a"], |group| group);
    assert_eq!(cluster["a"].read_many(&keys(3_000)).await.len(), 3_000);
    let sizes: Vec<usize> = cluster.origin.batches().iter().map(|(_, keys)| *keys).collect();
    assert!((3..=6).contains(&sizes.len()) && sizes.iter().all(|keys| *keys <= 1_024), "{sizes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_a_batch_does_not_answer_is_not_found() {
    let cluster = Cluster::batched(ABC, |group| group);
    let keys = keys(10);
    cluster.origin.delete(&keys[3]);
    assert_eq!(cluster["a"].read_many(&keys).await[3], "NotFound");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_a_batch_does_not_answer_is_cached_as_not_found() {
    let cluster = Cluster::batched(["a"], |group| group.negative_ttl(ms(1_000)));
    cluster.origin.delete("key");
    for _ in 0..3 {
        assert_eq!(cluster["a"].read("key").await, "NotFound");
    }
    assert_eq!(cluster.origin.calls(), 1);
}

/// A loader of batches from a closure.
struct ByBatch<F>(F);

impl<F> BatchLoader for ByBatch<F>
where
    F: Fn(&Batch<Bytes>) -> Result<(), LoadError> + Send + Sync + 'static,
{
    type Value = Bytes;

    async fn load_many(&self, batch: &Batch<Bytes>) -> Result<(), LoadError> {
        (self.0)(batch)
    }
}

/// The outcomes of four keys at a node alone with this loader.
async fn loaded_by(load: impl Fn(&Batch<Bytes>) -> Result<(), LoadError> + Send + Sync + 'static) -> Vec<String> {
    let groups = Groups::with_clock(Members::alone(), Clock::tokio());
    let group = groups.group_batched(GROUP, ByBatch(load)).build().unwrap();
    let results = outcomes(soon(group.get_many(keys(4))).await);
    assert_eq!(group.stats().in_flight, 0);
    results
}

fn found(value: &'static str) -> Result<Loaded<Bytes>, LoadError> {
    Ok(Loaded::new(Bytes::from(value)))
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_fails_the_keys_it_has_not_answered() {
    let outcomes = loaded_by(|batch| {
        batch.answer(1, found("fine"));
        Err("disk on fire".into())
    });
    assert_eq!(outcomes.await, ["LoadFailed", "fine", "LoadFailed", "LoadFailed"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_panics_fails_the_keys_it_has_not_answered() {
    let outcomes = loaded_by(|batch| {
        batch.answer(1, found("fine"));
        panic!("a planned panic")
    });
    assert_eq!(outcomes.await, ["LoadFailed", "fine", "LoadFailed", "LoadFailed"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_may_answer_a_key_with_an_error_of_its_own() {
    let outcomes = loaded_by(|batch| {
        (0..4).for_each(|nth| batch.answer(nth, if nth == 2 { Err("one is bad".into()) } else { found("fine") }));
        Ok(())
    });
    assert_eq!(outcomes.await, ["fine", "fine", "LoadFailed", "fine"]);
}

#[tokio::test(start_paused = true)]
async fn a_batchs_first_answer_to_a_key_counts() {
    let outcomes = loaded_by(|batch| {
        (0..4).for_each(|nth| batch.answer(nth, found("first")));
        (0..4).for_each(|nth| batch.answer(nth, found("second")));
        Ok(())
    });
    assert_eq!(outcomes.await, ["first"; 4]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_key_that_is_not_there_is_ignored() {
    let outcomes = loaded_by(|batch| {
        batch.answer(4, found("nobody's"));
        batch.answer(usize::MAX, found("nobody's"));
        Ok(())
    });
    assert_eq!(outcomes.await, ["NotFound"; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_times_out_fails_the_keys_it_has_not_answered() {
    let cluster = Cluster::batched(["a"], |group| group.load_timeout(ms(500)));
    cluster.origin.hold_key("key-2");
    assert_eq!(cluster["a"].read_many(&keys(4)).await, ["v1", "v1", "LoadTimedOut", "v1"]);
}

#[tokio::test(start_paused = true)]
async fn keys_of_a_batch_that_failed_back_off() {
    let cluster = Cluster::batched(["a"], |group| group);
    cluster.origin.health(Health::Fails);
    cluster["a"].read_many(&keys(5)).await;
    let calls = cluster.origin.calls();
    assert_eq!(cluster["a"].read_many(&keys(5)).await, ["LoadFailed"; 5]);
    assert_eq!(cluster.origin.calls(), calls);
}

#[tokio::test(start_paused = true)]
async fn values_of_a_batch_live_as_long_as_they_say() {
    let cluster = Cluster::batched(["a"], |group| group);
    cluster.origin.ttl(ms(1_000));
    cluster["a"].read_many(&keys(5)).await;
    sleep(ms(1_100)).await;
    assert_eq!(cluster["a"].bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_key_of_a_batch_that_is_removed_is_loaded_again_and_the_others_are_not() {
    let cluster = Cluster::batched(["a"], |group| group);
    cluster.origin.hold();
    let reading = cluster["a"].caller_of_many(keys(3));
    cluster.origin.until_held(1).await;
    cluster.origin.change();
    soon(cluster["a"].group.remove("key-1")).await.unwrap();
    cluster.origin.release();
    assert_eq!(reading.await.unwrap(), ["v1", "v2", "v1"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_takes_one_load_permit() {
    let cluster = Cluster::batched(["a"], |group| group.max_concurrent_loads(1).max_queued_loads(0));
    assert_eq!(cluster["a"].read_many(&keys(100)).await, ["v1"; 100]);
}

/// Seen by a caller at another node, before the batch has ended.
#[tokio::test(start_paused = true)]
async fn answers_of_a_batch_are_passed_on_at_once() {
    let cluster = Cluster::batched(AB, |group| group);
    let keys = cluster.keys_of("b", 3);
    cluster.origin.hold_key(&keys[0]);
    let mut stream = cluster["a"].group.get_many(&keys).stream();
    let first = [soon(stream.next()).await.unwrap().0, soon(stream.next()).await.unwrap().0];
    assert_eq!((first.into_iter().min(), first.into_iter().max(), cluster.origin.held()), (Some(1), Some(2), 1));
    cluster.origin.release();
    assert_eq!(soon(stream.next()).await.unwrap().0, 0);
}
