//! The cases of golang/groupcache's own tests, in our terms.

mod support;

use peercache_groupcache::{Always, EvictionPolicy, Groups, HotAdmission, Members, Never, Placement, Ring};
use support::{Net, Origin, alone, group_of};

#[tokio::test]
async fn two_callers_share_one_load() {
    let origin = Origin::gated();
    let group = alone(&origin).build().unwrap();
    let callers = [(), ()].map(|()| {
        tokio::spawn({
            let group = group.clone();
            async move { group.get("key").await }
        })
    });
    origin.called(1).await;
    while group.stats().loads < 2 {
        tokio::task::yield_now().await;
    }
    origin.open(1);
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap(), "key");
    }
    assert_eq!(origin.calls(), 1);
}

#[tokio::test]
async fn ten_gets_cost_one_load() {
    let origin = Origin::echo();
    let group = alone(&origin).build().unwrap();
    for _ in 0..10 {
        assert_eq!(group.get("key").await.unwrap(), "key");
    }
    assert_eq!(origin.calls(), 1);
}

#[tokio::test]
async fn an_entry_leaves_when_the_budget_is_full_and_is_loaded_again() {
    let origin = Origin::echo();
    let group = alone(&origin).max_bytes(64 << 10).eviction_policy(EvictionPolicy::Lru).build().unwrap();
    group.get("first").await.unwrap();
    for filler in 0..2_000 {
        group.get(&format!("filler-{filler}")).await.unwrap();
    }
    let stats = group.stats();
    assert!(stats.main.evictions > 0 && stats.main.bytes <= 64 << 10, "{stats:?}");
    group.get("first").await.unwrap();
    assert_eq!(origin.calls(), 2_002);
}

/// Key `k` belongs to slot crc32(k) % 4; the last slot is ours, and so is that of an absent peer.
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

/// Our node, three peers that answer (unless one is broken), and what they were asked since the last look.
struct FourNodes {
    net: Net,
    group: peercache_groupcache::Group<peercache_groupcache::Bytes>,
    origin: Origin,
    loads_before: usize,
}

impl FourNodes {
    fn new(absent: Option<usize>, hot: impl HotAdmission) -> Self {
        let net = Net::default();
        let names = ["peer-0", "peer-1", "peer-2", "us"];
        for peer in &names[..3] {
            let members = Members::builder(*peer, net.clone()).members(names).placement(FourSlots { absent });
            let groups = Groups::new(members.build().unwrap());
            group_of(&groups, &Origin::echo()).build().unwrap();
            net.add(peer, &groups);
        }
        let members =
            Members::builder("us", net.clone()).members(names).placement(FourSlots { absent }).build().unwrap();
        let origin = Origin::echo();
        let group = group_of(&Groups::new(members), &origin).hot_admission(hot).build().unwrap();
        FourNodes { net, group, origin, loads_before: 0 }
    }

    /// Gets 200 keys and says who was asked.
    async fn run(&mut self) -> String {
        self.net.forget_asked();
        for key in 0..200 {
            let key = format!("key-{key}");
            assert_eq!(self.group.get(&key).await.unwrap(), key);
        }
        let local = self.origin.calls() - self.loads_before;
        self.loads_before = self.origin.calls();
        let [zero, one, two] = ["peer-0", "peer-1", "peer-2"].map(|peer| self.net.asked(peer));
        format!("local {local}, peers {zero} {one} {two}")
    }
}

#[tokio::test]
async fn keys_are_asked_of_their_owners() {
    assert_eq!(FourNodes::new(None, Never).run().await, "local 49, peers 51 49 51");
}

#[tokio::test]
async fn without_hot_copies_peers_are_asked_again() {
    let mut nodes = FourNodes::new(None, Never);
    nodes.run().await;
    assert_eq!(nodes.run().await, "local 0, peers 51 49 51");
}

#[tokio::test]
async fn with_hot_copies_nobody_is_asked_again() {
    let mut nodes = FourNodes::new(None, Always);
    nodes.run().await;
    assert_eq!(nodes.run().await, "local 0, peers 0 0 0");
}

#[tokio::test]
async fn keys_of_an_absent_peer_are_loaded_here() {
    assert_eq!(FourNodes::new(Some(0), Never).run().await, "local 100, peers 0 49 51");
}

#[tokio::test]
async fn keys_of_a_broken_peer_are_loaded_here() {
    let mut nodes = FourNodes::new(None, Never);
    nodes.net.cut("peer-0");
    assert_eq!(nodes.run().await, "local 100, peers 51 49 51");
}

// The case of two leaders in a row needs to stand between a look and a flight: it is a unit test of `core.rs`.
