//! Changes under way, and clusters that they are made in.

use peercache_groupcache::{Bytes, ErrorKind, UpdateError};
use tokio::task::JoinHandle;

use super::{
    cluster::{ABC, Cluster},
    net::What::Answers,
    soon,
};

pub type Updated = JoinHandle<Result<(), UpdateError>>;

/// Someone who removes `key` at `node`.
pub fn remove(cluster: &Cluster, node: &str, key: &str) -> Updated {
    let (group, key) = (cluster[node].group.clone(), key.to_owned());
    tokio::spawn(async move { soon(group.remove(&key)).await })
}

/// Someone who sets `key` at `node`.
pub fn set(cluster: &Cluster, node: &str, key: &str, value: &'static str) -> Updated {
    let (group, key) = (cluster[node].group.clone(), key.to_owned());
    tokio::spawn(async move { soon(group.set(&key, Bytes::from(value))).await })
}

/// The members that were missed, by name.
pub fn missed(result: Result<(), UpdateError>) -> Vec<String> {
    match result {
        Ok(()) => Vec::new(),
        Err(UpdateError::Missed(missed)) => missed.into_iter().map(|missed| missed.member).collect(),
        Err(other) => panic!("refused: {other}"),
    }
}

pub fn refused(result: Result<(), UpdateError>) -> ErrorKind {
    match result {
        Err(UpdateError::Refused(error)) => error.kind(),
        other => panic!("not refused: {other:?}"),
    }
}

/// Three nodes that all hold `v1` for the key of `b`, while the origin has gone on to `v2`.
pub async fn all_hold_the_old() -> (Cluster, String) {
    let cluster = Cluster::new(ABC);
    let key = cluster.key_of("b");
    assert_eq!(cluster.read(&key).await, "v1 v1 v1");
    assert_eq!(cluster.cached(&key), "v1 v1 v1");
    cluster.db.change();
    cluster.net.forget_asked();
    (cluster, key)
}

/// Three nodes, of which `b` loads the old value of its key while the origin goes on to `v2`.
pub async fn the_owner_loads_the_old() -> (Cluster, String) {
    let cluster = Cluster::new(ABC);
    cluster.db.hold();
    let key = cluster.key_of("b");
    (cluster, key)
}

/// `asker` waits for the old value, which `b` has sent and which is on its way.
pub async fn the_old_is_on_its_way_to(asker: &str) -> (Cluster, String, JoinHandle<String>) {
    let cluster = Cluster::new(ABC);
    let key = cluster.key_of("b");
    cluster.net.stop("b", Answers);
    let waiting = cluster[asker].caller(&key);
    cluster.net.until_stopped("b", Answers, 1).await;
    cluster.db.change();
    (cluster, key, waiting)
}

/// Three nodes that hold 300 old values each.
pub async fn all_hold_300_old() -> (Cluster, Vec<String>) {
    let cluster = Cluster::new(ABC);
    let keys: Vec<String> = (0..300).map(|key| format!("key-{key}")).collect();
    for key in &keys {
        assert_eq!(cluster.read(key).await, "v1 v1 v1");
    }
    cluster.db.change();
    cluster.net.forget_asked();
    (cluster, keys)
}
