//! Nodes of which some are kept to plain GETs, restarted one by one while people ask.
mod support;

use rustix::process::Signal;
use support::{cluster::Cluster, load::Crowd, origin::Origin};

const PLAIN: &[&str] = &["--plain-gets"];

/// Restarts one node while people ask the others, and checks that no request is lost.
async fn restart(cluster: &mut Cluster, index: usize, flags: &[&str]) {
    let others = (0..3).filter(|other| *other != index);
    let crowds: Vec<_> = others.map(|other| Crowd::gather(&cluster.nodes[other].front, 4)).collect();
    cluster.nodes[index].process.signal(Signal::TERM);
    assert!(cluster.nodes[index].process.exited().await.success());
    cluster.restart_with(index, flags).await;
    for crowd in crowds {
        let (answered, lost) = crowd.disperse().await;
        assert!(answered > 0 && lost.is_empty(), "{answered} were answered; {lost:?}");
    }
}

/// New keys of each owner, asked for at every node, are loaded once.
async fn each_key_is_loaded_once(cluster: &Cluster, origin: &Origin, prefix: &str) {
    for owner in 0..3 {
        let key = cluster.key_of(owner, &format!("{prefix} of {owner} ")).await;
        for node in &cluster.nodes {
            assert_eq!(node.raw(&key).await.status, 200, "{key}");
        }
        assert_eq!(origin.loads(&key), 1, "{key}");
    }
}

const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_one_that_asks_plainly_is_restarted_in_every_order() {
    let origin = Origin::start().await;
    let mut cluster = Cluster::start(3, &["--origin", &origin.flag()]).await;
    restart(&mut cluster, 2, PLAIN).await;
    for (round, order) in ORDERS.into_iter().enumerate() {
        for index in order {
            restart(&mut cluster, index, if index == 2 { PLAIN } else { &[] }).await;
            each_key_is_loaded_once(&cluster, &origin, &format!("{round} {index}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_upgraded_node_by_node() {
    let origin = Origin::start().await;
    let mut cluster = Cluster::start(3, &["--origin", &origin.flag()]).await;
    for flags in [PLAIN, &[]] {
        for index in 0..3 {
            restart(&mut cluster, index, flags).await;
            each_key_is_loaded_once(&cluster, &origin, &format!("{flags:?} {index}")).await;
        }
    }
}

#[tokio::test]
async fn a_member_kept_to_plain_gets_is_not_told_of_changes_and_is_named() {
    let origin = Origin::start().await;
    let mut cluster = Cluster::start(3, &["--origin", &origin.flag()]).await;
    restart(&mut cluster, 2, PLAIN).await;
    let key = cluster.key_of(0, "k").await;
    let plain = cluster.nodes[2].peer.clone();
    assert_eq!(cluster.nodes[0].put(&key, "new").await, support::cluster::Said::missed(&[&plain]));
}
