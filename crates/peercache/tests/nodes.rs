//! Nodes over real sockets keep the promises of golang/groupcache, and avoid the faults seen in its
//! relatives.

mod support;

use std::time::Duration;

use peercache::{Dialect, Error, ErrorKind, GolangPlacement, HttpPool, Node, Source};
use support::{GROUP, Member, Origin, cluster, key_of, listeners, name_of, pool, until, watched};
use tokio::net::TcpListener;

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.expect_err("the get fails").kind()
}

#[tokio::test]
async fn a_thousand_gets_of_one_cold_key_are_one_load() {
    let origin = Origin::gated();
    let nodes = cluster::<3>(&origin).await;
    let mut gets = Vec::new();
    for caller in 0..1_000 {
        let group = nodes[caller % 3].group.clone();
        gets.push(tokio::spawn(async move { group.get("cold").await }));
    }
    watched(async {
        // All of them are on their way before the load ends.
        until(|| nodes.iter().map(|node| node.group.stats().loads).sum::<u64>() >= 1_000).await;
        origin.called(1).await;
        origin.open(1_000);
        for get in gets {
            assert_eq!(get.await.unwrap().unwrap(), "cold");
        }
    })
    .await;
    assert_eq!(origin.calls(), 1);
}

#[tokio::test]
async fn every_key_comes_back_as_it_went() {
    let origin = Origin::default();
    let [a, b] = cluster::<2>(&origin).await;
    let mut keys: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    keys.extend(["", ".", "..", "//", "/", "%2F", "+", "a b", "a+b", "a%20b", "?x=y", "#", "\r\n"].map(Vec::from));
    keys.push((0..=255).collect());
    keys.push(vec![0xff; 64 << 10]);
    for key in &keys {
        for node in [&a, &b] {
            assert_eq!(watched(node.group.get(key)).await.unwrap(), key.as_slice());
        }
    }
    assert_eq!(origin.calls(), keys.iter().collect::<std::collections::HashSet<_>>().len(), "one load for each key");
    assert_eq!(a.group.stats().peer_errors + b.group.stats().peer_errors, 0);
}

#[tokio::test]
async fn every_key_comes_back_as_it_went_in_the_golang_dialect() {
    let origin = Origin::default();
    let listeners = listeners::<2>().await;
    let list: Vec<String> = listeners.iter().map(name_of).collect();
    let nodes = listeners.map(|listener| {
        let pool = HttpPool::builder().dialect(Dialect::Golang);
        Member::start(listener, &list, pool, |group| group, &origin)
    });
    for key in (0..=255).map(|byte| vec![byte]).chain(["", ".", "..", "//", "%2F", "+", "a b", "a+b"].map(Vec::from)) {
        for node in &nodes {
            assert_eq!(watched(node.group.get(&key)).await.unwrap(), key.as_slice());
        }
    }
}

#[tokio::test]
async fn nodes_that_disagree_about_owners_answer_and_do_not_hang() {
    let origin = Origin::default();
    let [one, two] = listeners::<2>().await;
    let (name_one, name_two) = (name_of(&one), name_of(&two));
    // Each takes the other for the only member, so each asks the other for every key.
    let start = |listener: TcpListener, us: &str, other: &str| {
        let node = Node::builder(us).members([other]).client_only(true).build().unwrap();
        let group =
            node.group(GROUP, peercache::loader_fn_with(origin.clone(), |_, key| async move { Ok(key.into_bytes()) }));
        tokio::spawn(node.serve(listener));
        group.build().unwrap()
    };
    let (a, b) = (start(one, &name_one, &name_two), start(two, &name_two, &name_one));
    let (from_a, from_b) = watched(async { tokio::join!(a.get("key"), b.get("key")) }).await;
    assert_eq!((from_a.unwrap(), from_b.unwrap()), ("key".into(), "key".into()));
}

#[tokio::test]
async fn one_key_in_flight_on_both_sides_at_once_is_answered_on_both() {
    let origin = Origin::gated();
    let [one, two] = listeners::<2>().await;
    let list = [name_of(&one), name_of(&two)];
    // Rings that disagree: each has itself alone until both loads are in progress.
    let a = Member::start(one, &list[..1], pool(), |group| group, &origin);
    let b = Member::start(two, &list[1..], pool(), |group| group, &origin);
    let get = |member: &Member| {
        let group = member.group.clone();
        tokio::spawn(async move { group.get("key").await })
    };
    let first = [get(&a), get(&b)];
    watched(origin.called(2)).await;
    a.node.set_members(&list).unwrap();
    b.node.set_members(&list).unwrap();
    let second = [get(&a), get(&b)];
    watched(until(|| a.group.stats().gets + b.group.stats().gets >= 4)).await;
    origin.open(10);
    for answer in first.into_iter().chain(second) {
        assert_eq!(watched(answer).await.unwrap().unwrap(), "key");
    }
}

#[tokio::test]
async fn a_cancelled_leader_at_one_node_does_not_cost_the_others_their_answer() {
    let origin = Origin::gated();
    let [a, b] = cluster::<2>(&origin).await;
    let key = key_of(&b.name, &a);
    let leader = tokio::spawn({
        let (group, key) = (a.group.clone(), key.clone());
        async move { group.get(&key).await }
    });
    watched(origin.called(1)).await;
    leader.abort();
    let follower = tokio::spawn({
        let (group, key) = (b.group.clone(), key.clone());
        async move { group.get(&key).await }
    });
    watched(until(|| b.group.stats().gets >= 2)).await;
    origin.open(1);
    assert_eq!(watched(follower).await.unwrap().unwrap(), key);
    assert_eq!(watched(a.group.get(&key)).await.unwrap(), key);
    assert_eq!(origin.calls(), 1);
}

#[tokio::test]
async fn a_deadline_at_one_node_leaves_the_load_at_the_owner_to_finish() {
    let origin = Origin::gated();
    let [a, b] = cluster::<2>(&origin).await;
    let key = key_of(&b.name, &a);
    let late = watched(a.group.get(&key).timeout(Duration::from_millis(100))).await;
    assert_eq!(kind(late), ErrorKind::DeadlineExceeded);
    watched(origin.called(1)).await;
    origin.open(1);
    let answer = watched(b.group.get(&key).detailed()).await.unwrap();
    assert!(matches!(answer.source, Source::Main | Source::Origin), "{:?}", answer.source);
    assert_eq!((origin.calls(), a.group.stats().peer_errors), (1, 0));
}

#[tokio::test]
async fn a_panic_at_the_owner_is_an_error_at_the_asker_and_both_live_on() {
    let origin = Origin::default();
    let nodes = cluster::<2>(&origin).await;
    for node in &nodes {
        assert_eq!(kind(watched(node.group.get("panicking")).await), ErrorKind::LoadFailed);
        assert_eq!(watched(node.group.get("fine")).await.unwrap(), "fine");
    }
    assert_eq!(origin.calls(), 3, "each get is a load at the owner, and none at the asker");
}

#[tokio::test]
async fn the_owners_errors_keep_their_kind_on_the_way() {
    let origin = Origin::default();
    for node in &cluster::<2>(&origin).await {
        assert_eq!(kind(watched(node.group.get("missing")).await), ErrorKind::NotFound);
        assert_eq!(kind(watched(node.group.get("failing")).await), ErrorKind::LoadFailed);
        assert_eq!(node.group.stats().peer_errors, 0);
    }
    assert_eq!(origin.calls(), 4);
}

#[tokio::test]
async fn a_value_heavier_than_the_budget_reaches_every_node_and_evicts_nothing() {
    let origin = Origin::default();
    let listeners = listeners::<2>().await;
    let list: Vec<String> = listeners.iter().map(name_of).collect();
    let nodes =
        listeners.map(|listener| Member::start(listener, &list, pool(), |group| group.max_bytes(50_000), &origin));
    for node in &nodes {
        watched(node.group.get("small")).await.unwrap();
        assert_eq!(watched(node.group.get("100000 bytes")).await.unwrap().len(), 100_000);
    }
    for node in &nodes {
        assert_eq!(node.group.stats().main.evictions, 0);
    }
    assert_eq!(nodes.iter().map(|node| node.group.stats().main.items).sum::<u64>(), 1);
}

#[tokio::test]
async fn a_value_over_the_limit_is_refused_by_the_owner_and_not_loaded_again() {
    let origin = Origin::default();
    let listeners = listeners::<2>().await;
    let list: Vec<String> = listeners.iter().map(name_of).collect();
    let nodes =
        listeners.map(|listener| Member::start(listener, &list, pool(), |group| group.max_value_bytes(1_000), &origin));
    for node in &nodes {
        assert_eq!(kind(watched(node.group.get("1001 bytes")).await), ErrorKind::ValueTooLarge);
    }
    assert_eq!(origin.calls(), 2);
}

#[tokio::test]
async fn an_owner_without_the_group_is_a_failed_peer_and_not_a_missing_key() {
    let origin = Origin::default();
    let [one, two] = listeners::<2>().await;
    let list = [name_of(&one), name_of(&two)];
    let a = Member::start(one, &list, pool(), |group| group, &origin);
    let b = Node::builder(&list[1]).members(&list).build().unwrap();
    tokio::spawn(b.serve(two));
    let key = key_of(&list[1], &a);
    let answer = watched(a.group.get(&key).detailed()).await.unwrap();
    assert_eq!((answer.source, a.group.stats().peer_errors), (Source::Origin, 1));
}

/// Slow is not silent: a load that takes three times what a peer may be silent is waited for.
#[tokio::test]
async fn thirty_readers_of_a_key_that_takes_three_seconds_get_thirty_answers_from_one_load() {
    let origin = Origin::slow(Duration::from_secs(3));
    let nodes = cluster::<3>(&origin).await;
    let mut readers = Vec::new();
    for reader in 0..30 {
        let group = nodes[reader % 3].group.clone();
        readers.push(tokio::spawn(async move { group.get("slow").await }));
    }
    for reader in readers {
        assert_eq!(watched(reader).await.unwrap().unwrap(), "slow");
    }
    assert_eq!(origin.calls(), 1);
    assert_eq!(nodes.iter().map(|node| node.group.stats().peer_errors).sum::<u64>(), 0);
}

#[tokio::test]
async fn nobody_notices_that_an_owner_is_gone() {
    let origin = Origin::default();
    let [a, b, c] = cluster::<3>(&origin).await;
    let key = key_of(&b.name, &a);
    b.stop().await;
    for node in [&a, &c] {
        assert_eq!(watched(node.group.get(&key)).await.unwrap(), key);
    }
}

#[tokio::test]
async fn a_changed_list_is_in_force_at_once() {
    let origin = Origin::default();
    let [a, b] = cluster::<2>(&origin).await;
    let key = key_of(&b.name, &a);
    a.node.set_members([&a.name]).unwrap();
    assert_eq!(watched(a.group.get(&key).detailed()).await.unwrap().source, Source::Origin);
    a.node.set_members([&a.name, &b.name]).unwrap();
    assert_eq!(a.node.members().view().owner_name(&key), b.name);
}

#[tokio::test]
async fn a_node_that_is_asked_by_itself_loads_the_key() {
    let origin = Origin::default();
    let [listener] = listeners::<1>().await;
    let address = listener.local_addr().unwrap();
    // The list names this node twice, under two names of one address.
    let names = [format!("http://{address}"), format!("http://localhost:{}", address.port())];
    let alias = Member::start(listener, &names, pool(), |group| group, &origin);
    let key = key_of(&names[1], &alias);
    assert_eq!(watched(alias.group.get(&key)).await.unwrap(), key);
    assert_eq!((origin.calls(), alias.group.stats().peer_errors), (1, 1));
}

#[tokio::test]
async fn golang_placement_and_dialect_serve_a_whole_cluster() {
    let origin = Origin::default();
    let [one, two] = listeners::<2>().await;
    let list = [name_of(&one), name_of(&two)];
    let mut groups = Vec::new();
    for listener in [one, two] {
        let pool = HttpPool::builder().dialect(Dialect::Golang);
        let builder = Node::builder(name_of(&listener)).members(&list).placement(GolangPlacement).transport(pool);
        let node = builder.build().unwrap();
        let loader = peercache::loader_fn(|key: peercache::Key| async move { Ok(key.into_bytes()) });
        groups.push(node.group(GROUP, loader).build().unwrap());
        tokio::spawn(node.serve(listener));
    }
    for number in 0..100 {
        let key = format!("key-{number}");
        for group in &groups {
            assert_eq!(watched(group.get(&key)).await.unwrap(), key);
        }
    }
    let loads: u64 = groups.iter().map(|group| group.stats().local_loads).sum();
    assert_eq!((loads, origin.calls()), (100, 0));
}

#[test]
fn a_name_that_no_peer_could_reach_is_refused_with_a_reason() {
    for name in ["10.0.0.1:9090", "ftp://10.0.0.1", "http://", "http://a b"] {
        assert!(Node::builder(name).build().is_err(), "{name} was taken");
    }
}
