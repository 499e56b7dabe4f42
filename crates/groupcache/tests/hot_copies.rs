//! Hot copies: a key in demand costs its owner little, and the owner says how much it is in demand.

mod support;

use peercache_groupcache::{Never, Source, Terms};
use support::{
    cluster::{AB, ABC, Cluster},
    ms,
    net::reply,
    settle,
};
use tokio::time::sleep;

/// The requests of peers for this key per second, by the owner's account.
async fn qps_of(cluster: &Cluster, owner: &str, key: &str) -> f64 {
    let reply = cluster[owner].answer_peer(key, Terms::new()).await.expect("it has a value");
    reply.meta.minute_qps.expect("an owner says so")
}

#[tokio::test(start_paused = true)]
async fn a_very_hot_key_stops_costing_its_owner() {
    let cluster = Cluster::new(ABC);
    let key = cluster.key_of("c");
    let mut asked_after = Vec::new();
    for _second in 0..30 {
        for _ in 0..1_000 {
            sleep(ms(1)).await;
            for node in ["a", "b"] {
                cluster[node].group.get(&key).await.expect("it loads");
            }
        }
        asked_after.push(cluster.net.asked("c"));
    }
    assert!(asked_after[1] <= 2 && asked_after[29] <= 4, "60,000 gets, fetches by the second: {asked_after:?}");
}

/// The key alone takes more than the share of all copies.
#[tokio::test(start_paused = true)]
async fn a_large_hot_key_stays_while_the_node_fills_its_own_cache() {
    let cluster = Cluster::with(AB, |group| group.max_bytes(1 << 20));
    let key = cluster.key_of("b");
    cluster.origin.put(&key, &"x".repeat(200 << 10));
    for own in cluster.keys_of("a", 10_000) {
        for _ in 0..3 {
            cluster["a"].group.get(&key).await.expect("it loads");
        }
        cluster["a"].read(&own).await;
    }
    assert!(cluster.net.asked("b") <= 20, "30,000 gets, {} fetches", cluster.net.asked("b"));
}

#[tokio::test(start_paused = true)]
async fn an_owner_says_how_often_peers_ask() {
    let cluster = Cluster::with(AB, |group| group.hot_admission(Never));
    let key = cluster.key_of("b");
    cluster["b"].read(&key).await;
    for _ in 0..200 {
        sleep(ms(100)).await;
        cluster["a"].read(&key).await;
    }
    let qps = qps_of(&cluster, "b", &key).await;
    assert!((8.0..12.0).contains(&qps), "{qps} a second of 10");
}

#[tokio::test(start_paused = true)]
async fn an_owners_own_callers_are_not_counted_as_peers() {
    let cluster = Cluster::new(AB);
    let key = cluster.key_of("b");
    for _ in 0..200 {
        sleep(ms(100)).await;
        cluster["b"].read(&key).await;
    }
    let qps = qps_of(&cluster, "b", &key).await;
    assert!(qps <= 0.2, "{qps} a second, from the one request of this test");
}

/// Whether a copy is still there after a scan: 150 other keys come before it and after it, each
/// asked for once, where there is room for some eighty.
async fn survives_a_scan(minute_qps: Option<f64>) -> bool {
    let cluster = Cluster::with(AB, |group| group.max_bytes(16 << 10).shards(1));
    let keys = cluster.keys_of("b", 301);
    let (key, others) = keys.split_first().expect("there are keys");
    let (before, after) = others.split_at(150);
    for other in before {
        cluster["a"].read(other).await;
    }
    cluster.net.hold_requests("b");
    let reading = async {
        cluster["a"].read(key).await;
    };
    let answering = async {
        settle().await;
        cluster.net.answer_held("b", || reply("value", |facts| facts.minute_qps = minute_qps));
    };
    tokio::join!(reading, answering);
    for other in after {
        cluster["a"].read(other).await;
    }
    cluster["a"].group.peek(key).is_some_and(|answer| answer.source == Source::Hot)
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_its_owner_says_is_in_demand_outlives_a_scan() {
    assert_eq!((survives_a_scan(Some(50.0)).await, survives_a_scan(None).await), (true, false));
}

#[tokio::test]
async fn a_group_without_a_hot_ttl_keeps_no_copies() {
    let cluster = Cluster::with(AB, |group| group.hot_ttl(ms(0)));
    let key = cluster.key_of("b");
    for _ in 0..2 {
        assert_eq!(cluster["a"].source(&key).await, Source::Peer);
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_can_opt_out_of_copies() {
    let cluster = Cluster::with(AB, |group| group.hot_admission(Never));
    let key = cluster.key_of("b");
    for _ in 0..10 {
        assert_eq!(cluster["a"].source(&key).await, Source::Peer);
    }
    assert_eq!(cluster.net.asked("b"), 10);
}
