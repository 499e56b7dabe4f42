//! A change of the ring: entries that change owners, and values that were on their way meanwhile.

mod support;

use peercache_groupcache::Source;
use support::{
    cluster::{AB, ABC, Cluster},
    keys, ms,
    net::reply,
};
use tokio::time::sleep;

/// A node that is alone until its list is set, beside another, and a key that the other is going to
/// own.
fn alone_at_first(hot_ttl_ms: u64) -> (Cluster, String) {
    let mut cluster = Cluster::empty();
    cluster.add("a", &["a"], |group| group.hot_ttl(ms(hot_ttl_ms)));
    cluster.add("b", &AB, |group| group);
    let key = cluster.key_of("b");
    (cluster, key)
}

#[tokio::test]
async fn a_value_loaded_while_its_key_changes_owners_is_kept_as_a_copy() {
    let (cluster, key) = alone_at_first(60_000);
    cluster.origin.hold();
    let waiting = cluster["a"].caller(&key);
    cluster.origin.until_held(1).await;
    cluster.set_members(&["a"], &AB);
    cluster.origin.release();
    assert_eq!(waiting.await.unwrap(), "v1");
    let stats = cluster["a"].group.stats();
    assert_eq!((stats.main.items, stats.hot.items), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn entries_that_changed_owners_end_as_hot_copies() {
    let (cluster, lost) = alone_at_first(1_000);
    let view = cluster["b"].members.view();
    let kept = keys(1_000).into_iter().find(|key| view.owner_name(key) == "a").unwrap();
    cluster["a"].read(&lost).await;
    cluster["a"].read(&kept).await;
    cluster.set_members(&["a"], &AB);
    assert_eq!((cluster["a"].source(&lost).await, cluster["a"].source(&kept).await), (Source::Hot, Source::Main));
    sleep(ms(1_010)).await;
    assert_eq!((cluster["a"].source(&lost).await, cluster["a"].source(&kept).await), (Source::Peer, Source::Main));
}

#[tokio::test]
async fn entries_that_changed_owners_are_dropped_where_no_copies_are_kept() {
    let (cluster, key) = alone_at_first(0);
    cluster["a"].read(&key).await;
    cluster.set_members(&["a"], &AB);
    assert_eq!((cluster["a"].items(), cluster["a"].bytes()), (0, 0));
}

#[tokio::test]
async fn a_value_fetched_under_another_ring_is_answered_and_not_cached() {
    let cluster = Cluster::new(AB);
    let key = cluster.key_of("b");
    cluster.net.hold_requests("b");
    let waiting = cluster["a"].caller(&key);
    cluster.net.until_asked("b", 1).await;
    cluster.set_members(&["a"], &ABC);
    cluster.net.answer_held("b", || reply("value", |_| ()));
    assert_eq!(waiting.await.unwrap(), "value");
    assert_eq!(cluster["a"].group.stats().hot.items, 0);
}
