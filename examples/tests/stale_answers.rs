//! Answers past their time to live: `--ttl-ms` and `--stale-ms`.
mod support;

use std::{collections::BTreeSet, time::Duration};

use support::{cluster::Cluster, eventually, origin::Origin};
use tokio::time::Instant;

/// The time within which every node answers fresh values after the origin has recovered.
const FRESH_AGAIN: Duration = Duration::from_secs(3);

async fn start(count: usize, flags: &[&str]) -> (Cluster, Origin) {
    let origin = Origin::start().await;
    let template = origin.flag();
    let flags = [flags, &["--origin", &template]].concat();
    (Cluster::start(count, &flags).await, origin)
}

/// Reads a key at a node until the answer comes from `cache`.
async fn until_from(cluster: &Cluster, node: usize, key: &str, cache: &str) -> String {
    eventually(&format!("an answer from {cache}"), async || {
        let reply = cluster.nodes[node].raw(key).await;
        (reply.cache.as_deref() == Some(cache)).then(|| reply.text().to_owned())
    })
    .await
}

#[tokio::test]
async fn a_role_is_loaded_again_when_its_time_is_up() {
    let (cluster, origin) = start(3, &["--ttl-ms", "500"]).await;
    let key = cluster.key_of(1, "k").await;
    for node in 0..3 {
        assert_eq!(cluster.nodes[node].raw(&key).await.text(), format!("the {key}"));
    }
    origin.set(&key, "new");
    for node in 0..3 {
        eventually("the new role", async || (cluster.nodes[node].raw(&key).await.text() == "new").then_some(())).await;
    }
}

#[tokio::test]
async fn without_a_time_a_role_is_kept() {
    let (cluster, origin) = start(1, &[]).await;
    assert_eq!(cluster.nodes[0].raw("a").await.brief(), "200 origin");
    origin.set("a", "new");
    for _ in 0..50 {
        assert_eq!((cluster.nodes[0].raw("a").await.brief().as_str(), origin.loads("a")), ("200 main", 1));
    }
}

#[tokio::test]
async fn every_node_answers_the_old_role_at_once_while_one_load_brings_the_new_one() {
    let flags = ["--ttl-ms", "300", "--stale-ms", "3600000", "--load-timeout-ms", "3600000"];
    let (cluster, origin) = start(3, &flags).await;
    let key = cluster.key_of(1, "gated ").await;
    let (old, ()) = tokio::join!(cluster.nodes[1].raw(&key), async {
        origin.is_asked(&key, 1).await;
        origin.open_gate();
    });
    origin.close_gate();
    origin.set(&key, "new");
    for node in 0..3 {
        // The gate is closed: a caller that waited for the load would wait for ever.
        assert_eq!(until_from(&cluster, node, &key, "stale").await, old.text(), "node {node}");
    }
    for node in [0, 1, 2, 0, 1, 2] {
        assert_eq!(cluster.nodes[node].raw(&key).await.brief(), "200 stale");
    }
    assert_eq!(origin.loads(&key), 2, "the first one, and one in the background");
    origin.open_gate();
    for node in 0..3 {
        eventually("the new role", async || (cluster.nodes[node].raw(&key).await.text() == "new").then_some(())).await;
    }
}

#[tokio::test]
async fn the_old_role_stays_while_the_origin_fails_and_is_replaced_soon_after() {
    let (cluster, origin) = start(3, &["--ttl-ms", "300", "--stale-ms", "3600000"]).await;
    let key = cluster.key_of(1, "k").await;
    let old = format!("the {key}");
    for node in 0..3 {
        assert_eq!(cluster.nodes[node].raw(&key).await.text(), old);
    }
    origin.fail(true);
    for node in 0..3 {
        assert_eq!(until_from(&cluster, node, &key, "stale").await, old, "node {node}");
    }
    eventually("failed loads", async || {
        for node in &cluster.nodes {
            let reply = node.raw(&key).await;
            assert_eq!((reply.brief().as_str(), reply.text()), ("200 stale", old.as_str()));
        }
        (origin.loads(&key) >= 3).then_some(())
    })
    .await;

    origin.set(&key, "new");
    origin.fail(false);
    assert_fresh_soon(&cluster, &key, "new").await;
}

/// Asserts that every node answers `value` from three seconds after now on.
async fn assert_fresh_soon(cluster: &Cluster, key: &str, value: &str) {
    let begun = Instant::now();
    while begun.elapsed() < FRESH_AGAIN {
        for node in &cluster.nodes {
            node.raw(key).await;
        }
    }
    for node in &cluster.nodes {
        let reply = node.raw(key).await;
        assert_eq!((reply.status, reply.text()), (200, value), "{}", reply.brief());
    }
}

#[tokio::test]
async fn without_a_time_of_grace_a_failure_is_a_failure() {
    let (cluster, origin) = start(3, &["--ttl-ms", "300"]).await;
    let key = cluster.key_of(1, "k").await;
    assert_eq!(cluster.nodes[0].raw(&key).await.status, 200);
    origin.fail(true);
    for node in 0..3 {
        eventually("a failure", async || (cluster.nodes[node].raw(&key).await.brief() == "502 -").then_some(())).await;
    }
    origin.set(&key, "new");
    origin.fail(false);
    assert_fresh_soon(&cluster, &key, "new").await;
}

#[tokio::test]
async fn a_key_whose_load_just_failed_is_a_502_without_another_call() {
    let (cluster, origin) = start(3, &[]).await;
    origin.fail(true);
    let key = cluster.key_of(1, "k").await;
    let mut asked = tokio::task::JoinSet::new();
    for caller in 0..99 {
        let url = format!("{}/raw?name={key}", cluster.nodes[caller % 3].front);
        asked.spawn(async move { reqwest::get(url).await.unwrap().status().as_u16() });
    }
    assert_eq!(BTreeSet::from_iter(asked.join_all().await), BTreeSet::from([502]));
    assert!(origin.loads(&key) <= 3, "99 at once cost {} calls", origin.loads(&key));

    let (begun, before) = (Instant::now(), origin.loads(&key));
    for reader in 0..50 {
        assert_eq!(cluster.nodes[reader % 3].raw(&key).await.brief(), "502 -");
    }
    // It is asked again after 100 ms, 200 ms and so on, and then every second.
    let allowed = 4 + begun.elapsed().as_secs() as usize;
    assert!(origin.loads(&key) - before <= allowed, "50 in a row cost {} calls", origin.loads(&key) - before);

    origin.fail(false);
    assert_fresh_soon(&cluster, &key, &format!("the {key}")).await;
}
