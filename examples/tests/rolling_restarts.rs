//! Nodes that are restarted one by one while people ask.
mod support;

use rustix::process::Signal;
use support::{cluster::Cluster, load::Crowd, origin::Origin};

/// Restarts one node while people ask the others, and checks that no request is lost.
async fn restart(cluster: &mut Cluster, index: usize) {
    let others = (0..3).filter(|other| *other != index);
    let crowds: Vec<_> = others.map(|other| Crowd::gather(&cluster.nodes[other].front, 4)).collect();
    cluster.nodes[index].process.signal(Signal::TERM);
    assert!(cluster.nodes[index].process.exited().await.success());
    cluster.restart(index).await;
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
async fn a_cluster_is_restarted_in_every_order() {
    let origin = Origin::start().await;
    let mut cluster = Cluster::start(3, &["--origin", &origin.flag()]).await;
    for (round, order) in ORDERS.into_iter().enumerate() {
        for index in order {
            restart(&mut cluster, index).await;
            each_key_is_loaded_once(&cluster, &origin, &format!("{round} {index}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_a_secret_is_restarted_node_by_node() {
    let origin = Origin::start().await;
    let dir = tempfile::tempdir().unwrap();
    let secrets = dir.path().join("secrets");
    std::fs::write(&secrets, "a secret that nobody knows, of more than 32 bytes\n").unwrap();
    let flags = ["--origin", &origin.flag(), "--secret-file", secrets.to_str().unwrap(), "--cluster", "barracks"];
    let mut cluster = Cluster::start(3, &flags).await;
    for index in 0..3 {
        // The others hold a nonce of the process that is gone.
        restart(&mut cluster, index).await;
        each_key_is_loaded_once(&cluster, &origin, &format!("restarted {index}")).await;
    }
}
