//! Faults that were reported, one test each: what was seen, and what has to hold since then.

mod support;

use peercache_groupcache::{Bytes, ErrorKind, Source};
use support::{
    cluster::{AB, ABC, Cluster},
    ms,
    net::{Kind::Removes, UPDATES},
    origin::Health,
    settle, soon,
    updates::{all_hold_the_old_value, refused, unreached},
};
use tokio::{runtime::Runtime, time::sleep};

/// Report: a load in a dead owner's place needed a second fetch permit, so that a dead peer
/// became an overload. A load here needs none.
#[tokio::test]
async fn a_dead_peer_is_no_overload() {
    let cluster = Cluster::with(AB, |group| group.max_concurrent_fetches(1));
    let key = cluster.key_of("b");
    cluster.net.cut("b");
    assert_eq!(cluster["a"].source(&key).await, Source::Origin);
}

/// Report: the clock stood still once the runtime of the first miss was gone, so that nothing
/// expired any more. It ticks on in the runtime of the next miss.
#[test]
fn values_expire_though_the_runtime_of_the_first_miss_has_gone() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (first, second): (Runtime, Runtime) = (runtime(), runtime());
    let cluster = Cluster::with(["a"], |group| group.time_to_live(ms(1_000)));
    first.block_on(cluster["a"].read("first"));
    drop(first);
    second.block_on(async {
        cluster["a"].read("key").await;
        sleep(ms(1_100)).await;
        assert_eq!(cluster["a"].source("key").await, Source::Origin);
    });
}

/// Report: values larger than a shard's share of the budget were never cached. The budget is the
/// whole cache's.
#[tokio::test]
async fn a_value_larger_than_a_shards_share_is_cached() {
    let cluster = Cluster::new(["a"]);
    cluster.origin.put("key", &"x".repeat(5 << 20));
    cluster["a"].read("key").await;
    cluster["a"].read("key").await;
    assert_eq!(cluster.origin.calls(), 1);
}

/// Report: expired copies kept their memory until something else needed it. It is freed without a
/// get.
#[tokio::test(start_paused = true)]
async fn expired_copies_are_freed_without_a_get() {
    let cluster = Cluster::with(AB, |group| group.hot_ttl(ms(1_000)));
    for key in cluster.keys_of("b", 300) {
        cluster["a"].read(&key).await;
    }
    assert_eq!(cluster["a"].group.stats().hot.items, 300);
    sleep(ms(1_100)).await;
    let hot = cluster["a"].group.stats().hot;
    assert_eq!((hot.items, hot.bytes), (0, 0));
}

/// Report: an undelivered remove that arrived late erased a newer, acknowledged set. It removes
/// older values only.
#[tokio::test(start_paused = true)]
async fn a_remove_delivered_late_does_not_erase_a_newer_set() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.cut_kinds("b", &UPDATES);
    assert_eq!(unreached(soon(cluster["a"].group.remove(&key)).await), ["b"]);
    cluster.net.pause("b", Removes);
    cluster.net.mend("b");
    soon(cluster.net.until_paused("b", Removes, 2)).await;
    let deliveries = cluster.net.take_paused("b", Removes);
    soon(cluster["c"].group.set(&key, Bytes::from("set"))).await.unwrap();
    deliveries.into_iter().for_each(|deliver| deliver());
    settle().await;
    assert_eq!(cluster.read(&key).await, "set set set");
}

/// Report: the owner of a set did not hear which members it had not reached, so that none but the
/// setter delivered it to them. The owner keeps it for them too.
#[tokio::test(start_paused = true)]
async fn a_set_is_delivered_by_the_owner_if_the_setter_cannot_reach_the_member() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.cut("c");
    assert_eq!(unreached(soon(cluster["a"].group.set(&key, Bytes::from("set"))).await), ["c"]);
    cluster.net.mend("c");
    cluster.net.cut_link("a", "c");
    sleep(ms(1_500)).await;
    assert_eq!(cluster.read(&key).await, "set set set");
}

/// Report: a set that no budget could hold was acknowledged as made. It is refused, by the setter
/// or by the owner.
#[tokio::test(start_paused = true)]
async fn a_set_that_fits_nowhere_is_refused() {
    let mut cluster = Cluster::new(["a"]);
    cluster.add("b", &AB, |group| group.max_bytes(64 << 10));
    cluster.set_members(&["a"], &AB);
    let value = Bytes::from(vec![b'x'; 100_000]);
    for setter in AB {
        let result = soon(cluster[setter].group.set(&cluster.key_of("b"), value.clone())).await;
        assert_eq!(refused(result), ErrorKind::ValueTooLarge, "set at {setter}");
    }
}

/// Report: `get_many` asked an owner with an undelivered remove, and answered the old value. Like
/// `get`, it loads here until the remove is delivered.
#[tokio::test(start_paused = true)]
async fn get_many_does_not_ask_a_member_with_undelivered_updates() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.cut_kinds("b", &UPDATES);
    assert_eq!(unreached(soon(cluster["a"].group.remove(&key)).await), ["b"]);
    assert_eq!(cluster["a"].read_many(&[key]).await, ["v2"]);
    assert_eq!(cluster.net.asked("b"), 0);
}

/// Report: a member that left the list and came back lost its undelivered updates. They are kept
/// until it has them.
#[tokio::test(start_paused = true)]
async fn a_member_that_leaves_and_returns_still_gets_its_undelivered_updates() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.cut("c");
    let _ = soon(cluster["a"].group.remove(&key)).await;
    cluster.set_members(&AB, &AB);
    sleep(ms(5_000)).await;
    cluster.net.mend("c");
    cluster.set_members(&AB, &ABC);
    sleep(ms(1_500)).await;
    assert_eq!(cluster["c"].items(), 0);
}

/// Report: a queued load that all its callers had left was forgotten, and the next caller got a
/// spurious error. A caller that comes last is served however many have left before, in this node's
/// queue and in the owner's.
#[tokio::test(start_paused = true)]
async fn a_caller_is_served_however_many_have_left_the_queue() {
    for busy in AB {
        let (cluster, key) = Cluster::with_busy(busy).await;
        for nth in 1..=30 {
            drop(cluster["a"].caller_within(&key, ms(100 * nth)));
        }
        settle().await;
        let patient = cluster["a"].caller(&key);
        sleep(ms(5_000)).await;
        cluster.origin.release();
        assert_eq!(patient.await.unwrap(), "v1", "{busy} is busy");
    }
}

/// Report: the back-off did not double when a load took longer to fail than the back-off lasted.
/// The pause counts from the failure on, and the failure is remembered for longer than it.
#[tokio::test(start_paused = true)]
async fn the_backoff_doubles_for_loads_that_fail_slowly() {
    let cluster = Cluster::new(["a"]);
    cluster.origin.health(Health::Fails);
    cluster.origin.delay(ms(3_000));
    while cluster.origin.calls() < 6 {
        cluster["a"].read("key").await;
        sleep(ms(10)).await;
    }
    let calls = cluster.origin.call_log();
    let pauses = calls.windows(2).map(|pair| (pair[1].at - pair[0].at - ms(3_000)).as_millis() / 100);
    assert_eq!(pauses.collect::<Vec<_>>(), [1, 2, 4, 8, 10]);
}
