//! What is in demand becomes a hot copy, and what an owner says of it.

mod support;

use peercache_groupcache::{Bytes, Never, PeerReply, Served, Source, Terms};
use support::{
    GROUP,
    cluster::{AB, ABC, Cluster},
    ms, settle, soon,
};
use tokio::time::sleep;

/// What `owner` answers a peer that asks once more.
async fn answered(cluster: &Cluster, owner: &str, key: &str) -> PeerReply {
    let group = cluster[owner].groups.get(GROUP).expect("the node has the group");
    soon(group.answer(key.as_bytes(), Terms::new()).finish()).await.expect("it has a value")
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

/// It takes more than all copies should have together.
#[tokio::test(start_paused = true)]
async fn a_large_hot_key_stays_while_the_node_fills_its_own_cache() {
    let cluster = Cluster::with(AB, |group| group.max_bytes(1 << 20));
    let key = cluster.key_of("b");
    cluster.db.put(&key, &"x".repeat(200 << 10));
    for own in cluster.keys_of("a", 10_000) {
        for _ in 0..3 {
            cluster["a"].group.get(&key).await.expect("it loads");
        }
        cluster["a"].read(&own).await;
    }
    assert!(cluster.net.asked("b") <= 20, "30,000 gets, {} fetches", cluster.net.asked("b"));
}

#[tokio::test(start_paused = true)]
async fn an_owner_tells_how_often_peers_ask() {
    let cluster = Cluster::with(AB, |group| group.hot_admission(Never));
    let key = cluster.key_of("b");
    cluster["b"].read(&key).await;
    for _ in 0..200 {
        sleep(ms(100)).await;
        cluster["a"].read(&key).await;
    }
    let told = answered(&cluster, "b", &key).await.meta.minute_qps.expect("an owner says so");
    assert!((8.0..12.0).contains(&told), "{told} a second of 10");
}

#[tokio::test(start_paused = true)]
async fn an_owners_own_callers_are_no_demand() {
    let cluster = Cluster::new(AB);
    let key = cluster.key_of("b");
    for _ in 0..200 {
        sleep(ms(100)).await;
        cluster["b"].read(&key).await;
    }
    let told = answered(&cluster, "b", &key).await.meta.minute_qps.expect("an owner says so");
    assert!(told <= 0.2, "{told} a second, of the one ask of this test");
}

/// Copies of 150 other keys come before and after it, each asked for once, where there is room for some eighty.
async fn survives_a_scan(minute_qps: Option<f64>) -> bool {
    let cluster = Cluster::with(AB, |group| group.max_bytes(16 << 10).shards(1));
    let keys = cluster.keys_of("b", 301);
    let (key, others) = keys.split_first().expect("there are keys");
    let (before, after) = others.split_at(150);
    for other in before {
        cluster["a"].read(other).await;
    }
    cluster.net.hold("b");
    let reading = async {
        cluster["a"].read(key).await;
    };
    let answering = async {
        settle().await;
        cluster.net.answer_held("b", || {
            let mut reply = PeerReply::new(Bytes::from_static(b"value"));
            reply.meta.minute_qps = minute_qps;
            Ok(reply)
        });
        cluster.net.mend("b");
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

#[tokio::test(start_paused = true)]
async fn a_group_can_opt_out_of_copies() {
    let cluster = Cluster::with(AB, |group| group.hot_admission(Never));
    let key = cluster.key_of("b");
    for _ in 0..10 {
        assert_eq!(cluster["a"].source(&key).await, Source::Peer);
    }
    assert_eq!(cluster.net.asked("b"), 10);
}

#[tokio::test(start_paused = true)]
async fn what_takes_more_than_half_the_budget_is_served_and_not_cached() {
    let cluster = Cluster::with(["a"], |group| group.max_bytes(64 << 10));
    let large = "x".repeat(33 << 10);
    for key in 0..1_000 {
        cluster["a"].read(&format!("key-{key}")).await;
    }
    cluster.db.put("large", &large);
    assert_eq!(cluster["a"].read("large").await, large);
    assert_eq!(cluster.cached("large"), "-");
    // Who sets it wants it held.
    cluster["a"].group.set("large", Bytes::from(large.clone())).await.expect("it fits");
    assert_eq!(cluster.cached("large"), large);
    assert!(matches!(
        cluster["a"].groups.get(GROUP).expect("it is there").answer(b"large", Terms::new()),
        Served::Ready(Ok(_))
    ));
}
