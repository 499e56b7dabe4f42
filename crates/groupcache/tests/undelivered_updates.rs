//! Undelivered updates: the members they did not reach are named, get them once they are back, and
//! are not asked before.

mod support;

use peercache_groupcache::{Bytes, Change};
use support::{
    cluster::{AB, ABC, Cluster},
    ms,
    net::{
        Kind::{Acks, Removes},
        UPDATES,
    },
    soon,
    updates::{all_hold_300_old_values, all_hold_the_old_value, unreached},
};
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn an_unreachable_member_is_named_and_the_others_have_removed_the_value() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.cut("c");
    assert_eq!(unreached(soon(cluster["a"].group.remove(&key)).await), ["c"]);
    assert_eq!(cluster.cached(&key), "- - v1");
}

#[tokio::test(start_paused = true)]
async fn the_error_says_why_a_member_was_not_reached() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.cut("c");
    let error = soon(cluster["a"].group.remove(&key)).await.unwrap_err();
    assert_eq!(error.to_string(), "one member could not be told: c (no way to the peer)");
}

#[tokio::test(start_paused = true)]
async fn all_unreachable_members_are_named_in_the_order_of_the_list() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.cut("b");
    cluster.net.cut("c");
    assert_eq!(unreached(soon(cluster["a"].group.remove(&key)).await), ["b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn members_that_do_not_acknowledge_are_named_within_the_update_timeout() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.pause("b", Removes);
    cluster.net.pause("c", Removes);
    let began = Instant::now();
    assert_eq!(unreached(soon(cluster["a"].group.remove(&key)).await), ["b", "c"]);
    assert!((ms(900)..ms(1_500)).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_update_timeout_is_as_the_group_is_set() {
    let cluster = Cluster::with(AB, |group| group.update_timeout(ms(200)));
    cluster.net.pause("b", Removes);
    let began = Instant::now();
    assert_eq!(unreached(soon(cluster["a"].group.remove("key")).await), ["b"]);
    assert!((ms(150)..ms(500)).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_acknowledgement_is_lost_is_named_though_it_has_the_update() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.pause("c", Acks);
    assert_eq!(unreached(soon(cluster["a"].group.remove(&key)).await), ["c"]);
    assert_eq!(cluster.cached(&key), "- - -");
}

#[tokio::test(start_paused = true)]
async fn a_remove_is_delivered_when_the_member_is_back() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.cut("c");
    let _ = soon(cluster["a"].group.remove(&key)).await;
    sleep(ms(5_000)).await;
    assert_eq!(cluster.cached(&key), "- - v1");
    cluster.net.mend("c");
    sleep(ms(1_500)).await;
    assert_eq!(cluster.cached(&key), "- - -");
}

/// All members that hear of an undelivered update keep it too, so that it outlives the remover.
#[tokio::test(start_paused = true)]
async fn an_update_is_delivered_by_others_if_the_remover_cannot_reach_the_member() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.cut("c");
    let _ = soon(cluster["a"].group.remove(&key)).await;
    cluster.net.mend("c");
    cluster.net.cut_link("a", "c");
    sleep(ms(1_500)).await;
    assert_eq!(cluster.cached(&key), "- - -");
}

#[tokio::test(start_paused = true)]
async fn all_undelivered_updates_are_delivered_when_the_member_is_back() {
    let (cluster, keys) = all_hold_300_old_values().await;
    cluster.net.cut("c");
    for key in &keys[..50] {
        let _ = soon(cluster["a"].group.remove(key)).await;
    }
    let _ = soon(cluster["b"].group.remove_many(&keys[50..])).await;
    cluster.net.mend("c");
    sleep(ms(1_500)).await;
    assert_eq!(cluster["c"].items(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_update_missed_during_a_delivery_is_delivered_too() {
    let cluster = Cluster::new(AB);
    let [first, second] = cluster.keys_of("a", 2).try_into().unwrap();
    cluster.read(&first).await;
    cluster.read(&second).await;
    cluster.net.cut("b");
    let _ = soon(cluster["a"].group.remove(&first)).await;
    cluster.net.mend("b");
    cluster.net.pause("b", Removes);
    soon(cluster.net.until_paused("b", Removes, 1)).await;
    let delivery = cluster.net.take_paused("b", Removes);
    cluster.net.cut("b");
    let _ = soon(cluster["a"].group.remove(&second)).await;
    delivery.into_iter().for_each(|deliver| deliver());
    cluster.net.mend("b");
    sleep(ms(1_500)).await;
    assert_eq!([cluster.cached(&first), cluster.cached(&second)], ["- -", "- -"]);
}

#[tokio::test(start_paused = true)]
async fn a_clear_is_delivered_when_the_member_is_back() {
    let (cluster, _) = all_hold_300_old_values().await;
    cluster.net.cut("c");
    let _ = soon(cluster["a"].group.clear()).await;
    cluster.net.mend("c");
    sleep(ms(1_500)).await;
    assert_eq!(cluster["c"].items(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_update_that_was_delivered_is_not_sent_again() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.cut("c");
    let _ = soon(cluster["a"].group.remove(&key)).await;
    cluster.net.mend("c");
    sleep(ms(2_000)).await;
    cluster.net.clear_log();
    sleep(ms(60_000)).await;
    assert_eq!(cluster.net.updates("c").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_absent_member_is_tried_between_once_and_ten_times_a_second() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.cut("c");
    let _ = soon(cluster["a"].group.remove(&key)).await;
    sleep(ms(10_000)).await;
    cluster.net.clear_log();
    sleep(ms(10_000)).await;
    let tries = cluster.net.updates("c").len();
    assert!((18..=24).contains(&tries), "{tries} tries of two nodes in 10 s");
}

#[tokio::test(start_paused = true)]
async fn a_value_loaded_after_the_remove_survives_its_delivery_to_others() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.cut("c");
    let _ = soon(cluster["a"].group.remove(&key)).await;
    assert_eq!([cluster["a"].read(&key).await, cluster["b"].read(&key).await], ["v2", "v2"]);
    cluster.net.mend("c");
    sleep(ms(1_500)).await;
    assert_eq!(cluster.cached(&key), "v2 v2 -");
}

/// Three nodes that hold the old value of a key of `b`, which can be asked but has not got the
/// remove.
async fn the_owner_has_not_got_the_remove() -> (Cluster, String) {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.cut_kinds("b", &UPDATES);
    assert_eq!(unreached(soon(cluster["a"].group.remove(&key)).await), ["b"]);
    cluster.net.clear_log();
    (cluster, key)
}

#[tokio::test(start_paused = true)]
async fn a_member_with_undelivered_updates_is_not_asked() {
    let (cluster, key) = the_owner_has_not_got_the_remove().await;
    assert_eq!(cluster["a"].read(&key).await, "v2");
    assert_eq!(cluster.net.asked("b"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_member_with_undelivered_updates_is_not_asked_by_others_either() {
    let (cluster, key) = the_owner_has_not_got_the_remove().await;
    assert_eq!(cluster["c"].read(&key).await, "v2");
    assert_eq!(cluster.net.asked("b"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_member_is_asked_again_once_its_updates_are_delivered() {
    let (cluster, key) = the_owner_has_not_got_the_remove().await;
    cluster.net.mend("b");
    sleep(ms(1_500)).await;
    assert_eq!(cluster.sources(&key).await, "peer main peer");
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

/// More updates than are kept for a member, for memory is bounded: it then gets a clear instead.
#[tokio::test(start_paused = true)]
async fn a_member_with_too_many_undelivered_updates_drops_all_its_entries() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.cut("c");
    for batch in 0..20 {
        let keys: Vec<String> = (0..10_000).map(|nth| format!("other-{batch}-{nth}")).collect();
        let _ = soon(cluster["a"].group.remove_many(&keys)).await;
    }
    cluster.net.clear_log();
    cluster.net.mend("c");
    sleep(ms(2_500)).await;
    assert_eq!(cluster.cached(&key), "v1 v1 -");
    let updates = cluster.net.updates("c");
    assert!(updates.iter().any(|update| update.change == Change::Clear));
}

#[tokio::test(start_paused = true)]
async fn a_member_with_another_ring_is_named() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.set_members(&["c"], &["a", "b", "c", "d"]);
    assert_eq!(unreached(soon(cluster["a"].group.remove(&key)).await), ["c"]);
}

#[tokio::test(start_paused = true)]
async fn a_member_with_another_ring_removes_the_value_all_the_same() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.set_members(&["c"], &["a", "b", "c", "d"]);
    let _ = soon(cluster["a"].group.remove(&key)).await;
    assert_eq!(cluster.cached(&key), "- - -");
}

#[tokio::test(start_paused = true)]
async fn an_owner_with_another_ring_is_named_by_a_set() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.set_members(&["b"], &["a", "b", "c", "d"]);
    assert_eq!(unreached(soon(cluster["a"].group.set(&key, Bytes::from("set"))).await), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_value_from_a_member_with_another_ring_is_not_cached() {
    let cluster = Cluster::new(ABC);
    let key = cluster.key_of("b");
    cluster.set_members(&["b"], &["a", "b", "c", "d"]);
    assert_eq!(cluster["a"].read(&key).await, "v1");
    assert_eq!(cluster["a"].items(), 0);
}

/// `c` holds an old value and has left the list of the others, which make a change and go on to a
/// new value.
async fn away_with_the_old_value(change: impl AsyncFn(&Cluster, &str)) -> (Cluster, String) {
    let (cluster, _) = all_hold_the_old_value().await;
    let key = cluster.key_of("c");
    cluster["c"].read(&key).await;
    cluster.origin.change();
    cluster.set_members(&AB, &AB);
    change(&cluster, &key).await;
    (cluster, key)
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_away_during_a_remove_drops_the_value_when_it_returns() {
    let removed = async |cluster: &Cluster, key: &str| soon(cluster["a"].group.remove(key)).await.unwrap();
    let (cluster, key) = away_with_the_old_value(removed).await;
    cluster.set_members(&AB, &ABC);
    sleep(ms(1_500)).await;
    assert_eq!(cluster.read(&key).await, "v3 v3 v3");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_away_during_a_remove_is_not_asked_before_it_has_dropped_the_value() {
    let removed = async |cluster: &Cluster, key: &str| soon(cluster["a"].group.remove(key)).await.unwrap();
    let (cluster, key) = away_with_the_old_value(removed).await;
    cluster.net.cut_kinds("c", &UPDATES);
    cluster.set_members(&AB, &ABC);
    assert_eq!([cluster["a"].read(&key).await, cluster["b"].read(&key).await], ["v3", "v3"]);
    assert_eq!(cluster.net.asked("c"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_away_while_nothing_changed_keeps_its_entries() {
    let (cluster, key) = away_with_the_old_value(async |_, _| {}).await;
    cluster.set_members(&AB, &ABC);
    sleep(ms(1_500)).await;
    assert_eq!(cluster["c"].read(&key).await, "v2");
}

/// A member that does not answer cost every update the whole `update_timeout`. Now it costs it once
/// in a while; it is told, and named, each time.
#[tokio::test(start_paused = true)]
async fn a_member_known_not_to_answer_is_told_and_named_and_not_waited_for() {
    let cluster = Cluster::new(ABC);
    cluster.net.pause("c", Removes);
    let mut waited = Vec::new();
    for nth in 0..20 {
        let began = Instant::now();
        let removed = cluster["a"].group.remove(&format!("key {nth}")).await;
        assert_eq!(unreached(removed), ["c"]);
        waited.push(began.elapsed());
        sleep(ms(500)).await;
    }
    assert!(waited[0] >= ms(1_000), "nobody knows yet");
    assert!(waited[1..].iter().all(|waited| *waited < ms(100)), "{waited:?}");
    assert!(cluster["a"].group.stats().undelivered_updates >= 20);
    cluster.net.resume("c", Removes);
    sleep(ms(2_500)).await;
    soon(cluster["a"].group.remove("key")).await.expect("it answers again");
    assert_eq!(cluster["a"].group.stats().undelivered_updates, 0);
}
