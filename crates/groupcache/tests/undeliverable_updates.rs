//! Changes whose caller is gone or has no runtime, and members that cannot be told of any.

mod support;

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use peercache_groupcache::{
    Always, BoxError, Bytes, Clock, Connect, ErrorKind, GroupBuilder, Groups, Members, Peer, PeerRequest, Reply,
    Source, loader_fn_with,
};
use support::{
    GROUP, Net,
    cluster::{AB, ABC, Cluster},
    origin::Db,
    ms,
    net::{CHANGES, What::Forgets},
    poll_once, settle, soon,
    updates::{all_hold_the_old, missed, refused},
};
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn a_dropped_remove_goes_on() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.stop("b", Forgets);
    assert!(poll_once(cluster["a"].group.remove(&key)).await.is_pending());
    settle().await;
    cluster.net.let_go("b", Forgets);
    settle().await;
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_set_goes_on() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.stop("b", Forgets);
    assert!(poll_once(cluster["a"].group.set(&key, Bytes::from("set"))).await.is_pending());
    settle().await;
    cluster.net.let_go("b", Forgets);
    settle().await;
    assert_eq!(cluster.read(&key).await, "set set set");
}

/// What becomes of an update outside a runtime.
fn outside<T>(update: impl Future<Output = T>) -> T {
    match pin!(update).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("nothing to wait for"),
    }
}

#[test]
fn outside_a_runtime_an_update_is_an_error_and_no_panic() {
    let cluster = Cluster::new(AB);
    let group = &cluster["a"].group;
    assert_eq!(refused(outside(group.remove("key"))), ErrorKind::NoRuntime);
    assert_eq!(refused(outside(group.remove_many(["key"]))), ErrorKind::NoRuntime);
    assert_eq!(refused(outside(group.clear())), ErrorKind::NoRuntime);
    assert_eq!(refused(outside(group.set("key", Bytes::new()))), ErrorKind::NoRuntime);
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_dialect_carries_no_changes_is_named_each_time() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.make_mute("b");
    for _ in 0..3 {
        assert_eq!(missed(soon(cluster["a"].group.remove(&key)).await), ["b"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_dialect_carries_no_changes_is_asked_for_values() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.make_mute("b");
    let _ = soon(cluster["a"].group.remove(&key)).await;
    assert_eq!(cluster["a"].source(&key).await, Source::Peer);
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_dialect_carries_no_changes_is_owed_none() {
    let (cluster, key) = all_hold_the_old().await;
    cluster.net.make_mute("b");
    let _ = soon(cluster["a"].group.remove(&key)).await;
    cluster.net.forget_asked();
    sleep(ms(10_000)).await;
    assert_eq!(cluster.net.updates("b").len(), 0);
}

/// A transport from before there were changes: it knows of gets alone.
struct GetsOnly(Net);

struct GetsOnlyPeer(Arc<dyn Peer>);

impl Connect for GetsOnly {
    fn connect(&self, name: &str) -> Result<Arc<dyn Peer>, BoxError> {
        Ok(Arc::new(GetsOnlyPeer(self.0.connect(name)?)))
    }
}

impl Peer for GetsOnlyPeer {
    fn get(&self, request: PeerRequest, reply: Reply) {
        self.0.get(request, reply);
    }
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_knows_of_no_changes_is_one_that_carries_none() {
    let (cluster, key) = all_hold_the_old().await;
    let members = Members::builder("a", GetsOnly(cluster.net.clone())).members(ABC).build().unwrap();
    let groups = Groups::with_clock(members, Clock::tokio());
    let group = plain(groups.group(GROUP, loader_fn_with(cluster.db.clone(), Db::load))).build().unwrap();
    assert_eq!(missed(soon(group.remove(&key)).await), ["b", "c"]);
    assert_eq!(soon(group.get(&key)).await.unwrap(), "v1", "the owner, which does not know");
}

fn plain(group: GroupBuilder<Bytes>) -> GroupBuilder<Bytes> {
    group.hot_admission(Always)
}

#[tokio::test(start_paused = true)]
async fn a_member_without_the_group_has_nothing_to_forget_but_is_named() {
    let (cluster, key) = all_hold_the_old().await;
    cluster["c"].groups.remove(GROUP);
    assert_eq!(missed(soon(cluster["a"].group.remove(&key)).await), ["c"]);
}

/// What a copy's life is for: a member that could be told nothing at all, and asks nobody.
#[tokio::test(start_paused = true)]
async fn a_member_that_was_missed_is_old_no_longer_than_hot_ttl() {
    let cluster = Cluster::with(ABC, |group| group.hot_ttl(ms(5_000)));
    let key = cluster.key_of("b");
    cluster.read(&key).await;
    cluster.db.change();
    cluster.net.cut_off("c", &CHANGES);
    let _ = soon(cluster["a"].group.remove(&key)).await;
    assert_eq!(cluster["c"].read(&key).await, "v1");
    sleep(ms(5_000)).await;
    assert_eq!(cluster["c"].read(&key).await, "v2");
}
