//! Updates in progress, and clusters that they are made in.

use peercache_groupcache::{Bytes, ErrorKind, UpdateError};
use tokio::task::JoinHandle;

use super::{
    cluster::{ABC, Cluster},
    keys,
    net::Kind::Answers,
    soon,
};

pub type Updating = JoinHandle<Result<(), UpdateError>>;

/// A caller that removes `key` at `node`.
pub fn remove(cluster: &Cluster, node: &str, key: &str) -> Updating {
    let (group, key) = (cluster[node].group.clone(), key.to_owned());
    tokio::spawn(async move { soon(group.remove(&key)).await })
}

/// A caller that sets `key` at `node`.
pub fn set(cluster: &Cluster, node: &str, key: &str, value: &'static str) -> Updating {
    let (group, key) = (cluster[node].group.clone(), key.to_owned());
    tokio::spawn(async move { soon(group.set(&key, Bytes::from(value))).await })
}

/// The members that an update did not reach, by name.
pub fn unreached(result: Result<(), UpdateError>) -> Vec<String> {
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
pub async fn all_hold_the_old_value() -> (Cluster, String) {
    let cluster = Cluster::new(ABC);
    let key = cluster.key_of("b");
    assert_eq!(cluster.read(&key).await, "v1 v1 v1");
    assert_eq!(cluster.cached(&key), "v1 v1 v1");
    cluster.origin.change();
    cluster.net.clear_log();
    (cluster, key)
}

/// Three nodes whose loads are held, and a key of `b`.
pub fn loads_are_held() -> (Cluster, String) {
    let cluster = Cluster::new(ABC);
    cluster.origin.hold();
    let key = cluster.key_of("b");
    (cluster, key)
}

/// Three nodes, of which `caller` waits for the old value, which `b` is loading.
pub async fn the_old_value_is_being_loaded_for(caller: &str) -> (Cluster, String, JoinHandle<String>) {
    let (cluster, key) = loads_are_held();
    let waiting = cluster[caller].caller(&key);
    cluster.origin.until_held(1).await;
    cluster.origin.change();
    (cluster, key, waiting)
}

/// Three nodes, of which `caller` waits for the old value, which `b` has sent and which has not
/// arrived.
pub async fn the_old_value_is_on_its_way_to(caller: &str) -> (Cluster, String, JoinHandle<String>) {
    let cluster = Cluster::new(ABC);
    let key = cluster.key_of("b");
    cluster.net.pause("b", Answers);
    let waiting = cluster[caller].caller(&key);
    cluster.net.until_paused("b", Answers, 1).await;
    cluster.origin.change();
    (cluster, key, waiting)
}

/// Three nodes that hold 300 old values each.
pub async fn all_hold_300_old_values() -> (Cluster, Vec<String>) {
    let cluster = Cluster::new(ABC);
    let keys = keys(300);
    for key in &keys {
        assert_eq!(cluster.read(key).await, "v1 v1 v1");
    }
    cluster.origin.change();
    cluster.net.clear_log();
    (cluster, keys)
}
