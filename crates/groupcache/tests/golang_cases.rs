//! The cases of golang/groupcache's own tests, in our terms.
//!
//! Its case of two leaders in a row needs a step between a look-up and a flight: it is a unit test
//! of `core.rs`.

mod support;

use peercache_groupcache::{Always, EvictionPolicy, HotAdmission, MembersBuilder, Never, Placement, Ring};
use support::cluster::Cluster;

#[tokio::test]
async fn two_callers_share_one_load() {
    let cluster = Cluster::new(["a"]);
    cluster.origin.hold();
    let callers = [(), ()].map(|()| cluster["a"].caller("key"));
    cluster["a"].until_missed(2).await;
    cluster.origin.release();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), "v1");
    }
    assert_eq!(cluster.origin.calls(), 1);
}

#[tokio::test]
async fn ten_gets_cost_one_load() {
    let cluster = Cluster::new(["a"]);
    for _ in 0..10 {
        assert_eq!(cluster["a"].read("key").await, "v1");
    }
    assert_eq!(cluster.origin.calls(), 1);
}

#[tokio::test]
async fn an_entry_leaves_when_the_budget_is_full_and_is_loaded_again() {
    let cluster = Cluster::with(["a"], |group| group.max_bytes(64 << 10).eviction_policy(EvictionPolicy::Lru));
    cluster["a"].read("first").await;
    for filler in 0..2_000 {
        cluster["a"].read(&format!("filler-{filler}")).await;
    }
    let stats = cluster["a"].group.stats();
    assert!(stats.main.evictions > 0 && stats.main.bytes <= 64 << 10, "{stats:?}");
    cluster["a"].read("first").await;
    assert_eq!(cluster.origin.calls(), 2_002);
}

/// Key `k` belongs to slot crc32(k) % 4; the last slot is ours, and so is that of an absent peer.
#[derive(Clone, Copy)]
struct FourSlots {
    absent: Option<usize>,
}

impl Placement for FourSlots {
    fn ring(&self, names: &[String]) -> Box<dyn Ring> {
        let us = names.len() - 1;
        let owners = [0, 1, 2, 3].map(|slot| if Some(slot) == self.absent { us } else { slot });
        Box::new(Slots { owners })
    }
}

struct Slots {
    owners: [usize; 4],
}

impl Ring for Slots {
    fn owner(&self, key: &[u8]) -> usize {
        self.owners[crc32fast::hash(key) as usize % 4]
    }

    fn digest(&self) -> u64 {
        4
    }
}

const NAMES: [&str; 4] = ["peer-0", "peer-1", "peer-2", "us"];

/// Our node and three peers that answer, one of which may be absent from the ring.
fn four_nodes(absent: Option<usize>, hot: impl HotAdmission + Copy) -> Cluster {
    let mut cluster = Cluster::empty();
    cluster.origin.echo();
    for name in NAMES {
        let placed = |members: MembersBuilder| members.placement(FourSlots { absent });
        cluster.add_as(name, &NAMES, placed, |group| group.hot_admission(hot));
    }
    cluster
}

/// Gets 200 keys at our node and says who was asked.
async fn get_200_keys(cluster: &Cluster) -> String {
    cluster.net.clear_log();
    let loads_before = cluster.origin.calls_of("us");
    for key in support::keys(200) {
        assert_eq!(cluster["us"].read(&key).await, key);
    }
    let local = cluster.origin.calls_of("us") - loads_before;
    let [zero, one, two] = ["peer-0", "peer-1", "peer-2"].map(|peer| cluster.net.asked(peer));
    format!("local {local}, peers {zero} {one} {two}")
}

#[tokio::test]
async fn keys_are_asked_of_their_owners() {
    assert_eq!(get_200_keys(&four_nodes(None, Never)).await, "local 49, peers 51 49 51");
}

#[tokio::test]
async fn without_hot_copies_peers_are_asked_again() {
    let cluster = four_nodes(None, Never);
    get_200_keys(&cluster).await;
    assert_eq!(get_200_keys(&cluster).await, "local 0, peers 51 49 51");
}

#[tokio::test]
async fn with_hot_copies_nobody_is_asked_again() {
    let cluster = four_nodes(None, Always);
    get_200_keys(&cluster).await;
    assert_eq!(get_200_keys(&cluster).await, "local 0, peers 0 0 0");
}

#[tokio::test]
async fn keys_of_an_absent_peer_are_loaded_here() {
    assert_eq!(get_200_keys(&four_nodes(Some(0), Never)).await, "local 100, peers 0 49 51");
}

#[tokio::test]
async fn keys_of_a_broken_peer_are_loaded_here() {
    let cluster = four_nodes(None, Never);
    cluster.net.cut("peer-0");
    assert_eq!(get_200_keys(&cluster).await, "local 100, peers 51 49 51");
}
