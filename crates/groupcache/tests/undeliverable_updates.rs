//! Members that cannot be sent updates at all: they are named each time, and what they answer
//! meanwhile is bounded.

mod support;

use std::sync::Arc;

use peercache_groupcache::{BoxError, Clock, Connect, Groups, Member, Members, Peer, PeerRequest, Reply, Source};
use support::{
    GROUP,
    cluster::{ABC, Cluster},
    ms,
    net::UPDATES,
    soon,
    updates::{all_hold_the_old_value, unreached},
};
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn a_member_whose_dialect_carries_no_updates_is_named_each_time() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.carry_no_updates("b");
    for _ in 0..3 {
        assert_eq!(unreached(soon(cluster["a"].group.remove(&key)).await), ["b"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_dialect_carries_no_updates_is_asked_for_values() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.carry_no_updates("b");
    let _ = soon(cluster["a"].group.remove(&key)).await;
    assert_eq!(cluster["a"].source(&key).await, Source::Peer);
}

#[tokio::test(start_paused = true)]
async fn no_updates_are_kept_for_a_member_whose_dialect_carries_none() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.carry_no_updates("b");
    let _ = soon(cluster["a"].group.remove(&key)).await;
    cluster.net.clear_log();
    sleep(ms(10_000)).await;
    assert_eq!(cluster.net.updates("b").len(), 0);
}

/// A transport that only knows of gets, as one from before there were updates.
struct GetsOnly<C>(C);

struct GetsOnlyPeer(Arc<dyn Peer>);

impl<C: Connect> Connect for GetsOnly<C> {
    fn connect(&self, member: &Member) -> Result<Arc<dyn Peer>, BoxError> {
        Ok(Arc::new(GetsOnlyPeer(self.0.connect(member)?)))
    }
}

impl Peer for GetsOnlyPeer {
    fn get(&self, request: PeerRequest, reply: Reply) {
        self.0.get(request, reply);
    }
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_knows_of_no_updates_carries_none() {
    let (cluster, key) = all_hold_the_old_value().await;
    let members = Members::builder("a", GetsOnly(cluster.net.of("a"))).members(ABC).build().unwrap();
    let groups = Groups::with_clock(members, Clock::tokio());
    let group = groups.group(GROUP, cluster.origin.clone()).build().unwrap();
    assert_eq!(unreached(soon(group.remove(&key)).await), ["b", "c"]);
    assert_eq!(soon(group.get(&key)).await.unwrap(), "v1", "the owner, which does not know");
}

#[tokio::test(start_paused = true)]
async fn a_member_without_the_group_has_nothing_to_remove_but_is_named() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster["c"].groups.remove(GROUP);
    assert_eq!(unreached(soon(cluster["a"].group.remove(&key)).await), ["c"]);
}

/// The time to live of a copy is for a member that no update reaches and that asks nobody.
#[tokio::test(start_paused = true)]
async fn a_member_that_no_update_reaches_answers_the_old_value_no_longer_than_hot_ttl() {
    let cluster = Cluster::with(ABC, |group| group.hot_ttl(ms(5_000)));
    let key = cluster.key_of("b");
    cluster.read(&key).await;
    cluster.origin.change();
    cluster.net.cut_kinds("c", &UPDATES);
    let _ = soon(cluster["a"].group.remove(&key)).await;
    assert_eq!(cluster["c"].read(&key).await, "v1");
    sleep(ms(5_000)).await;
    assert_eq!(cluster["c"].read(&key).await, "v2");
}
