//! Several real groups that are peers of each other.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use peercache_groupcache::{
    BoxError, Clock, Connect, Group, Groups, Key, LoadError, Loaded, Loader, Member, Members, NativePlacement, Peer,
    PeerError, PeerReply, PeerRequest, Placement, Reply, Served, Source,
};
use tokio::runtime::Runtime;

use crate::{
    alone::{Blank, Charge, CurrentSize, keys, runtime},
    capacity::Capacity,
    replay::{Shared, SharedPolicy},
    trace::{Request, Trace},
};

/// Real groups at several nodes in one process, each as its builder gives it without options; what
/// one asks another is a function call.
///
/// Time passes with the requests, of which a given number are made in a second. It matters to
/// copies, which have a longest life, and to whatever measures how popular a key is.
pub struct Cluster {
    runtime: Runtime,
    groups: Vec<Group<Blank>>,
    net: Net,
    size: CurrentSize,
    keys: Vec<[u8; 8]>,
    pace: Pace,
}

/// The time that has to pass after each request.
struct Pace {
    each: Duration,
    due: Duration,
}

/// Length of a tick of a group's coarse clock; to go on by less is of no use.
const TICK: Duration = Duration::from_millis(10);

const GROUP: &str = "replay";

impl Cluster {
    /// Empty groups of this capacity each, at `nodes` nodes that get `requests_per_second`
    /// together.
    pub fn new(trace: &Trace, capacity: Capacity, nodes: usize, requests_per_second: u32) -> Self {
        let runtime = runtime();
        let charge = Charge::of_group(&runtime, trace, capacity);
        let (net, size) = (Net::default(), CurrentSize::default());
        let names = names(nodes);
        let group = |name: &String| {
            let members = Members::builder(name, net.clone()).members(names.clone()).build().expect("the list is good");
            let groups = Groups::with_clock(members, Clock::tokio());
            net.nodes().insert(name.clone(), groups.clone());
            let loader = Origin { net: net.clone(), size: size.clone() };
            charge.set(groups.group(GROUP, loader), trace, capacity).build().expect("the settings are good")
        };
        let groups = names.iter().map(group).collect();
        let pace = Pace { each: Duration::from_secs(1) / requests_per_second, due: Duration::ZERO };
        Cluster { runtime, groups, net, size, keys: keys(trace), pace }
    }
}

/// The node that owns each key, as the groups of a cluster of this size have it.
pub fn owners(trace: &Trace, nodes: usize) -> Vec<u16> {
    let ring = NativePlacement.ring(&names(nodes));
    keys(trace).iter().map(|key| u16::try_from(ring.owner(key)).expect("clusters are small")).collect()
}

fn names(nodes: usize) -> Vec<String> {
    (0..nodes).map(|node| format!("node-{node}")).collect()
}

impl SharedPolicy for Cluster {
    fn request(&mut self, node: usize, request: Request) -> Shared {
        self.size.set(request);
        let before = self.net.counts();
        let get = pin!(self.groups[node].get(&self.keys[request.key as usize]).detailed());
        let answer = self.runtime.block_on(get).expect("the origin always has a value");
        let after = self.net.counts();
        self.pace.go_on(&self.runtime);
        Shared {
            hit: matches!(answer.source, Source::Main | Source::Hot | Source::Stale),
            peer_fetches: after.0 - before.0,
            origin_loads: after.1 - before.1,
        }
    }
}

impl Pace {
    fn go_on(&mut self, runtime: &Runtime) {
        self.due += self.each;
        if self.due >= TICK {
            runtime.block_on(tokio::time::advance(std::mem::take(&mut self.due)));
        }
    }
}

/// Loads with whatever size is asked for, and counts.
struct Origin {
    net: Net,
    size: CurrentSize,
}

impl Loader for Origin {
    type Value = Blank;

    async fn load(&self, key: Key) -> Result<Loaded<Blank>, LoadError> {
        self.net.0.loads.fetch_add(1, Relaxed);
        self.size.load(key).await
    }
}

/// The nodes by name, and what happened between them and at the origin.
#[derive(Clone, Default)]
struct Net(Arc<NetShared>);

#[derive(Default)]
struct NetShared {
    nodes: Mutex<HashMap<String, Groups>>,
    fetches: AtomicU64,
    loads: AtomicU64,
}

impl Net {
    fn nodes(&self) -> MutexGuard<'_, HashMap<String, Groups>> {
        self.0.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches and loads so far.
    fn counts(&self) -> (u64, u64) {
        (self.0.fetches.load(Relaxed), self.0.loads.load(Relaxed))
    }
}

impl Connect for Net {
    fn connect(&self, member: &Member) -> Result<Arc<dyn Peer>, BoxError> {
        Ok(Arc::new(Link { net: self.clone(), to: member.name.clone() }))
    }
}

struct Link {
    net: Net,
    to: String,
}

impl Peer for Link {
    fn get(&self, request: PeerRequest, reply: Reply) {
        self.net.0.fetches.fetch_add(1, Relaxed);
        let groups = self.net.nodes()[&self.to].clone();
        let group = groups.get(&request.group).expect("every node has the group");
        let reply_with = |answer: Result<PeerReply, _>| reply.send(answer.map_err(PeerError::Answered));
        match group.answer(request.key.as_bytes(), request.terms) {
            Served::Ready(answer) => reply_with(answer),
            loading @ Served::Loading(_) => drop(tokio::spawn(async move { reply_with(loading.finish().await) })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{capacity::Unit, golang::Golang, replay::replay_shared, rng::Rng};

    const NODES: usize = 3;

    fn trace() -> Trace {
        let mut rng = Rng::new(5);
        Trace::new("t", (0..3_000).map(|_| rng.below(30) * rng.below(30)))
    }

    #[test]
    fn each_request_is_a_hit_a_fetch_or_a_load_of_its_own() {
        let trace = trace();
        let mut cluster = Cluster::new(&trace, Capacity::entries(40), NODES, 1_000);
        let counts = replay_shared(&trace, Unit::Entries, NODES, 1, &mut cluster, &mut |_| {});
        assert!(counts.hits > 0 && counts.peer_fetches > 0);
        assert!(counts.hits + counts.peer_fetches <= 3_000);
        assert!(counts.hits + counts.peer_fetches + counts.origin_loads >= 3_000);
    }

    #[test]
    fn with_room_for_all_each_key_is_loaded_once() {
        let trace = trace();
        let mut cluster = Cluster::new(&trace, Capacity::entries(10_000), NODES, 1_000);
        let counts = replay_shared(&trace, Unit::Entries, NODES, 1, &mut cluster, &mut |_| {});
        assert_eq!(counts.origin_loads, trace.keys() as u64);
    }

    #[test]
    fn owners_are_those_that_the_groups_ask() {
        let trace = trace();
        let owners = owners(&trace, NODES);
        let mut cluster = Cluster::new(&trace, Capacity::entries(10_000), NODES, 1_000);
        for position in 0..500 {
            let request = trace.request(position, Unit::Entries);
            let owner = usize::from(owners[request.key as usize]);
            assert_eq!(cluster.request(owner, request).peer_fetches, 0, "nobody asks itself");
        }
    }

    #[test]
    fn copies_end_when_the_time_has_passed() {
        // One key, at the node that does not own it: by golang's rule its copy stays for ever, in a
        // group it does not.
        let trace = Trace::new("t", [7; 2_000]);
        let owners = owners(&trace, 2);
        let other = 1 - usize::from(owners[0]);
        let fetches = |policy: &mut dyn SharedPolicy| {
            let request = trace.request(0, Unit::Entries);
            // Minutes, at a request in ten seconds.
            (0..2_000).map(|_| policy.request(other, request).peer_fetches).sum::<u64>()
        };
        let slow = fetches(&mut Paced(Cluster::new(&trace, Capacity::entries(100), 2, 1), 10));
        let golang = fetches(&mut Golang::new(&trace, Capacity::entries(100), 2, owners, 1));
        assert!(slow > golang + 100, "{slow} and {golang}");
    }

    /// Time goes on this many times slower.
    struct Paced(Cluster, u32);

    impl SharedPolicy for Paced {
        fn request(&mut self, node: usize, request: Request) -> Shared {
            (1..self.1).for_each(|_| self.0.pace.go_on(&self.0.runtime));
            self.0.request(node, request)
        }
    }
}
