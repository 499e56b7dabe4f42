//! remove and clear: after them no node answers an older value, whatever happens meanwhile.

mod support;

use peercache_groupcache::{Bytes, ErrorKind, loader_fn};
use support::{
    cluster::{AB, ABC, Cluster},
    ms,
    net::Kind::{Answers, Gets, Removes},
    origin::Health,
    outside_a_runtime, settle, soon,
    updates::{
        all_hold_300_old_values, all_hold_the_old_value, loads_are_held, refused, remove,
        the_old_value_is_being_loaded_for, the_old_value_is_on_its_way_to, unreached,
    },
};
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn a_key_removed_at_its_owner_is_gone_everywhere() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster["b"].group.remove(&key).await.unwrap();
    assert_eq!(cluster.cached(&key), "- - -");
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_key_removed_at_another_node_is_gone_everywhere() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster["c"].group.remove(&key).await.unwrap();
    assert_eq!(cluster.cached(&key), "- - -");
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_client_removes_as_members_do() {
    let (mut cluster, key) = all_hold_the_old_value().await;
    cluster.add_client("client", &ABC);
    assert_eq!(cluster["client"].read(&key).await, "v1");
    soon(cluster["client"].group.remove(&key)).await.unwrap();
    assert_eq!(cluster.read(&key).await, "v2 v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_remove_leaves_other_keys() {
    let (cluster, key) = all_hold_the_old_value().await;
    let other = cluster.keys_of("b", 2).remove(1);
    assert_eq!(cluster.read(&other).await, "v2 v2 v2");
    cluster["a"].group.remove(&key).await.unwrap();
    assert_eq!(cluster.cached(&other), "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_remove_of_an_absent_key_is_ok() {
    let cluster = Cluster::new(ABC);
    assert!(soon(cluster["a"].group.remove("absent")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_node_alone_removes_for_itself() {
    let cluster = Cluster::new(["a"]);
    cluster["a"].read("key").await;
    cluster.origin.change();
    soon(cluster["a"].group.remove("key")).await.unwrap();
    assert_eq!(cluster["a"].read("key").await, "v2");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_at_the_owner_gets_no_value_loaded_before_the_remove() {
    let (cluster, key, waiting) = the_old_value_is_being_loaded_for("b").await;
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    cluster.origin.release();
    assert_eq!(waiting.await.unwrap(), "v2");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_elsewhere_gets_no_value_loaded_before_the_remove() {
    let (cluster, key, waiting) = the_old_value_is_being_loaded_for("c").await;
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    cluster.origin.release();
    assert_eq!(waiting.await.unwrap(), "v2");
}

#[tokio::test(start_paused = true)]
async fn a_load_that_ends_after_the_remove_restores_nothing() {
    let (cluster, key, waiting) = the_old_value_is_being_loaded_for("b").await;
    waiting.abort();
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    cluster.origin.release();
    settle().await;
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn an_old_load_that_ends_last_does_not_overwrite_the_new_one() {
    let (cluster, key, waiting) = the_old_value_is_being_loaded_for("b").await;
    cluster.origin.hold_no_more();
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    assert_eq!(waiting.await.unwrap(), "v2");
    cluster.origin.release();
    settle().await;
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_remove_does_not_wait_for_loads() {
    let (cluster, key, waiting) = the_old_value_is_being_loaded_for("b").await;
    let began = Instant::now();
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    assert!(began.elapsed() < ms(100));
    cluster.origin.release();
    waiting.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_arrives_after_the_remove_is_given_to_nobody() {
    let (cluster, key, waiting) = the_old_value_is_on_its_way_to("c").await;
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    cluster.net.resume("b", Answers);
    assert_eq!(waiting.await.unwrap(), "v2");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_arrives_after_the_remove_is_not_cached() {
    let (cluster, key, waiting) = the_old_value_is_on_its_way_to("c").await;
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    waiting.abort();
    cluster.net.resume("b", Answers);
    settle().await;
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn an_answer_on_its_way_to_the_remover_is_given_to_nobody() {
    let (cluster, key, waiting) = the_old_value_is_on_its_way_to("a").await;
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    cluster.net.resume("b", Answers);
    assert_eq!(waiting.await.unwrap(), "v2");
}

/// The case for the second round: `c` has removed the value, and asks an owner that has not yet.
#[tokio::test(start_paused = true)]
async fn a_value_fetched_before_the_remove_reaches_the_owner_is_removed_again() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.pause("b", Removes);
    let removing = remove(&cluster, "a", &key);
    cluster.net.until_paused("b", Removes, 1).await;
    settle().await;
    assert_eq!(cluster["c"].read(&key).await, "v1", "the remove has not ended");
    cluster.net.resume("b", Removes);
    removing.await.unwrap().unwrap();
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_remove_is_sent_to_all_members_side_by_side() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.pause("b", Removes);
    cluster.net.pause("c", Removes);
    let removing = remove(&cluster, "a", &key);
    soon(cluster.net.until_paused("b", Removes, 1)).await;
    soon(cluster.net.until_paused("c", Removes, 1)).await;
    cluster.net.resume("b", Removes);
    cluster.net.resume("c", Removes);
    removing.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_load_under_another_ring_keeps_no_old_value() {
    let cluster = Cluster::new(ABC);
    let key = cluster.key_of("b");
    cluster.origin.hold();
    // To `c` the key is its own, so it loads.
    cluster.set_members(&["c"], &["c"]);
    let waiting = cluster["c"].caller(&key);
    cluster.origin.until_held(1).await;
    cluster.origin.change();
    cluster.set_members(&["c"], &ABC);
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    cluster.origin.release();
    assert_eq!(waiting.await.unwrap(), "v2");
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_remove_under_the_old_list_reaches_the_member_that_joins_meanwhile() {
    let mut cluster = Cluster::new(AB);
    cluster.add("c", &ABC, |group| group);
    let key = cluster.key_of("c");
    assert_eq!(cluster.read(&key).await, "v1 v1 v1");
    cluster.origin.change();
    cluster.net.pause("b", Removes);
    let removing = remove(&cluster, "a", &key);
    cluster.net.until_paused("b", Removes, 1).await;
    cluster.set_members(&AB, &ABC);
    cluster.net.resume("b", Removes);
    removing.await.unwrap().unwrap();
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_remove_goes_on_when_a_member_leaves_meanwhile() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.pause("b", Removes);
    let removing = remove(&cluster, "a", &key);
    cluster.net.until_paused("b", Removes, 1).await;
    cluster.set_members(&["a", "c"], &["a", "c"]);
    cluster.net.resume("b", Removes);
    assert_eq!(unreached(removing.await.unwrap()), Vec::<String>::new());
    assert_eq!([cluster["a"].read(&key).await, cluster["c"].read(&key).await], ["v2", "v2"]);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_changed_owners_is_removed_at_the_old_one_and_at_the_new_one() {
    let mut cluster = Cluster::new(AB);
    cluster.add("c", &ABC, |group| group);
    let key = cluster.key_of("c");
    assert_eq!(cluster.read(&key).await, "v1 v1 v1");
    cluster.origin.change();
    cluster.set_members(&AB, &ABC);
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    assert_eq!(cluster.cached(&key), "- - -");
}

#[tokio::test(start_paused = true)]
async fn removes_at_two_nodes_both_hold() {
    let (cluster, key) = all_hold_the_old_value().await;
    let removing = [remove(&cluster, "a", &key), remove(&cluster, "c", &key)];
    for removing in removing {
        removing.await.unwrap().unwrap();
    }
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

/// The second remove begins while the first is held up, and ends before it.
#[tokio::test(start_paused = true)]
async fn a_second_remove_does_not_rely_on_the_first() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.pause("b", Removes);
    let first = remove(&cluster, "a", &key);
    cluster.net.until_paused("b", Removes, 1).await;
    let held = cluster.net.take_paused("b", Removes);
    assert_eq!(cluster["c"].read(&key).await, "v1");
    soon(cluster["c"].group.remove(&key)).await.unwrap();
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
    held.into_iter().for_each(|deliver| deliver());
    first.await.unwrap().unwrap();
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_not_found_that_is_removed_is_loaded_again() {
    let cluster = Cluster::with(ABC, |group| group.negative_ttl(ms(60_000)));
    let key = cluster.key_of("b");
    cluster.origin.delete(&key);
    assert_eq!(cluster.read(&key).await, "NotFound NotFound NotFound");
    cluster.origin.put(&key, "new");
    soon(cluster["c"].group.remove(&key)).await.unwrap();
    assert_eq!(cluster.read(&key).await, "new new new");
}

#[tokio::test(start_paused = true)]
async fn a_not_found_in_flight_when_the_key_was_removed_is_given_to_nobody() {
    let cluster = Cluster::with(ABC, |group| group.negative_ttl(ms(60_000)));
    let key = cluster.key_of("b");
    cluster.origin.delete(&key);
    cluster.origin.hold();
    let waiting = ["a", "b", "c"].map(|node| cluster[node].caller(&key));
    cluster.origin.until_held(1).await;
    cluster.origin.put(&key, "new");
    soon(cluster["c"].group.remove(&key)).await.unwrap();
    cluster.origin.release();
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), "new");
    }
}

/// The failure is older than the remove, as a value would be.
#[tokio::test(start_paused = true)]
async fn a_failure_in_flight_when_the_key_was_removed_is_given_to_nobody() {
    let (cluster, key) = loads_are_held();
    cluster.origin.health(Health::Fails);
    let waiting = cluster["b"].caller(&key);
    cluster.origin.until_held(1).await;
    cluster.origin.health(Health::Fine);
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    cluster.origin.release();
    assert_eq!(waiting.await.unwrap(), "v1");
    assert_eq!(cluster.read(&key).await, "v1 v1 v1");
}

#[tokio::test(start_paused = true)]
async fn endless_removes_do_not_keep_a_caller_waiting_for_ever() {
    let cluster = Cluster::new(["a"]);
    cluster.origin.delay(ms(50));
    let waiting = cluster["a"].caller("key");
    for _ in 0..100 {
        sleep(ms(20)).await;
        cluster["a"].group.remove("key").await.unwrap();
    }
    assert!(waiting.is_finished(), "2 s of removes, each during a load of 50 ms");
}

#[tokio::test(start_paused = true)]
async fn remove_many_leaves_none_of_300_keys_old_anywhere() {
    let (cluster, keys) = all_hold_300_old_values().await;
    soon(cluster["a"].group.remove_many(&keys)).await.unwrap();
    for key in &keys {
        assert_eq!(cluster.read(key).await, "v2 v2 v2");
    }
}

#[tokio::test(start_paused = true)]
async fn remove_many_of_300_keys_is_one_message_per_member_and_round() {
    let (cluster, keys) = all_hold_300_old_values().await;
    soon(cluster["a"].group.remove_many(&keys)).await.unwrap();
    assert_eq!((cluster.net.updates("b").len(), cluster.net.updates("c").len()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn remove_many_takes_a_key_twice() {
    let (cluster, key) = all_hold_the_old_value().await;
    soon(cluster["a"].group.remove_many([&key, &key])).await.unwrap();
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn remove_many_of_no_keys_sends_nothing() {
    let (cluster, _) = all_hold_the_old_value().await;
    soon(cluster["a"].group.remove_many::<&str>([])).await.unwrap();
    assert_eq!(cluster.net.updates("b").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_remove_of_a_key_over_the_limit_is_refused() {
    let cluster = Cluster::with(["a"], |group| group.max_key_bytes(3));
    assert_eq!(refused(cluster["a"].group.remove("four").await), ErrorKind::KeyTooLong);
}

#[tokio::test(start_paused = true)]
async fn a_clear_empties_the_group_on_all_nodes() {
    let (cluster, _) = all_hold_300_old_values().await;
    soon(cluster["c"].group.clear()).await.unwrap();
    let held: Vec<(u64, u64)> = cluster.nodes().map(|node| (node.items(), node.bytes())).collect();
    assert_eq!(held, [(0, 0); 3]);
}

#[tokio::test(start_paused = true)]
async fn a_clear_holds_for_loads_in_flight() {
    let (cluster, key) = loads_are_held();
    let waiting = ["a", "b", "c"].map(|node| cluster[node].caller(&key));
    cluster.origin.until_held(1).await;
    settle().await;
    cluster.origin.change();
    soon(cluster["a"].group.clear()).await.unwrap();
    cluster.origin.release();
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), "v2");
    }
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_clear_holds_for_answers_on_their_way() {
    let (cluster, key, waiting) = the_old_value_is_on_its_way_to("c").await;
    soon(cluster["a"].group.clear()).await.unwrap();
    cluster.net.resume("b", Answers);
    assert_eq!(waiting.await.unwrap(), "v2");
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_clear_names_the_members_that_it_did_not_reach() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.cut("c");
    assert_eq!(unreached(soon(cluster["a"].group.clear()).await), ["c"]);
    assert_eq!(cluster.cached(&key), "- - v1");
}

#[tokio::test(start_paused = true)]
async fn a_clear_leaves_other_groups() {
    let (cluster, _) = all_hold_the_old_value().await;
    let other = cluster["a"].groups.group("other", loader_fn(|_| async { Ok(Bytes::new()) })).build().unwrap();
    other.get("key").await.unwrap();
    soon(cluster["a"].group.clear()).await.unwrap();
    assert_eq!(other.stats().main.items + other.stats().hot.items, 1);
}

#[tokio::test(start_paused = true)]
async fn a_remove_holds_for_refreshes_and_stale_answers_too() {
    let cluster = Cluster::with(ABC, |group| {
        group.time_to_live(ms(1_000)).stale_while_revalidate(ms(60_000)).stale_if_error(ms(60_000))
    });
    let key = cluster.key_of("b");
    cluster.read(&key).await;
    sleep(ms(1_100)).await;
    cluster.origin.hold();
    assert_eq!(cluster.read(&key).await, "v1 v1 v1");
    cluster.origin.until_held(1).await;
    cluster.origin.change();
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    cluster.origin.release();
    settle().await;
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_on_its_way_to_the_owner_is_answered_with_the_new_value() {
    let cluster = Cluster::new(ABC);
    let key = cluster.key_of("b");
    cluster["b"].read(&key).await;
    cluster.net.pause("b", Gets);
    let waiting = cluster["c"].caller(&key);
    cluster.net.until_paused("b", Gets, 1).await;
    cluster.origin.change();
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    cluster.net.resume("b", Gets);
    assert_eq!(waiting.await.unwrap(), "v2");
}

#[test]
fn an_update_outside_a_runtime_is_an_error_and_no_panic() {
    let cluster = Cluster::new(AB);
    let group = &cluster["a"].group;
    assert_eq!(refused(outside_a_runtime(group.remove("key"))), ErrorKind::NoRuntime);
    assert_eq!(refused(outside_a_runtime(group.remove_many(["key"]))), ErrorKind::NoRuntime);
    assert_eq!(refused(outside_a_runtime(group.clear())), ErrorKind::NoRuntime);
    assert_eq!(refused(outside_a_runtime(group.set("key", Bytes::new()))), ErrorKind::NoRuntime);
}
