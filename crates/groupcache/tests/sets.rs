//! set: which value all nodes answer, and which one they never do.

mod support;

use std::{collections::BTreeSet, time::Duration};

use peercache_groupcache::{BoxError, Bytes, Change, ErrorKind, Group, Loaded, Source, Value, loader_fn};
use support::{
    cluster::{AB, ABC, Cluster, text},
    ms,
    net::What::{Answers, Sets},
    settle, soon,
    updates::{all_hold_the_old, missed, refused, set, the_old_is_on_its_way_to, the_owner_loads_the_old},
};
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn what_is_set_is_answered_by_all_nodes() {
    let (cluster, key) = all_hold_the_old().await;
    let calls = cluster.db.calls();
    soon(cluster["a"].group.set(&key, Bytes::from("set"))).await.unwrap();
    assert_eq!(cluster.read(&key).await, "set set set");
    assert_eq!(cluster.db.calls(), calls);
}

#[tokio::test(start_paused = true)]
async fn what_is_set_at_its_owner_is_answered_by_all_nodes() {
    let (cluster, key) = all_hold_the_old().await;
    soon(cluster["b"].group.set(&key, Bytes::from("set"))).await.unwrap();
    assert_eq!(cluster.read(&key).await, "set set set");
}

#[tokio::test(start_paused = true)]
async fn what_is_set_is_held_by_its_owner_and_by_no_other() {
    let (cluster, key) = all_hold_the_old().await;
    soon(cluster["a"].group.set(&key, Bytes::from("set"))).await.unwrap();
    assert_eq!(cluster.cached(&key), "- set -");
}

#[tokio::test(start_paused = true)]
async fn what_is_set_is_as_old_as_the_set() {
    let (cluster, key) = all_hold_the_old().await;
    sleep(ms(1_000)).await;
    soon(cluster["a"].group.set(&key, Bytes::from("set"))).await.unwrap();
    sleep(ms(500)).await;
    let answer = cluster["b"].answer(&key).await;
    assert_eq!(answer.source, Source::Main);
    assert!((ms(480)..=ms(510)).contains(&answer.age), "{:?}", answer.age);
}

#[tokio::test(start_paused = true)]
async fn a_load_under_way_does_not_overwrite_what_is_set() {
    let (cluster, key) = the_owner_loads_the_old().await;
    let waiting = cluster["b"].caller(&key);
    cluster.db.holding(1).await;
    soon(cluster["a"].group.set(&key, Bytes::from("set"))).await.unwrap();
    cluster.db.open();
    assert_eq!(waiting.await.unwrap(), "set");
    settle().await;
    assert_eq!(cluster.read(&key).await, "set set set");
}

#[tokio::test(start_paused = true)]
async fn an_answer_on_its_way_does_not_overwrite_what_is_set() {
    let (cluster, key, waiting) = the_old_is_on_its_way_to("c").await;
    soon(cluster["a"].group.set(&key, Bytes::from("set"))).await.unwrap();
    cluster.net.let_go("b", Answers);
    assert_eq!(waiting.await.unwrap(), "set");
    assert_eq!(cluster.read(&key).await, "set set set");
}

/// Each set is a message of its own: whose value stays is for the owner to say, and both setters were served.
#[tokio::test(start_paused = true)]
async fn different_values_are_never_merged_into_one_set() {
    let (cluster, key) = all_hold_the_old().await;
    let setting = [set(&cluster, "a", &key, "one"), set(&cluster, "a", &key, "two"), set(&cluster, "c", &key, "three")];
    for setting in setting {
        setting.await.unwrap().unwrap();
    }
    let values: BTreeSet<String> =
        cluster.net.updates("b").into_iter().filter_map(|update| value_of(&update.change)).collect();
    assert_eq!(values, BTreeSet::from(["one", "two", "three"].map(str::to_owned)));
}

fn value_of(change: &Change) -> Option<String> {
    match change {
        Change::Set(set) => Some(text(&set.value)),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn after_sets_at_two_nodes_all_agree_on_the_one_that_the_owner_took_last() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.stop("b", Sets);
    let first = set(&cluster, "a", &key, "one");
    cluster.net.until_stopped("b", Sets, 1).await;
    let second = set(&cluster, "c", &key, "two");
    cluster.net.until_stopped("b", Sets, 2).await;
    cluster.net.let_go("b", Sets);
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(cluster.read(&key).await, "two two two");
}

/// The origin holds another value still, which is not for readers to see.
#[tokio::test(start_paused = true)]
async fn until_a_set_ends_readers_see_the_value_that_was_set_before() {
    let (cluster, key) = all_hold_the_old().await;
    soon(cluster["a"].group.set(&key, Bytes::from("one"))).await.unwrap();
    cluster.net.stop("b", Sets);
    let setting = set(&cluster, "a", &key, "two");
    cluster.net.until_stopped("b", Sets, 1).await;
    assert_eq!(cluster.read(&key).await, "one one one");
    cluster.net.let_go("b", Sets);
    setting.await.unwrap().unwrap();
    assert_eq!(cluster.read(&key).await, "two two two");
}

#[tokio::test(start_paused = true)]
async fn a_set_after_a_set_holds() {
    let (cluster, key) = all_hold_the_old().await;
    for value in ["one", "two", "three"] {
        soon(cluster["a"].group.set(&key, Bytes::from(value))).await.unwrap();
        assert_eq!(cluster.read(&key).await, [value; 3].join(" "));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_set_and_removed_is_loaded() {
    let (cluster, key) = all_hold_the_old().await;
    soon(cluster["a"].group.set(&key, Bytes::from("set"))).await.unwrap();
    soon(cluster["c"].group.remove(&key)).await.unwrap();
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn what_is_set_lives_as_long_as_it_is_told_everywhere() {
    let (cluster, key) = all_hold_the_old().await;
    soon(cluster["a"].group.set(&key, Loaded::new(Bytes::from("set")).ttl(ms(1_000)))).await.unwrap();
    sleep(ms(500)).await;
    assert_eq!(cluster.read(&key).await, "set set set");
    sleep(ms(470)).await;
    assert_eq!(cluster.read(&key).await, "set set set");
    sleep(ms(30)).await;
    assert_eq!(cluster.cached(&key), "- - -");
}

#[tokio::test(start_paused = true)]
async fn what_is_set_lives_as_long_as_the_group_says_otherwise() {
    let cluster = Cluster::with(ABC, |group| group.time_to_live(ms(1_000)));
    let key = cluster.key_of("b");
    soon(cluster["a"].group.set(&key, Bytes::from("set"))).await.unwrap();
    sleep(ms(970)).await;
    assert_eq!(cluster["b"].source(&key).await, Source::Main);
    sleep(ms(30)).await;
    assert_eq!(cluster["b"].source(&key).await, Source::Origin);
}

#[tokio::test(start_paused = true)]
async fn what_is_set_with_no_life_is_nowhere() {
    let (cluster, key) = all_hold_the_old().await;
    soon(cluster["a"].group.set(&key, Loaded::new(Bytes::from("set")).ttl(Duration::ZERO))).await.unwrap();
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_later_load_brings_what_the_origin_holds() {
    let (cluster, key) = all_hold_the_old().await;
    soon(cluster["a"].group.set(&key, Loaded::new(Bytes::from("set")).ttl(ms(1_000)))).await.unwrap();
    sleep(ms(1_000)).await;
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn what_is_set_takes_the_place_of_a_not_found() {
    let cluster = Cluster::with(ABC, |group| group.negative_ttl(ms(60_000)));
    let key = cluster.key_of("b");
    cluster.db.delete(&key);
    assert_eq!(cluster.read(&key).await, "NotFound NotFound NotFound");
    soon(cluster["c"].group.set(&key, Bytes::from("set"))).await.unwrap();
    assert_eq!(cluster.read(&key).await, "set set set");
}

#[tokio::test(start_paused = true)]
async fn a_value_that_is_too_large_is_not_set_and_the_old_one_stays() {
    let cluster = Cluster::with(ABC, |group| group.max_value_bytes(10));
    let key = cluster.key_of("b");
    cluster.read(&key).await;
    assert_eq!(
        refused(soon(cluster["a"].group.set(&key, Bytes::from(vec![b'x'; 11]))).await),
        ErrorKind::ValueTooLarge
    );
    assert_eq!(cluster.cached(&key), "v1 v1 v1");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_too_long_is_not_set() {
    let cluster = Cluster::with(ABC, |group| group.max_key_bytes(3));
    assert_eq!(refused(soon(cluster["a"].group.set("four", Bytes::new())).await), ErrorKind::KeyTooLong);
}

#[tokio::test(start_paused = true)]
async fn a_value_larger_than_the_owners_budget_is_set_nowhere_and_pushes_nothing_out() {
    let cluster = Cluster::with(ABC, |group| group.max_bytes(64 << 10));
    let key = cluster.key_of("b");
    let other = cluster.keys_of("b", 2).remove(1);
    cluster["b"].read(&other).await;
    let _ = soon(cluster["a"].group.set(&key, Bytes::from(vec![b'x'; 100_000]))).await;
    assert_eq!(cluster.read(&key).await, "v1 v1 v1");
    assert_eq!(cluster["b"].source(&other).await, Source::Main);
}

/// A value that no peer can be sent.
#[derive(Clone, Debug)]
struct Stuck;

impl Value for Stuck {
    fn encode(&self) -> Result<Bytes, BoxError> {
        Err("it does not fit into bytes".into())
    }

    fn decode(_: Bytes) -> Result<Self, BoxError> {
        Ok(Stuck)
    }

    fn weight(&self) -> usize {
        0
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_cannot_be_encoded_is_not_set_at_another_node() {
    let cluster = Cluster::new(AB);
    let group: Group<Stuck> = cluster["a"].groups.group("stuck", loader_fn(|_| async { Ok(Stuck) })).build().unwrap();
    assert_eq!(refused(soon(group.set(&cluster.key_of("b"), Stuck)).await), ErrorKind::Codec);
}

#[tokio::test(start_paused = true)]
async fn if_the_owner_is_missed_by_a_set_the_value_is_nowhere() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.cut("b");
    assert_eq!(missed(soon(cluster["a"].group.set(&key, Bytes::from("set"))).await), ["b"]);
    assert_eq!([cluster["a"].read(&key).await, cluster["c"].read(&key).await], ["v2", "v2"]);
}

#[tokio::test(start_paused = true)]
async fn if_another_is_missed_by_a_set_the_value_is_at_its_owner() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.cut("c");
    assert_eq!(missed(soon(cluster["a"].group.set(&key, Bytes::from("set"))).await), ["c"]);
    assert_eq!([cluster["a"].read(&key).await, cluster["b"].read(&key).await], ["set", "set"]);
}

/// What a frozen owner finds in its buffer when it goes on: the setter has given it up long ago, and set another value.
#[tokio::test(start_paused = true)]
async fn a_set_that_arrives_too_late_is_not_taken() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.stop("b", Sets);
    let late = set(&cluster, "a", &key, "late");
    cluster.net.until_stopped("b", Sets, 1).await;
    let held = cluster.net.keep_stopped("b", Sets);
    assert_eq!(missed(late.await.unwrap()), ["b"]);
    sleep(ms(3_000)).await;
    soon(cluster["c"].group.set(&key, Bytes::from("new"))).await.unwrap();
    held.into_iter().for_each(|deliver| deliver());
    settle().await;
    assert_eq!(cluster.read(&key).await, "new new new");
}

#[tokio::test(start_paused = true)]
async fn a_set_that_arrives_after_it_was_given_up_is_nowhere() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.stop("b", Sets);
    let late = set(&cluster, "a", &key, "late");
    cluster.net.until_stopped("b", Sets, 1).await;
    assert_eq!(missed(late.await.unwrap()), ["b"]);
    cluster.net.let_go("b", Sets);
    sleep(ms(3_000)).await;
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}
