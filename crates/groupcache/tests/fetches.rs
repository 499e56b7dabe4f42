//! Fetches: a value is loaded by its owner alone, and here when the owner cannot be asked.

mod support;

use peercache_groupcache::{Bytes, Group, Never, PeerError, Source, Terms, loader_fn};
use support::{
    cluster::{AB, Cluster},
    keys, ms,
    net::reply,
    origin::Health,
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

/// Two nodes that keep no copies, and a key of `b`.
fn two_nodes() -> (Cluster, String) {
    let cluster = Cluster::with(AB, |group| group.hot_admission(Never));
    let key = cluster.key_of("b");
    (cluster, key)
}

/// Two nodes, of which `a` waits for the answer of `b`.
async fn waiting_for_b() -> (Cluster, JoinHandle<String>) {
    let (cluster, key) = two_nodes();
    cluster.net.hold_requests("b");
    let waiting = cluster["a"].caller(&key);
    cluster.net.until_asked("b", 1).await;
    (cluster, waiting)
}

#[tokio::test]
async fn a_value_is_loaded_by_its_owner_alone() {
    let (cluster, key) = two_nodes();
    assert_eq!(cluster["a"].source(&key).await, Source::Peer);
    assert_eq!((cluster.origin.calls_of("a"), cluster.origin.calls_of("b")), (0, 1));
    assert_eq!(cluster["b"].source(&key).await, Source::Main);
}

#[tokio::test]
async fn callers_of_one_key_share_one_fetch() {
    let (cluster, key) = two_nodes();
    cluster.net.hold_requests("b");
    let callers = [(), (), (), (), ()].map(|()| cluster["a"].caller(&key));
    cluster.net.until_asked("b", 1).await;
    cluster["a"].until_missed(5).await;
    cluster.net.answer_held("b", || reply("value", |_| ()));
    for caller in callers {
        assert_eq!(caller.await.unwrap(), "value");
    }
    assert_eq!((cluster.net.asked("b"), cluster["a"].group.stats().loads_deduped), (1, 1));
}

#[tokio::test]
async fn the_owners_not_found_is_the_answer() {
    let (cluster, key) = two_nodes();
    cluster.origin.health(Health::Empty);
    assert_eq!(cluster["a"].read(&key).await, "NotFound");
    assert_eq!((cluster.origin.calls_of("a"), cluster["a"].group.stats().peer_errors), (0, 0));
}

#[tokio::test]
async fn the_owners_failed_load_is_the_answer() {
    let (cluster, key) = two_nodes();
    cluster.origin.health(Health::Fails);
    assert_eq!(cluster["a"].read(&key).await, "LoadFailed");
    assert_eq!(cluster.origin.calls_of("a"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_owners_value_is_kept_briefly_as_a_hot_copy() {
    let cluster = Cluster::with(AB, |group| group.fallback_ttl(ms(2_000)));
    let key = cluster.key_of("b");
    cluster.net.cut("b");
    assert_eq!(cluster["a"].source(&key).await, Source::Origin);
    let stats = cluster["a"].group.stats();
    assert_eq!((stats.main.items, stats.hot.items), (0, 1));
    sleep(ms(1_900)).await;
    assert_eq!(cluster["a"].source(&key).await, Source::Hot);
    sleep(ms(110)).await;
    assert_eq!(cluster["a"].source(&key).await, Source::Origin);
    assert_eq!(cluster["a"].group.stats().peer_errors, 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_owners_value_lives_no_longer_than_a_hot_copy() {
    let cluster = Cluster::with(AB, |group| group.fallback_ttl(ms(60_000)).hot_ttl(ms(1_000)));
    let key = cluster.key_of("b");
    cluster.net.cut("b");
    cluster["a"].read(&key).await;
    sleep(ms(1_010)).await;
    assert_eq!(cluster["a"].source(&key).await, Source::Origin);
}

#[tokio::test]
async fn when_a_request_is_lost_all_who_wait_get_the_value_from_here() {
    let (cluster, waiting) = waiting_for_b().await;
    cluster.net.answer_held("b", || Err(PeerError::failed("reset")));
    assert_eq!(waiting.await.unwrap(), "v1");
    assert_eq!(cluster.origin.calls_of("a"), 1);
}

#[tokio::test]
async fn a_key_that_the_dialect_cannot_carry_is_loaded_here_and_counted() {
    let (cluster, waiting) = waiting_for_b().await;
    cluster.net.answer_held("b", || Err(PeerError::NotCarried));
    assert_eq!(waiting.await.unwrap(), "v1");
    let stats = cluster["a"].group.stats();
    assert_eq!((stats.keys_not_carried, stats.peer_errors, stats.local_loads), (1, 0, 1));
}

#[tokio::test]
async fn bytes_that_do_not_decode_are_a_failed_peer() {
    let cluster = Cluster::new(AB);
    let key = cluster.key_of("b");
    let loader = loader_fn(|_| async { Ok("text".to_owned()) });
    let group: Group<String> = cluster["a"].groups.group("texts", loader).build().unwrap();
    cluster.net.hold_requests("b");
    let waiting = tokio::spawn({
        let group = group.clone();
        async move { group.get(&key).await }
    });
    cluster.net.until_asked("b", 1).await;
    cluster.net.answer_held("b", || reply(Bytes::from_static(b"\xff"), |_| ()));
    assert_eq!(waiting.await.unwrap().unwrap(), "text");
    assert_eq!(group.stats().peer_errors, 1);
}

#[tokio::test]
async fn a_peers_request_is_never_forwarded() {
    let mut cluster = Cluster::new(["a"]);
    cluster.add("b", &["b", "x"], |group| group);
    // Each takes another for the owner of this key.
    cluster.set_members(&["a"], &AB);
    let views = ["a", "b"].map(|node| cluster[node].members.view());
    let owners_differ = |key: &String| views[0].owner_name(key) == "b" && views[1].owner_name(key) == "x";
    let key = keys(1_000).into_iter().find(owners_differ).unwrap();
    assert_eq!(cluster["a"].read(&key).await, "v1");
    let calls = (cluster.origin.calls_of("a"), cluster.origin.calls_of("b"));
    assert_eq!((calls, cluster.net.asked("x")), ((0, 1), 0));
}

#[tokio::test]
async fn members_that_disagree_answer_each_other_while_both_fetch() {
    let mut cluster = Cluster::empty();
    // Each is sure that the other owns every key.
    cluster.add_client("a", &["b"]);
    cluster.add_client("b", &["a"]);
    cluster.origin.hold();
    let callers = [cluster["a"].caller("key"), cluster["b"].caller("key")];
    timeout(ms(60_000), cluster.origin.until_held(2)).await.expect("each waits for the other");
    assert_eq!((cluster.origin.calls_of("a"), cluster.origin.calls_of("b")), (1, 1));
    cluster.origin.release();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), "v1");
    }
}

#[tokio::test]
async fn a_peer_is_never_answered_from_a_copy() {
    let cluster = Cluster::new(AB);
    let key = cluster.key_of("b");
    cluster["a"].read(&key).await;
    let reply = cluster["a"].answer_peer(&key, Terms::new()).await.unwrap();
    assert_eq!(reply.value.unwrap(), "v1");
    assert_eq!(cluster.origin.calls_of("a"), 1, "the copy was fetched, so the peer's request is loaded");
}

#[tokio::test]
async fn a_client_owns_nothing() {
    let mut cluster = Cluster::new(["b"]);
    cluster.add_client("client", &["b"]);
    for key in ["x", "y", "z"] {
        assert_eq!(cluster["client"].read(key).await, "v1");
    }
    assert_eq!((cluster.origin.calls_of("client"), cluster.origin.calls_of("b")), (0, 3));
}
