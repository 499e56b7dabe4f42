//! remove and clear: what no node answers after them, whatever happens meanwhile.

mod support;

use peercache_groupcache::{Bytes, Clock, ErrorKind, Groups, Members, loader_fn, loader_fn_with};
use support::{
    GROUP,
    cluster::{AB, ABC, Cluster},
    origin::{Db, Mood},
    ms,
    net::What::{Answers, Forgets, Gets},
    settle, soon,
    updates::{
        all_hold_300_old, all_hold_the_old, missed, refused, remove, the_old_is_on_its_way_to, the_owner_loads_the_old,
    },
};
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn what_is_removed_at_its_owner_is_gone_everywhere() {
    let (cluster, key) = all_hold_the_old().await;
    cluster["b"].group.remove(&key).await.unwrap();
    assert_eq!(cluster.cached(&key), "- - -");
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn what_is_removed_elsewhere_is_gone_everywhere() {
    let (cluster, key) = all_hold_the_old().await;
    cluster["c"].group.remove(&key).await.unwrap();
    assert_eq!(cluster.cached(&key), "- - -");
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_client_removes_as_members_do() {
    let (cluster, key) = all_hold_the_old().await;
    let members =
        Members::builder("client", cluster.net.seen_by("client")).client_only(true).members(ABC).build().unwrap();
    let groups = Groups::with_clock(members, Clock::tokio());
    let client = groups.group(GROUP, loader_fn_with(cluster.db.asked_by("client"), Db::load)).build().unwrap();
    client.get(&key).await.unwrap();
    soon(client.remove(&key)).await.unwrap();
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
    assert_eq!(client.get(&key).await.unwrap(), "v2");
}

#[tokio::test(start_paused = true)]
async fn other_keys_stay() {
    let (cluster, key) = all_hold_the_old().await;
    let other = cluster.keys_of("b", 2).remove(1);
    assert_eq!(cluster.read(&other).await, "v2 v2 v2");
    cluster["a"].group.remove(&key).await.unwrap();
    assert_eq!(cluster.cached(&other), "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_nowhere_is_removed_all_the_same() {
    let cluster = Cluster::new(ABC);
    assert!(soon(cluster["a"].group.remove("absent")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_node_alone_removes_for_itself() {
    let cluster = Cluster::new(["a"]);
    cluster["a"].read("key").await;
    cluster.db.change();
    soon(cluster["a"].group.remove("key")).await.unwrap();
    assert_eq!(cluster["a"].read("key").await, "v2");
}

#[tokio::test(start_paused = true)]
async fn who_waits_at_the_owner_gets_no_value_loaded_before_the_remove() {
    let (cluster, key) = the_owner_loads_the_old().await;
    let waiting = cluster["b"].caller(&key);
    cluster.db.holding(1).await;
    cluster.db.change();
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    cluster.db.open();
    assert_eq!(waiting.await.unwrap(), "v2");
}

#[tokio::test(start_paused = true)]
async fn who_waits_elsewhere_for_the_owners_load_gets_no_value_loaded_before_the_remove() {
    let (cluster, key) = the_owner_loads_the_old().await;
    let waiting = cluster["c"].caller(&key);
    cluster.db.holding(1).await;
    cluster.db.change();
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    cluster.db.open();
    assert_eq!(waiting.await.unwrap(), "v2");
}

#[tokio::test(start_paused = true)]
async fn a_load_that_ends_after_the_remove_brings_nothing_back() {
    let (cluster, key) = the_owner_loads_the_old().await;
    let waiting = cluster["b"].caller(&key);
    cluster.db.holding(1).await;
    waiting.abort();
    cluster.db.change();
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    cluster.db.open();
    settle().await;
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn an_old_load_that_ends_last_does_not_overwrite_the_new_one() {
    let (cluster, key) = the_owner_loads_the_old().await;
    let waiting = cluster["b"].caller(&key);
    cluster.db.holding(1).await;
    cluster.db.change();
    cluster.db.hold_no_more();
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    assert_eq!(waiting.await.unwrap(), "v2");
    cluster.db.open();
    settle().await;
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_remove_does_not_wait_for_loads() {
    let (cluster, key) = the_owner_loads_the_old().await;
    let waiting = cluster["b"].caller(&key);
    cluster.db.holding(1).await;
    let began = Instant::now();
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    assert!(began.elapsed() < ms(100));
    cluster.db.open();
    waiting.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_arrives_after_the_remove_is_given_to_nobody() {
    let (cluster, key, waiting) = the_old_is_on_its_way_to("c").await;
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    cluster.net.let_go("b", Answers);
    assert_eq!(waiting.await.unwrap(), "v2");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_arrives_after_the_remove_is_not_kept() {
    let (cluster, key, waiting) = the_old_is_on_its_way_to("c").await;
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    waiting.abort();
    cluster.net.let_go("b", Answers);
    settle().await;
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn an_answer_on_its_way_to_the_remover_is_given_to_nobody() {
    let (cluster, key, waiting) = the_old_is_on_its_way_to("a").await;
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    cluster.net.let_go("b", Answers);
    assert_eq!(waiting.await.unwrap(), "v2");
}

/// The case for the second round: `c` has forgotten already, and asks an owner that has not.
#[tokio::test(start_paused = true)]
async fn what_a_member_fetches_between_being_told_and_the_owners_being_told_is_not_kept() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.stop("b", Forgets);
    let removing = remove(&cluster, "a", &key);
    cluster.net.until_stopped("b", Forgets, 1).await;
    settle().await;
    assert_eq!(cluster["c"].read(&key).await, "v1", "the remove has not ended");
    cluster.net.let_go("b", Forgets);
    removing.await.unwrap().unwrap();
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn members_are_told_side_by_side() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.stop("b", Forgets);
    cluster.net.stop("c", Forgets);
    let removing = remove(&cluster, "a", &key);
    soon(cluster.net.until_stopped("b", Forgets, 1)).await;
    soon(cluster.net.until_stopped("c", Forgets, 1)).await;
    cluster.net.let_go("b", Forgets);
    cluster.net.let_go("c", Forgets);
    removing.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_asked_by_one_that_places_keys_otherwise_keeps_nothing_old() {
    let cluster = Cluster::new(ABC);
    let key = cluster.key_of("b");
    cluster.db.hold();
    // `c` believes that the key is its own, and loads.
    cluster.set_members(&["c"], &["c"]);
    let waiting = cluster["c"].caller(&key);
    cluster.db.holding(1).await;
    cluster.db.change();
    cluster.set_members(&["c"], &ABC);
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    cluster.db.open();
    assert_eq!(waiting.await.unwrap(), "v2");
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_remove_under_the_old_list_reaches_the_member_that_joins_meanwhile() {
    let mut cluster = Cluster::new(AB);
    cluster.add("c", &ABC, |group| group);
    let key = cluster.key_of("c");
    assert_eq!(cluster.read(&key).await, "v1 v1 v1");
    cluster.db.change();
    cluster.net.stop("b", Forgets);
    let removing = remove(&cluster, "a", &key);
    cluster.net.until_stopped("b", Forgets, 1).await;
    cluster.set_members(&AB, &ABC);
    cluster.net.let_go("b", Forgets);
    removing.await.unwrap().unwrap();
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_remove_goes_on_when_a_member_leaves_meanwhile() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.stop("b", Forgets);
    let removing = remove(&cluster, "a", &key);
    cluster.net.until_stopped("b", Forgets, 1).await;
    cluster.set_members(&["a", "c"], &["a", "c"]);
    cluster.net.let_go("b", Forgets);
    assert_eq!(missed(removing.await.unwrap()), Vec::<String>::new());
    assert_eq!([cluster["a"].read(&key).await, cluster["c"].read(&key).await], ["v2", "v2"]);
}

#[tokio::test(start_paused = true)]
async fn what_changed_hands_is_removed_at_its_old_owner_and_at_its_new_one() {
    let mut cluster = Cluster::new(AB);
    cluster.add("c", &ABC, |group| group);
    let key = cluster.key_of("c");
    assert_eq!(cluster.read(&key).await, "v1 v1 v1");
    cluster.db.change();
    cluster.set_members(&AB, &ABC);
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    assert_eq!(cluster.cached(&key), "- - -");
}

#[tokio::test(start_paused = true)]
async fn removes_at_two_nodes_both_hold() {
    let (cluster, key) = all_hold_the_old().await;
    let removing = [remove(&cluster, "a", &key), remove(&cluster, "c", &key)];
    for removing in removing {
        removing.await.unwrap().unwrap();
    }
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

/// The second remove begins while the first is held up, and ends before it.
#[tokio::test(start_paused = true)]
async fn a_second_remove_does_not_lean_on_the_first() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.stop("b", Forgets);
    let first = remove(&cluster, "a", &key);
    cluster.net.until_stopped("b", Forgets, 1).await;
    let held = cluster.net.keep_stopped("b", Forgets);
    assert_eq!(cluster["c"].read(&key).await, "v1");
    soon(cluster["c"].group.remove(&key)).await.unwrap();
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
    held.into_iter().for_each(|deliver| deliver());
    first.await.unwrap().unwrap();
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_not_found_that_is_removed_is_asked_for_again() {
    let cluster = Cluster::with(ABC, |group| group.negative_ttl(ms(60_000)));
    let key = cluster.key_of("b");
    cluster.db.delete(&key);
    assert_eq!(cluster.read(&key).await, "NotFound NotFound NotFound");
    cluster.db.put(&key, "new");
    soon(cluster["c"].group.remove(&key)).await.unwrap();
    assert_eq!(cluster.read(&key).await, "new new new");
}

#[tokio::test(start_paused = true)]
async fn a_not_found_that_was_on_its_way_when_it_was_removed_is_given_to_nobody() {
    let cluster = Cluster::with(ABC, |group| group.negative_ttl(ms(60_000)));
    let key = cluster.key_of("b");
    cluster.db.delete(&key);
    cluster.db.hold();
    let waiting = ["a", "b", "c"].map(|node| cluster[node].caller(&key));
    cluster.db.holding(1).await;
    cluster.db.put(&key, "new");
    soon(cluster["c"].group.remove(&key)).await.unwrap();
    cluster.db.open();
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), "new");
    }
}

/// An error that was under way when the key was removed is told to nobody either: it is older than the remove.
#[tokio::test(start_paused = true)]
async fn a_failure_that_was_under_way_when_the_key_was_removed_is_told_to_nobody() {
    let (cluster, key) = the_owner_loads_the_old().await;
    cluster.db.mood(Mood::Fails);
    let waiting = cluster["b"].caller(&key);
    cluster.db.holding(1).await;
    cluster.db.mood(Mood::Fine);
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    cluster.db.open();
    assert_eq!(waiting.await.unwrap(), "v1");
    assert_eq!(cluster.read(&key).await, "v1 v1 v1");
}

#[tokio::test(start_paused = true)]
async fn removes_without_end_end_the_wait_of_nobody_for_ever() {
    let cluster = Cluster::new(["a"]);
    cluster.db.takes(ms(50));
    let waiting = cluster["a"].caller("key");
    for _ in 0..100 {
        sleep(ms(20)).await;
        cluster["a"].group.remove("key").await.unwrap();
    }
    assert!(waiting.is_finished(), "2 s of removes, each during a load of 50 ms");
}

#[tokio::test(start_paused = true)]
async fn of_300_keys_removed_at_once_none_is_old_anywhere() {
    let (cluster, keys) = all_hold_300_old().await;
    soon(cluster["a"].group.remove_many(&keys)).await.unwrap();
    for key in &keys {
        assert_eq!(cluster.read(key).await, "v2 v2 v2");
    }
}

#[tokio::test(start_paused = true)]
async fn of_300_keys_removed_at_once_each_member_is_told_once_a_round() {
    let (cluster, keys) = all_hold_300_old().await;
    soon(cluster["a"].group.remove_many(&keys)).await.unwrap();
    assert_eq!((cluster.net.updates("b").len(), cluster.net.updates("c").len()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_key_may_be_removed_twice_at_once() {
    let (cluster, key) = all_hold_the_old().await;
    soon(cluster["a"].group.remove_many([&key, &key])).await.unwrap();
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn of_no_keys_nobody_is_told() {
    let (cluster, _) = all_hold_the_old().await;
    soon(cluster["a"].group.remove_many::<&str>([])).await.unwrap();
    assert_eq!(cluster.net.updates("b").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_no_group_takes_is_not_removed() {
    let cluster = Cluster::with(["a"], |group| group.max_key_bytes(3));
    assert_eq!(refused(cluster["a"].group.remove("four").await), ErrorKind::KeyTooLong);
}

#[tokio::test(start_paused = true)]
async fn a_clear_empties_the_group_on_all_nodes() {
    let (cluster, _) = all_hold_300_old().await;
    soon(cluster["c"].group.clear()).await.unwrap();
    let held: Vec<(u64, u64)> = cluster.nodes().map(|node| (node.items(), node.bytes())).collect();
    assert_eq!(held, [(0, 0); 3]);
}

#[tokio::test(start_paused = true)]
async fn a_clear_holds_for_loads_under_way() {
    let (cluster, key) = the_owner_loads_the_old().await;
    let waiting = ["a", "b", "c"].map(|node| cluster[node].caller(&key));
    cluster.db.holding(1).await;
    settle().await;
    cluster.db.change();
    soon(cluster["a"].group.clear()).await.unwrap();
    cluster.db.open();
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), "v2");
    }
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_clear_holds_for_answers_on_their_way() {
    let (cluster, key, waiting) = the_old_is_on_its_way_to("c").await;
    soon(cluster["a"].group.clear()).await.unwrap();
    cluster.net.let_go("b", Answers);
    assert_eq!(waiting.await.unwrap(), "v2");
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_clear_names_who_was_missed() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.cut("c");
    assert_eq!(missed(soon(cluster["a"].group.clear()).await), ["c"]);
    assert_eq!(cluster.cached(&key), "- - v1");
}

#[tokio::test(start_paused = true)]
async fn a_clear_is_of_one_group() {
    let (cluster, _) = all_hold_the_old().await;
    let other = cluster["a"].groups.group("other", loader_fn(|_| async { Ok(Bytes::new()) })).build().unwrap();
    other.get("key").await.unwrap();
    soon(cluster["a"].group.clear()).await.unwrap();
    assert_eq!(other.stats().main.items + other.stats().hot.items, 1);
}

#[tokio::test(start_paused = true)]
async fn removed_is_removed_for_refreshes_and_stale_answers_too() {
    let cluster = Cluster::with(ABC, |group| {
        group.time_to_live(ms(1_000)).stale_while_revalidate(ms(60_000)).stale_if_error(ms(60_000))
    });
    let key = cluster.key_of("b");
    cluster.read(&key).await;
    sleep(ms(1_100)).await;
    cluster.db.hold();
    assert_eq!(cluster.read(&key).await, "v1 v1 v1");
    cluster.db.holding(1).await;
    cluster.db.change();
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    cluster.db.open();
    settle().await;
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_on_its_way_to_the_owner_is_answered_with_the_new_value() {
    let cluster = Cluster::new(ABC);
    let key = cluster.key_of("b");
    cluster["b"].read(&key).await;
    cluster.net.stop("b", Gets);
    let waiting = cluster["c"].caller(&key);
    cluster.net.until_stopped("b", Gets, 1).await;
    cluster.db.change();
    soon(cluster["a"].group.remove(&key)).await.unwrap();
    cluster.net.let_go("b", Gets);
    assert_eq!(waiting.await.unwrap(), "v2");
}
