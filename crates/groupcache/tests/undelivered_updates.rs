//! Members that could not be told of a change: they are named, told when they are back, and not asked before.

mod support;

use peercache_groupcache::{Bytes, Change};
use support::{
    cluster::{AB, ABC, Cluster},
    ms,
    net::{
        CHANGES,
        What::{Acks, Forgets},
    },
    soon,
    updates::{all_hold_300_old, all_hold_the_old, missed},
};
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn a_member_that_cannot_be_reached_is_named_and_the_others_are_clean() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.cut("c");
    assert_eq!(missed(soon(cluster["a"].group.remove(&key)).await), ["c"]);
    assert_eq!(cluster.cached(&key), "- - v1");
}

#[tokio::test(start_paused = true)]
async fn the_report_says_why() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.cut("c");
    let error = soon(cluster["a"].group.remove(&key)).await.unwrap_err();
    assert_eq!(error.to_string(), "one member could not be told: c (no way to the peer)");
}

#[tokio::test(start_paused = true)]
async fn all_who_cannot_be_reached_are_named_in_the_order_of_the_list() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.cut("b");
    cluster.net.cut("c");
    assert_eq!(missed(soon(cluster["a"].group.remove(&key)).await), ["b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn members_that_do_not_answer_are_named_within_the_time_for_updates() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.stop("b", Forgets);
    cluster.net.stop("c", Forgets);
    let began = Instant::now();
    assert_eq!(missed(soon(cluster["a"].group.remove(&key)).await), ["b", "c"]);
    assert!((ms(900)..ms(1_500)).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_time_for_updates_is_what_the_group_says() {
    let cluster = Cluster::with(AB, |group| group.update_timeout(ms(200)));
    cluster.net.stop("b", Forgets);
    let began = Instant::now();
    assert_eq!(missed(soon(cluster["a"].group.remove("key")).await), ["b"]);
    assert!((ms(150)..ms(500)).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_acknowledgement_is_lost_is_named_though_it_forgot() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.stop("c", Acks);
    assert_eq!(missed(soon(cluster["a"].group.remove(&key)).await), ["c"]);
    assert_eq!(cluster.cached(&key), "- - -");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_missed_forgets_when_it_is_back() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.cut("c");
    let _ = soon(cluster["a"].group.remove(&key)).await;
    sleep(ms(5_000)).await;
    assert_eq!(cluster.cached(&key), "- - v1");
    cluster.net.mend("c");
    sleep(ms(1_500)).await;
    assert_eq!(cluster.cached(&key), "- - -");
}

/// Whoever heard of the miss keeps the change too, so that it outlives the remover.
#[tokio::test(start_paused = true)]
async fn a_member_that_was_missed_is_told_by_others_if_the_remover_is_cut_off_from_it() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.cut("c");
    let _ = soon(cluster["a"].group.remove(&key)).await;
    cluster.net.mend("c");
    cluster.net.cut_way("a", "c");
    sleep(ms(1_500)).await;
    assert_eq!(cluster.cached(&key), "- - -");
}

#[tokio::test(start_paused = true)]
async fn all_that_a_member_missed_is_told_when_it_is_back() {
    let (cluster, keys) = all_hold_300_old().await;
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
async fn what_a_member_misses_while_it_is_told_of_something_else_is_told_too() {
    let cluster = Cluster::new(AB);
    let [first, second] = cluster.keys_of("a", 2).try_into().unwrap();
    cluster.read(&first).await;
    cluster.read(&second).await;
    cluster.net.cut("b");
    let _ = soon(cluster["a"].group.remove(&first)).await;
    cluster.net.mend("b");
    cluster.net.stop("b", Forgets);
    soon(cluster.net.until_stopped("b", Forgets, 1)).await;
    let telling = cluster.net.keep_stopped("b", Forgets);
    cluster.net.cut("b");
    let _ = soon(cluster["a"].group.remove(&second)).await;
    telling.into_iter().for_each(|deliver| deliver());
    cluster.net.mend("b");
    sleep(ms(1_500)).await;
    assert_eq!([cluster.cached(&first), cluster.cached(&second)], ["- -", "- -"]);
}

#[tokio::test(start_paused = true)]
async fn a_clear_that_a_member_missed_is_told_when_it_is_back() {
    let (cluster, _) = all_hold_300_old().await;
    cluster.net.cut("c");
    let _ = soon(cluster["a"].group.clear()).await;
    cluster.net.mend("c");
    sleep(ms(1_500)).await;
    assert_eq!(cluster["c"].items(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_missed_is_told_once_it_is_back_and_then_no_more() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.cut("c");
    let _ = soon(cluster["a"].group.remove(&key)).await;
    cluster.net.mend("c");
    sleep(ms(2_000)).await;
    cluster.net.forget_asked();
    sleep(ms(60_000)).await;
    assert_eq!(cluster.net.updates("c").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_away_is_tried_at_most_ten_times_a_second_and_at_least_once_a_second() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.cut("c");
    let _ = soon(cluster["a"].group.remove(&key)).await;
    sleep(ms(10_000)).await;
    cluster.net.forget_asked();
    sleep(ms(10_000)).await;
    let tries = cluster.net.updates("c").len();
    assert!((18..=24).contains(&tries), "{tries} tries of two nodes in 10 s");
}

#[tokio::test(start_paused = true)]
async fn what_a_member_loaded_after_the_remove_survives_the_report_of_others() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.cut("c");
    let _ = soon(cluster["a"].group.remove(&key)).await;
    assert_eq!([cluster["a"].read(&key).await, cluster["b"].read(&key).await], ["v2", "v2"]);
    cluster.net.mend("c");
    sleep(ms(1_500)).await;
    assert_eq!(cluster.cached(&key), "v2 v2 -");
}

/// Three nodes that hold the old value of a key of `b`, which missed its remove and could be asked all the same.
async fn the_owner_missed_it() -> (Cluster, String) {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.cut_off("b", &CHANGES);
    assert_eq!(missed(soon(cluster["a"].group.remove(&key)).await), ["b"]);
    cluster.net.forget_asked();
    (cluster, key)
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_missed_is_not_asked_before_it_knows() {
    let (cluster, key) = the_owner_missed_it().await;
    assert_eq!(cluster["a"].read(&key).await, "v2");
    assert_eq!(cluster.net.asked("b"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_missed_is_not_asked_by_others_either() {
    let (cluster, key) = the_owner_missed_it().await;
    assert_eq!(cluster["c"].read(&key).await, "v2");
    assert_eq!(cluster.net.asked("b"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_missed_is_asked_again_once_it_knows() {
    let (cluster, key) = the_owner_missed_it().await;
    cluster.net.mend("b");
    sleep(ms(1_500)).await;
    assert_eq!(cluster.sources(&key).await, "peer main peer");
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn many_at_once_are_not_asked_of_a_member_that_was_missed_either() {
    let (cluster, key) = the_owner_missed_it().await;
    assert_eq!(soon(cluster["a"].group.get_many([&key])).await.remove(0).unwrap(), "v2");
    assert_eq!(cluster.net.asked("b"), 0);
}

/// More changes than are kept for a member: it then drops all that it holds of the group, and the memory is bounded.
#[tokio::test(start_paused = true)]
async fn a_member_that_missed_too_much_drops_all_its_copies() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.cut("c");
    for batch in 0..20 {
        let keys: Vec<String> = (0..10_000).map(|nth| format!("other-{batch}-{nth}")).collect();
        let _ = soon(cluster["a"].group.remove_many(&keys)).await;
    }
    cluster.net.forget_asked();
    cluster.net.mend("c");
    sleep(ms(2_500)).await;
    assert_eq!(cluster.cached(&key), "v1 v1 -");
    let told = cluster.net.updates("c");
    assert!(told.iter().any(|update| update.change == Change::Clear));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_places_keys_otherwise_is_named() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.set_members(&["c"], &["a", "b", "c", "d"]);
    assert_eq!(missed(soon(cluster["a"].group.remove(&key)).await), ["c"]);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_places_keys_otherwise_forgets_all_the_same() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.set_members(&["c"], &["a", "b", "c", "d"]);
    let _ = soon(cluster["a"].group.remove(&key)).await;
    assert_eq!(cluster.cached(&key), "- - -");
}

#[tokio::test(start_paused = true)]
async fn a_set_at_a_member_that_places_keys_otherwise_is_reported() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.set_members(&["b"], &["a", "b", "c", "d"]);
    assert_eq!(missed(soon(cluster["a"].group.set(&key, Bytes::from("set"))).await), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn what_comes_from_a_member_that_places_keys_otherwise_is_not_kept() {
    let cluster = Cluster::new(ABC);
    let key = cluster.key_of("b");
    cluster.set_members(&["b"], &["a", "b", "c", "d"]);
    assert_eq!(cluster["a"].read(&key).await, "v1");
    assert_eq!(cluster["a"].items(), 0);
}

/// `c` holds an old value and has left the list of the others, which go on to the new one.
async fn away_with_the_old(change: impl AsyncFn(&Cluster, &str)) -> (Cluster, String) {
    let (cluster, _) = all_hold_the_old().await;
    let key = cluster.key_of("c");
    cluster["c"].read(&key).await;
    cluster.db.change();
    cluster.set_members(&AB, &AB);
    change(&cluster, &key).await;
    (cluster, key)
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_away_during_a_remove_forgets_when_it_returns() {
    let removed = async |cluster: &Cluster, key: &str| soon(cluster["a"].group.remove(key)).await.unwrap();
    let (cluster, key) = away_with_the_old(removed).await;
    cluster.set_members(&AB, &ABC);
    sleep(ms(1_500)).await;
    assert_eq!(cluster.read(&key).await, "v3 v3 v3");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_away_during_a_remove_is_not_asked_before_it_has_forgotten() {
    let removed = async |cluster: &Cluster, key: &str| soon(cluster["a"].group.remove(key)).await.unwrap();
    let (cluster, key) = away_with_the_old(removed).await;
    cluster.net.cut_off("c", &CHANGES);
    cluster.set_members(&AB, &ABC);
    assert_eq!([cluster["a"].read(&key).await, cluster["b"].read(&key).await], ["v3", "v3"]);
    assert_eq!(cluster.net.asked("c"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_missed_and_then_was_away_forgets_when_it_returns() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.cut("c");
    let _ = soon(cluster["a"].group.remove(&key)).await;
    cluster.set_members(&AB, &AB);
    sleep(ms(5_000)).await;
    cluster.net.mend("c");
    cluster.set_members(&AB, &ABC);
    sleep(ms(1_500)).await;
    assert_eq!(cluster["c"].items(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_away_while_nothing_changed_keeps_what_it_has() {
    let (cluster, key) = away_with_the_old(async |_, _| {}).await;
    cluster.set_members(&AB, &ABC);
    sleep(ms(1_500)).await;
    assert_eq!(cluster["c"].read(&key).await, "v2");
}
