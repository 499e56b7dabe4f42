//! The next in line stands in for an owner that is down, and gives its place back.

mod support;

use std::time::Duration;

use peercache_groupcache::{PeerError, PeerState, Source};
use support::{
    cluster::{ABC, Cluster},
    net::{Net, UPDATES},
};
use tokio::time::sleep;

const ABCDE: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Longer than a member that fell for the first time needs to be up again.
const RETURN: Duration = Duration::from_secs(2);

fn state_of(cluster: &Cluster, node: &str, peer: &str) -> PeerState {
    let peers = cluster[node].members.peers();
    peers.into_iter().find(|status| status.name == peer).expect("it is a peer").state
}

#[tokio::test(start_paused = true)]
async fn a_key_of_a_dead_owner_is_loaded_once_for_all() {
    let cluster = Cluster::new(ABCDE);
    let key = cluster.key_in_line(&["a", "b"]);
    cluster.net.close("a");
    for node in ["c", "d", "e", "b"] {
        cluster[node].read(&key).await;
    }
    assert_eq!(cluster.origin.calls(), 1);
    // It was loaded before its stand-in could know that the owner is down, and is kept all the
    // same: the probe found it out meanwhile.
    assert_eq!(cluster["b"].group.peek(&key).map(|answer| answer.source), Some(Source::Main));
    assert_eq!(state_of(&cluster, "b", "a"), PeerState::Down);
}

#[tokio::test(start_paused = true)]
async fn many_keys_of_a_dead_owner_are_asked_of_their_stand_ins() {
    let cluster = Cluster::new(ABC);
    let keys = cluster.keys_of("a", 40);
    cluster.net.close("a");
    // The first finds it out.
    cluster["b"].read(&keys[0]).await;
    cluster["c"].read(&keys[0]).await;
    for node in ["b", "c"] {
        let results = cluster[node].group.get_many(keys.iter().map(String::as_str)).await;
        assert!(results.iter().all(Result::is_ok));
    }
    assert_eq!(cluster.origin.calls(), 40);
    let main_at = |node: &str| cluster[node].group.stats().main.items;
    assert_eq!(main_at("b") + main_at("c"), 40, "its keys are divided between the others");
    assert!(main_at("b") > 8 && main_at("c") > 8);
}

#[tokio::test(start_paused = true)]
async fn the_second_in_line_is_passed_by_when_it_is_down_too() {
    let cluster = Cluster::new(ABCDE);
    let key = cluster.key_in_line(&["a", "b", "c"]);
    ["a", "b"].iter().for_each(|name| cluster.net.close(name));
    for node in ["d", "e", "c", "d"] {
        // The first of these finds two closed ports in a row, and then knows them.
        cluster[node].read(&key).await;
        cluster[node].read(&cluster.key_in_line(&["b", "a"])).await;
    }
    assert_eq!(state_of(&cluster, "d", "a"), PeerState::Down);
    assert_eq!(state_of(&cluster, "d", "b"), PeerState::Down);
    cluster["d"].group.remove(&key).await.unwrap_err();
    let before = cluster.origin.calls();
    for node in ["d", "e", "c"] {
        cluster[node].read(&key).await;
    }
    assert_eq!(cluster.origin.calls(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_for_the_owner_ends_soon_after_its_return() {
    let cluster = Cluster::with(ABC, |group| group.hot_ttl(Duration::from_secs(20)));
    let key = cluster.key_in_line(&["a", "b"]);
    cluster.net.close("a");
    cluster["b"].read(&key).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(cluster["b"].group.peek(&key).map(|answer| answer.source), Some(Source::Main), "for as long as it is");
    cluster.net.mend("a");
    sleep(RETURN).await;
    assert_eq!(state_of(&cluster, "b", "a"), PeerState::Up);
    let kept = cluster["b"].group.peek(&key).expect("it is a copy now");
    assert_eq!(kept.source, Source::Hot);
    assert!(kept.remaining.is_some_and(|remaining| remaining <= Duration::from_secs(20)));
    sleep(Duration::from_secs(20)).await;
    assert!(cluster["b"].group.peek(&key).is_none());
    cluster["c"].read(&key).await;
    assert_eq!(cluster["a"].group.stats().main.items, 1, "the owner is asked again");
}

#[tokio::test(start_paused = true)]
async fn a_stand_in_that_has_missed_an_update_is_not_asked() {
    let cluster = Cluster::new(ABC);
    let key = cluster.key_in_line(&["a", "b"]);
    cluster.net.close("a");
    cluster["b"].read(&key).await;
    cluster.origin.put(&key, "new");
    // No update reaches b, which has the old value as its own and would answer.
    cluster.net.cut_kinds("b", &UPDATES);
    cluster["c"].group.remove(&key).await.unwrap_err();
    cluster["c"].read(&cluster.key_of("a")).await;
    let answer = cluster["c"].read(&key).await;
    assert_eq!(answer, "new");
}

#[tokio::test(start_paused = true)]
async fn a_peer_says_why_it_is_down_and_what_it_has_missed() {
    let cluster = Cluster::new(ABC);
    cluster.net.close("a");
    cluster["b"].read(&cluster.key_of("a")).await;
    sleep(Duration::from_secs(5)).await;
    cluster["b"].group.remove("key").await.unwrap_err();
    let [a, c] = cluster["b"].members.peers().try_into().unwrap();
    assert_eq!((a.name.as_str(), a.state, a.undelivered), ("a", PeerState::Down, 1));
    assert_eq!(a.why.as_deref(), Some("its port is closed"));
    assert!(a.since >= Duration::from_secs(5) && a.since < Duration::from_secs(6));
    assert_eq!((c.state, c.why, c.undelivered), (PeerState::Up, None, 0));
}

/// More than half of the members say nothing: then the fault is probably here, and what is loaded
/// is kept only briefly. Closed ports are another matter.
#[tokio::test(start_paused = true)]
async fn a_node_that_hears_nobody_acts_for_nobody() {
    for (fault, acts) in [(Net::silence as fn(&Net, &str), false), (Net::close, true)] {
        let cluster = Cluster::new(ABCDE);
        let key = cluster.key_in_line(&["a", "e"]);
        for other in ["a", "b", "c"] {
            fault(&cluster.net, other);
            cluster["e"].read(&cluster.key_in_line(&[other, "d"])).await;
            assert_eq!(state_of(&cluster, "e", other), PeerState::Down);
        }
        cluster["e"].read(&key).await;
        let kept = cluster["e"].group.peek(&key).map(|answer| answer.source);
        assert_eq!(kept, Some(if acts { Source::Main } else { Source::Hot }));
    }
}

/// A member that falls silent must not have the next in line asked for all that waits at it.
#[tokio::test(start_paused = true)]
async fn of_what_waits_at_a_silent_owner_few_are_asked_of_the_next_in_line() {
    let cluster = Cluster::new(ABC);
    let keys = cluster.keys_in_line(&["a", "b"], 40);
    cluster.net.hold_requests("a");
    let callers: Vec<_> = keys.iter().map(|key| cluster["c"].caller(key)).collect();
    cluster["c"].until_missed(40).await;
    cluster.net.answer_held("a", || Err(PeerError::Silent("it says nothing".into())));
    for (caller, key) in callers.into_iter().zip(&keys) {
        assert_eq!(caller.await.unwrap(), cluster["b"].read(key).await);
    }
    let loads = cluster.origin.call_log();
    let first: Vec<_> = keys.iter().filter_map(|key| loads.iter().find(|call| call.key == key.as_bytes())).collect();
    assert_eq!(first.iter().filter(|call| &*call.node == "b").count(), 16, "the others are loaded where they wait");
}
