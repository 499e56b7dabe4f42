//! Three nodes: the owner loads, the others fetch, and all answer when one of them is away.
mod support;

use std::collections::BTreeSet;

use support::{
    SOONER_THAN_THE_DEFAULTS,
    cluster::{Cluster, client},
    eventually,
    origin::Origin,
    within,
};
use tokio::{task::JoinSet, time::timeout};

async fn three_with(flags: &[&str]) -> (Cluster, Origin) {
    let origin = Origin::start().await;
    let template = origin.flag();
    let flags = [flags, &["--origin", &template]].concat();
    (Cluster::start(3, &flags).await, origin)
}

/// Asks for one key `count` times at once, all nodes in turn, and returns each status once.
async fn ask_at_once(cluster: &Cluster, key: &str, count: usize) -> (usize, BTreeSet<u16>) {
    support::open_files(2 * count as u64 + 1_000);
    let mut asked = JoinSet::new();
    let clients: Vec<_> = (0..count).map(|_| client()).collect();
    for (number, client) in clients.into_iter().enumerate() {
        let url = format!("{}/raw?name={key}", cluster.nodes[number % cluster.nodes.len()].front);
        asked.spawn(async move { client.get(url).send().await.unwrap().status().as_u16() });
    }
    let statuses = within("all answers", asked.join_all()).await;
    (statuses.len(), statuses.into_iter().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_at_once_are_one_load() {
    let (cluster, origin) = three_with(&[]).await;
    let answers = ask_at_once(&cluster, "hello", 1_000).await;
    assert_eq!((answers, origin.loads("hello")), ((1_000, BTreeSet::from([200])), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_of_three_seconds_is_waited_for_by_all_and_done_once() {
    let (cluster, origin) = three_with(&[]).await;
    for owner in 0..3 {
        let key = cluster.key_of(owner, "3 s ").await;
        let answers = ask_at_once(&cluster, &key, 30).await;
        assert_eq!((answers, origin.loads(&key)), ((30, BTreeSet::from([200])), 1), "owner {owner}");
    }
}

#[tokio::test]
async fn the_owner_answers_from_main_and_the_others_from_it() {
    let (cluster, origin) = three_with(&["--hot-ttl-ms", "0"]).await;
    let key = cluster.key_of(1, "k").await;
    let mut briefs = Vec::new();
    for node in [0, 0, 1, 2, 1] {
        briefs.push(cluster.nodes[node].raw(&key).await.brief());
    }
    assert_eq!(briefs.join(", "), "200 peer, 200 peer, 200 main, 200 peer, 200 main");
    assert_eq!(origin.loads(&key), 1);
}

#[tokio::test]
async fn popular_keys_are_copied_and_copies_expire() {
    let (cluster, _origin) = three_with(&["--hot-ttl-ms", "300"]).await;
    let key = cluster.key_of(1, "k").await;
    let answered_by = async |cache: &str| {
        eventually(&format!("an answer from {cache}"), async || {
            (cluster.nodes[0].raw(&key).await.cache.as_deref() == Some(cache)).then_some(())
        })
        .await;
    };
    answered_by("hot").await;
    timeout(SOONER_THAN_THE_DEFAULTS, answered_by("peer")).await.expect("the flag is heeded");
}

#[tokio::test]
async fn all_agree_about_every_owner_and_each_owns_some() {
    let (cluster, _origin) = three_with(&[]).await;
    let mut owners = BTreeSet::new();
    for number in 0..60 {
        let key = format!("user:{number}");
        let named: BTreeSet<usize> = {
            let mut named = BTreeSet::new();
            for node in &cluster.nodes {
                let owner = node.owner(&key).await;
                named.extend(cluster.nodes.iter().position(|node| node.peer == owner));
            }
            named
        };
        assert_eq!(named.len(), 1, "{key}");
        owners.extend(named);
    }
    assert_eq!(owners, BTreeSet::from([0, 1, 2]));
}

#[tokio::test]
async fn every_key_arrives_through_its_owner_as_it_is() {
    let (cluster, origin) = three_with(&[]).await;
    let all: Vec<u8> = (0..=255).collect();
    let mut keys: Vec<Vec<u8>> = [&all[..], b"", b".", b"..", b"/", b"//", b"+", b" ", b"a b", b"a+b", b"%2F", b"\xFF"]
        .map(<[u8]>::to_vec)
        .into();
    keys.extend((0..=255).map(|byte| vec![byte]));
    keys.sort();
    keys.dedup();
    for key in &keys {
        for node in &cluster.nodes {
            assert_eq!(node.raw(key).await.body, [b"the ", key.as_slice()].concat());
        }
        assert_eq!(origin.loads(key), 1, "{key:?}");
    }
}

#[tokio::test]
async fn an_error_of_the_owner_is_the_answer() {
    let (cluster, origin) = three_with(&[]).await;
    for (prefix, expected) in [("nobody", "404 -"), ("broken", "502 -"), ("too long", "413 -")] {
        let key = cluster.key_of(2, prefix).await;
        assert_eq!(cluster.nodes[0].raw(&key).await.brief(), expected, "{key}");
        assert_eq!(origin.loads(&key), 1, "{key}: nobody else asked the origin");
    }
}

#[tokio::test]
async fn a_callers_deadline_is_not_a_failure_of_the_owner() {
    let (cluster, origin) = three_with(&["--hot-ttl-ms", "0"]).await;
    let key = cluster.key_of(2, "gated").await;
    assert_eq!(cluster.nodes[0].raw_within(&key, 200).await.brief(), "504 -");
    assert_eq!(cluster.nodes[1].raw_within(&key, 200).await.brief(), "504 -");
    origin.open_gate();
    eventually("the load at the owner", async || {
        (cluster.nodes[2].raw_within(&key, 5).await.brief() == "200 main").then_some(())
    })
    .await;
    assert_eq!(cluster.nodes[0].raw(&key).await.brief(), "200 peer");
    assert_eq!(origin.loads(&key), 1);
}

#[tokio::test]
async fn a_killed_node_is_not_missed_and_is_used_again_when_it_is_back() {
    let (mut cluster, origin) = three_with(&["--hot-ttl-ms", "0"]).await;
    let keys = cluster.keys_of(1, "k", 5).await;
    cluster.nodes[1].process.kill().await;
    for key in &keys {
        for node in [0, 2] {
            assert_eq!(cluster.nodes[node].raw(key).await.status, 200, "{key}");
        }
    }
    let loads: usize = keys.iter().map(|key| origin.loads(key)).sum();
    assert!(loads <= keys.len() + 2, "each is loaded once, but for those that found it out: {loads}");
    cluster.restart(1).await;
    eventually("the node being seen as up", async || {
        (cluster.nodes[0].status().await["members"][1]["state"] == "up").then_some(())
    })
    .await;
    let key = cluster.key_of(1, "asked again").await;
    assert_eq!(cluster.nodes[0].raw(&key).await.brief(), "200 peer");
    assert_eq!(cluster.nodes[1].raw(&key).await.brief(), "200 main");
}

#[cfg(unix)]
#[tokio::test]
async fn a_frozen_node_costs_no_more_than_its_silence() {
    use rustix::process::Signal;

    let (cluster, _origin) = three_with(&["--peer-timeout-ms", "200"]).await;
    let keys = cluster.keys_of(1, "k", 3).await;
    cluster.nodes[1].process.signal(Signal::STOP);
    for key in &keys {
        assert_eq!(cluster.nodes[0].raw(key).await.status, 200, "{key}");
    }
    assert_eq!(cluster.nodes[0].status().await["members"][1]["state"], "down");
    cluster.nodes[1].process.signal(Signal::CONT);
    eventually("the node being seen as up", async || {
        (cluster.nodes[0].status().await["members"][1]["state"] == "up").then_some(())
    })
    .await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_silent_node_is_waited_for_as_long_as_it_is_allowed_to_be_silent() {
    use rustix::process::Signal;

    let (cluster, origin) = three_with(&["--peer-timeout-ms", "3600000"]).await;
    let key = cluster.key_of(1, "k").await;
    cluster.nodes[1].process.signal(Signal::STOP);
    assert_eq!(cluster.nodes[0].raw_within(&key, 3_000).await.brief(), "504 -");
    assert_eq!(origin.loads(&key), 0);
    cluster.nodes[1].process.signal(Signal::CONT);
    assert_eq!(cluster.nodes[0].raw(&key).await.brief(), "200 peer");
}

#[tokio::test]
async fn a_list_is_changed_at_run_time() {
    let (cluster, _origin) = three_with(&["--hot-ttl-ms", "0"]).await;
    let names: Vec<&str> = cluster.nodes.iter().map(|node| node.peer.as_str()).collect();
    let (all, two) = (format!("{names:?}"), format!("{:?}", &names[..2]));
    assert_eq!(cluster.nodes[0].peers().await, all.replace(", ", ","));

    let key = cluster.key_of(2, "k").await;
    assert_eq!(cluster.nodes[0].raw(&key).await.brief(), "200 peer");
    for node in &cluster.nodes[..2] {
        assert_eq!(node.set_members(&two).await, (204, String::new()));
    }
    assert_eq!(cluster.nodes[0].peers().await, two.replace(", ", ","));
    let owner = cluster.owner(&key).await;
    assert_eq!(cluster.nodes[owner].raw(&key).await.brief(), "200 origin", "the new owner loads");
    assert_eq!(cluster.nodes[1 - owner].raw(&key).await.brief(), "200 peer");
}

#[tokio::test]
async fn a_bad_list_is_refused_and_the_old_one_stays() {
    let (cluster, _origin) = three_with(&[]).await;
    let node = &cluster.nodes[0];
    let before = node.peers().await;
    let me = &node.peer;
    for (list, sentence) in [
        ("", "must be a JSON array"),
        ("{}", "must be a JSON array"),
        ("[1]", "must be a JSON array"),
        ("[]", "empty"),
        ("[\"http://127.0.0.1:1\"]", "must name this node"),
        (&format!("[{me:?}, {me:?}]"), "twice"),
        (&format!("[{me:?}, \"127.0.0.1:1\"]"), "http://"),
        (&format!("[{me:?}, \"http://127.0.0.1:99999\"]"), "99999"),
        (&format!("[{me:?}, \"https://127.0.0.1:1\"]"), "over TLS: give this node its certificates"),
    ] {
        let (status, said) = node.set_members(list).await;
        assert_eq!(status, 400, "{list}: {said}");
        assert!(said.contains(sentence), "{list}: {said}");
        assert_eq!(node.peers().await, before);
    }
}

#[tokio::test]
async fn a_host_may_be_a_name() {
    let (cluster, _origin) = three_with(&[]).await;
    let node = &cluster.nodes[0];
    let list = format!("[{:?},\"http://localhost:{}\"]", node.peer, &cluster.nodes[1].peer[17..]);
    assert_eq!(node.set_members(&list).await.0, 204);
    assert_eq!(node.peers().await, list);
    assert_eq!(node.set_members("x".repeat(2 << 20)).await.0, 400, "a list has a longest length");
}

#[tokio::test(flavor = "multi_thread")]
async fn rings_that_disagree_cost_loads_and_hold_nobody_up() {
    let (cluster, origin) = three_with(&[]).await;
    let names: Vec<&str> = cluster.nodes.iter().map(|node| node.peer.as_str()).collect();
    // The first gives away most keys, the second keeps all, the third knows one other.
    for (node, list) in [(1, &names[1..2]), (2, &[names[2], names[0]][..])] {
        assert_eq!(cluster.nodes[node].set_members(format!("{list:?}")).await.0, 204);
    }
    let mut asked = JoinSet::new();
    for number in 0..300 {
        let url = format!("{}/raw?name=k{}", cluster.nodes[number % 3].front, number / 3);
        asked.spawn(async move { reqwest::get(url).await.unwrap().status().as_u16() });
    }
    let statuses = within("all answers", asked.join_all()).await;
    assert_eq!(statuses, vec![200; 300]);
    let loads = (0..100).map(|number| origin.loads(format!("k{number}"))).max();
    assert!(loads <= Some(3), "one load at each node at most, not {loads:?}");
}

#[tokio::test]
async fn a_key_without_an_owner_to_ask_for_is_refused() {
    let (cluster, _origin) = three_with(&[]).await;
    let answer = client().get(format!("{}/owner", cluster.nodes[0].admin)).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let answer = client().get(format!("{}/healthz", cluster.nodes[0].admin)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_node_that_dies_is_loaded_for_once_and_shown_as_down() {
    let (mut cluster, origin) = three_with(&[]).await;
    let mut keys = Vec::new();
    for nth in 0..30 {
        keys.push(cluster.key_of(1, &format!("{nth} of the dead ")).await);
    }
    cluster.nodes[1].process.kill().await;
    for node in [0, 2] {
        for key in &keys {
            assert_eq!(cluster.nodes[node].raw(key).await.body, format!("the {key}").as_bytes(), "{key}");
        }
    }
    let loads: usize = keys.iter().map(|key| origin.loads(key)).sum();
    assert!(loads <= keys.len() + 2, "each is loaded once, but for those that found it out: {loads}");
    for node in [0, 2] {
        let status = cluster.nodes[node].status().await;
        assert_eq!(status["node"], cluster.nodes[node].peer.as_str());
        assert_eq!(status["state"], "serving");
        let members = status["members"].as_array().unwrap();
        let shown: Vec<_> = members.iter().map(|member| (member["me"] == true, member["state"].as_str())).collect();
        assert_eq!(shown, [0, 1, 2].map(|other| (other == node, Some(if other == 1 { "down" } else { "up" }))));
        assert!(members[1]["why"].as_str().unwrap().contains("cannot be reached"), "{status}");
        assert!(members.iter().all(|member| member["since_ms"].as_u64().unwrap() > 0), "{status}");
        let shares: f64 = members.iter().map(|member| member["share"].as_f64().unwrap()).sum();
        assert!((shares - 1.0).abs() < 1e-6, "{status}");
    }
}
