//! set: all nodes answer the value that was set last, and never an older one.

mod support;

use std::{collections::BTreeSet, time::Duration};

use peercache_groupcache::{
    BoxError, Bytes, Change, ErrorKind, Group, Loaded, PeerUpdate, SecondRound, SetValue, Source, Value, loader_fn,
};
use support::{
    GROUP,
    cluster::{AB, ABC, Cluster, text},
    ms,
    net::Kind::{Answers, Removes, Sets},
    settle, soon,
    updates::{
        all_hold_the_old_value, refused, set, the_old_value_is_being_loaded_for, the_old_value_is_on_its_way_to,
        unreached,
    },
};
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn a_value_set_elsewhere_is_answered_by_all_nodes() {
    let (cluster, key) = all_hold_the_old_value().await;
    let calls = cluster.origin.calls();
    soon(cluster["a"].group.set(&key, Bytes::from("set"))).await.unwrap();
    assert_eq!(cluster.read(&key).await, "set set set");
    assert_eq!(cluster.origin.calls(), calls);
}

#[tokio::test(start_paused = true)]
async fn a_value_set_at_its_owner_is_answered_by_all_nodes() {
    let (cluster, key) = all_hold_the_old_value().await;
    soon(cluster["b"].group.set(&key, Bytes::from("set"))).await.unwrap();
    assert_eq!(cluster.read(&key).await, "set set set");
}

#[tokio::test(start_paused = true)]
async fn a_value_that_is_set_is_held_by_its_owner_alone() {
    let (cluster, key) = all_hold_the_old_value().await;
    soon(cluster["a"].group.set(&key, Bytes::from("set"))).await.unwrap();
    assert_eq!(cluster.cached(&key), "- set -");
}

#[tokio::test(start_paused = true)]
async fn a_values_age_counts_from_its_set() {
    let (cluster, key) = all_hold_the_old_value().await;
    sleep(ms(1_000)).await;
    soon(cluster["a"].group.set(&key, Bytes::from("set"))).await.unwrap();
    sleep(ms(500)).await;
    let answer = cluster["b"].answer(&key).await;
    assert_eq!(answer.source, Source::Main);
    assert!((ms(480)..=ms(510)).contains(&answer.age), "{:?}", answer.age);
}

#[tokio::test(start_paused = true)]
async fn a_load_in_flight_does_not_overwrite_a_set() {
    let (cluster, key, waiting) = the_old_value_is_being_loaded_for("b").await;
    soon(cluster["a"].group.set(&key, Bytes::from("set"))).await.unwrap();
    cluster.origin.release();
    assert_eq!(waiting.await.unwrap(), "set");
    settle().await;
    assert_eq!(cluster.read(&key).await, "set set set");
}

#[tokio::test(start_paused = true)]
async fn an_answer_on_its_way_does_not_overwrite_a_set() {
    let (cluster, key, waiting) = the_old_value_is_on_its_way_to("c").await;
    soon(cluster["a"].group.set(&key, Bytes::from("set"))).await.unwrap();
    cluster.net.resume("b", Answers);
    assert_eq!(waiting.await.unwrap(), "set");
    assert_eq!(cluster.read(&key).await, "set set set");
}

/// Each set is a message of its own, for the owner decides which value stays.
#[tokio::test(start_paused = true)]
async fn different_values_are_never_merged_into_one_set() {
    let (cluster, key) = all_hold_the_old_value().await;
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
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.pause("b", Sets);
    let first = set(&cluster, "a", &key, "one");
    cluster.net.until_paused("b", Sets, 1).await;
    let second = set(&cluster, "c", &key, "two");
    cluster.net.until_paused("b", Sets, 2).await;
    cluster.net.resume("b", Sets);
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(cluster.read(&key).await, "two two two");
}

/// The origin holds a third value, which readers must not see.
#[tokio::test(start_paused = true)]
async fn until_a_set_ends_readers_see_the_value_that_was_set_before() {
    let (cluster, key) = all_hold_the_old_value().await;
    soon(cluster["a"].group.set(&key, Bytes::from("one"))).await.unwrap();
    cluster.net.pause("b", Sets);
    let setting = set(&cluster, "a", &key, "two");
    cluster.net.until_paused("b", Sets, 1).await;
    assert_eq!(cluster.read(&key).await, "one one one");
    cluster.net.resume("b", Sets);
    setting.await.unwrap().unwrap();
    assert_eq!(cluster.read(&key).await, "two two two");
}

#[tokio::test(start_paused = true)]
async fn a_set_after_a_set_holds() {
    let (cluster, key) = all_hold_the_old_value().await;
    for value in ["one", "two", "three"] {
        soon(cluster["a"].group.set(&key, Bytes::from(value))).await.unwrap();
        assert_eq!(cluster.read(&key).await, [value; 3].join(" "));
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_is_set_and_removed_is_loaded() {
    let (cluster, key) = all_hold_the_old_value().await;
    soon(cluster["a"].group.set(&key, Bytes::from("set"))).await.unwrap();
    soon(cluster["c"].group.remove(&key)).await.unwrap();
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_sets_time_to_live_holds_everywhere() {
    let (cluster, key) = all_hold_the_old_value().await;
    soon(cluster["a"].group.set(&key, Loaded::new(Bytes::from("set")).ttl(ms(1_000)))).await.unwrap();
    sleep(ms(500)).await;
    assert_eq!(cluster.read(&key).await, "set set set");
    sleep(ms(470)).await;
    assert_eq!(cluster.read(&key).await, "set set set");
    sleep(ms(30)).await;
    assert_eq!(cluster.cached(&key), "- - -");
}

#[tokio::test(start_paused = true)]
async fn a_set_without_a_time_to_live_has_the_groups() {
    let cluster = Cluster::with(ABC, |group| group.time_to_live(ms(1_000)));
    let key = cluster.key_of("b");
    soon(cluster["a"].group.set(&key, Bytes::from("set"))).await.unwrap();
    sleep(ms(970)).await;
    assert_eq!(cluster["b"].source(&key).await, Source::Main);
    sleep(ms(30)).await;
    assert_eq!(cluster["b"].source(&key).await, Source::Origin);
}

#[tokio::test(start_paused = true)]
async fn a_set_with_a_time_to_live_of_zero_is_held_nowhere() {
    let (cluster, key) = all_hold_the_old_value().await;
    soon(cluster["a"].group.set(&key, Loaded::new(Bytes::from("set")).ttl(Duration::ZERO))).await.unwrap();
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_load_after_a_set_has_expired_brings_the_origins_value() {
    let (cluster, key) = all_hold_the_old_value().await;
    soon(cluster["a"].group.set(&key, Loaded::new(Bytes::from("set")).ttl(ms(1_000)))).await.unwrap();
    sleep(ms(1_000)).await;
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_set_replaces_a_not_found() {
    let cluster = Cluster::with(ABC, |group| group.negative_ttl(ms(60_000)));
    let key = cluster.key_of("b");
    cluster.origin.delete(&key);
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

/// A value that cannot be encoded.
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
async fn a_set_that_does_not_reach_the_owner_is_held_nowhere() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.cut("b");
    assert_eq!(unreached(soon(cluster["a"].group.set(&key, Bytes::from("set"))).await), ["b"]);
    assert_eq!([cluster["a"].read(&key).await, cluster["c"].read(&key).await], ["v2", "v2"]);
}

#[tokio::test(start_paused = true)]
async fn a_set_that_does_not_reach_another_member_is_held_by_the_owner() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.cut("c");
    assert_eq!(unreached(soon(cluster["a"].group.set(&key, Bytes::from("set"))).await), ["c"]);
    assert_eq!([cluster["a"].read(&key).await, cluster["b"].read(&key).await], ["set", "set"]);
}

/// A frozen owner finds the set in its buffer when it goes on; by then the setter has given it up,
/// and set another value.
#[tokio::test(start_paused = true)]
async fn a_set_that_arrives_too_late_is_not_taken() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.pause("b", Sets);
    let late = set(&cluster, "a", &key, "late");
    cluster.net.until_paused("b", Sets, 1).await;
    let held = cluster.net.take_paused("b", Sets);
    assert_eq!(unreached(late.await.unwrap()), ["b"]);
    sleep(ms(3_000)).await;
    soon(cluster["c"].group.set(&key, Bytes::from("new"))).await.unwrap();
    held.into_iter().for_each(|deliver| deliver());
    settle().await;
    assert_eq!(cluster.read(&key).await, "new new new");
}

#[tokio::test(start_paused = true)]
async fn a_set_that_arrives_after_it_was_given_up_is_nowhere() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.pause("b", Sets);
    let late = set(&cluster, "a", &key, "late");
    cluster.net.until_paused("b", Sets, 1).await;
    assert_eq!(unreached(late.await.unwrap()), ["b"]);
    cluster.net.resume("b", Sets);
    sleep(ms(3_000)).await;
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

/// One set of 900 KiB emptied a cache of 1 MiB. It obeys the rule of values that are loaded.
#[tokio::test(start_paused = true)]
async fn a_value_that_would_evict_most_others_is_not_kept_and_its_key_is_removed() {
    for setter in ["a", "b"] {
        let cluster = Cluster::with(["a", "b"], |group| group.max_bytes(1 << 20));
        let keys = cluster.keys_of("b", 60);
        for key in &keys {
            soon(cluster["b"].group.set(key, Bytes::from(vec![b'x'; 10 << 10]))).await.expect("it is kept");
        }
        let result = soon(cluster[setter].group.set(&keys[0], Bytes::from(vec![b'x'; 900 << 10]))).await;
        assert_eq!(refused(result), ErrorKind::ValueTooLarge, "set at {setter}");
        assert_eq!(cluster["b"].items(), 59, "all others stay");
        assert!(cluster["a"].group.peek(&keys[0]).is_none() && cluster["b"].group.peek(&keys[0]).is_none());
        assert_eq!(cluster["b"].group.stats().too_large_to_cache, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_list_that_is_in_force_changes_nothing_for_an_update_under_way() {
    let cluster = Cluster::new(ABC);
    let key = cluster.key_of("b");
    cluster.net.pause("c", Removes);
    let setter = cluster["a"].group.clone();
    let setting = tokio::spawn(async move { setter.set(&key, Bytes::from("set")).await });
    cluster.net.until_paused("c", Removes, 1).await;
    let before = cluster["a"].groups.members().view();
    cluster.set_members(&["a"], &["c", "b", "a"]);
    assert!(std::sync::Arc::ptr_eq(&before, &cluster["a"].groups.members().view()), "no new table");
    cluster.net.resume("c", Removes);
    soon(setting).await.expect("no panic").expect("all are told");
    assert_eq!(cluster.net.updates("c").len(), 2, "two rounds, once");
}

/// The owner's stamp for a set that begins now.
fn stamp_of(owner: &support::cluster::Node) -> peercache_groupcache::Stamp {
    let update = PeerUpdate::new(GROUP, 0, Change::Remove(Vec::new()));
    owner.groups.get(GROUP).unwrap().update(update).expect("it is acknowledged").stamp
}

/// Has the owner read a set of this value, with the stamp that it gave for it.
fn deliver(owner: &support::cluster::Node, key: &str, value: &'static str, stamp: peercache_groupcache::Stamp) {
    let set = SetValue::new(key.into(), Bytes::from_static(value.as_bytes()), None, stamp, ms(1_000));
    let ring = owner.groups.members().view().digest();
    owner
        .groups
        .get(GROUP)
        .unwrap()
        .update(PeerUpdate::new(GROUP, ring, Change::Set(set)))
        .expect("it is acknowledged");
}

/// A connection closes after the owner has read a set, and the transport sends it again.
#[tokio::test(start_paused = true)]
async fn a_set_that_is_read_twice_brings_no_older_value_back() {
    let cluster = Cluster::new(ABC);
    let key = cluster.key_of("b");
    let stamp = stamp_of(&cluster["b"]);
    deliver(&cluster["b"], &key, "first", stamp);
    assert_eq!(cluster["b"].read(&key).await, "first");
    soon(cluster["c"].group.set(&key, Bytes::from("second"))).await.unwrap();
    deliver(&cluster["b"], &key, "first", stamp);
    assert_eq!(cluster.read(&key).await, "second second second");
    soon(cluster["c"].group.remove(&key)).await.unwrap();
    deliver(&cluster["b"], &key, "first", stamp);
    assert_eq!(cluster["b"].read(&key).await, "v1", "the key was removed since");
}

/// The second round of a set has others ask the owner again, since that has the new value. If it
/// comes after its sender has given up, the owner may have missed a newer change.
#[tokio::test(start_paused = true)]
async fn a_second_round_that_comes_late_forgets_nothing_that_the_owner_has_missed() {
    for (late, answer) in [(false, "set"), (true, "v1")] {
        let cluster = Cluster::new(ABC);
        let key = cluster.key_of("b");
        soon(cluster["a"].group.set(&key, Bytes::from("set"))).await.unwrap();
        let second = SecondRound { stamp: stamp_of(&cluster["c"]), within: ms(1_000) };
        cluster.net.cut_kinds("b", &[Removes]);
        assert_eq!(unreached(soon(cluster["c"].group.remove(&key)).await), ["b"]);
        assert_eq!(cluster["c"].read(&key).await, "v1", "it does not ask who has missed the change");
        let held_up = if late { ms(1_001) } else { ms(0) };
        sleep(held_up).await;
        let ring = cluster["c"].groups.members().view().digest();
        let update = PeerUpdate::new(GROUP, ring, Change::Remove(vec![key.as_str().into()])).second(Some(second));
        cluster["c"].groups.get(GROUP).unwrap().update(update).expect("the change itself is made");
        assert_eq!(cluster["c"].read(&key).await, answer, "late: {late}");
    }
}

/// Neither a value that is not kept for its size nor one that has no life takes a newer value away.
#[tokio::test(start_paused = true)]
async fn a_set_that_is_not_kept_and_comes_late_removes_nothing() {
    let cluster = Cluster::with(ABC, |group| group.max_bytes(1 << 20));
    let owner = &cluster["b"];
    let key = cluster.key_of("b");
    let late = |value: Vec<u8>, ttl| {
        let set = SetValue::new(key.clone().into(), value.into(), ttl, stamp_of(owner), ms(1_000));
        PeerUpdate::new(GROUP, owner.groups.members().view().digest(), Change::Set(set))
    };
    let late = [late(vec![b'x'; 900 << 10], None), late(b"dead".to_vec(), Some(ms(0)))];
    soon(cluster["c"].group.set(&key, Bytes::from("newer"))).await.unwrap();
    for set in late {
        let _ = owner.groups.get(GROUP).unwrap().update(set);
        assert_eq!(cluster.read(&key).await, "newer newer newer");
    }
}

/// A value whose decoder does something else first.
#[derive(Clone)]
struct Slow(Bytes);

type Meanwhile = Box<dyn FnOnce() + Send>;

thread_local! {
    static MEANWHILE: std::cell::RefCell<Option<Meanwhile>> = const { std::cell::RefCell::new(None) };
}

impl Value for Slow {
    fn encode(&self) -> Result<Bytes, BoxError> {
        Ok(self.0.clone())
    }

    fn decode(bytes: Bytes) -> Result<Self, BoxError> {
        let meanwhile = MEANWHILE.take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        Ok(Slow(bytes))
    }

    fn weight(&self) -> usize {
        self.0.len()
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_that_is_slow_to_decode_does_not_overwrite_a_later_one() {
    let groups = peercache_groupcache::Groups::with_clock(
        peercache_groupcache::Members::alone(),
        peercache_groupcache::Clock::tokio(),
    );
    let loader = loader_fn(|_| async { Ok(Slow(Bytes::from_static(b"v0"))) });
    let group: Group<Slow> = groups.group(GROUP, loader).max_bytes(1 << 20).build().unwrap();
    let served = groups.get(GROUP).unwrap();
    let ring = groups.members().view().digest();
    let set = |value: &'static str| {
        let begun = served.clone().update(PeerUpdate::new(GROUP, 0, Change::Remove(Vec::new()))).unwrap();
        let set = SetValue::new("key".into(), Bytes::from_static(value.as_bytes()), None, begun.stamp, ms(1_000));
        PeerUpdate::new(GROUP, ring, Change::Set(set))
    };
    let (first, second) = (set("first"), set("second"));
    let (later, served_later) = (second.clone(), served.clone());
    MEANWHILE.set(Some(Box::new(move || assert!(served_later.update(later).is_ok()))));
    served.update(first).expect("it was made, and overwritten");
    assert_eq!(group.get("key").await.unwrap().0, "second");
}
