//! The rule of golang/groupcache at several nodes.

use crate::{
    capacity::Capacity,
    lru::Lru,
    replay::{CachePolicy, Shared, SharedPolicy},
    rng::Rng,
    trace::{Request, Trace},
};

/// golang/groupcache's rule at several nodes: each has a main cache for the keys that it owns and a
/// hot one for copies of others', both exact LRU. What is fetched is copied one time in ten, at
/// random. While the two hold too much, hot gives way if it holds more than an eighth of what main
/// holds, else main does. A value larger than both is taken in, and sends all others and itself
/// away.
pub struct Golang {
    nodes: Vec<Node>,
    /// Owners by key.
    owners: Vec<u16>,
    rng: Rng,
    one_in: Option<u64>,
}

struct Node {
    main: Lru,
    hot: Lru,
    capacity: Capacity,
}

/// The share of fetched keys that golang/groupcache mirrors.
const ONE_IN: u64 = 10;

impl Golang {
    /// Empty nodes of this capacity each. `owners` names the node of each key; the dice follow from
    /// the seed.
    pub fn new(trace: &Trace, capacity: Capacity, nodes: usize, owners: Vec<u16>, seed: u64) -> Self {
        let node = |_| Node { main: Lru::new(trace, capacity), hot: Lru::new(trace, capacity), capacity };
        Golang { nodes: (0..nodes).map(node).collect(), owners, rng: Rng::new(seed), one_in: Some(ONE_IN) }
    }

    /// The same without copies: what sharding alone gives, with exact LRU at each node.
    pub fn without_copies(trace: &Trace, capacity: Capacity, nodes: usize, owners: Vec<u16>) -> Self {
        Golang { one_in: None, ..Golang::new(trace, capacity, nodes, owners, 0) }
    }
}

impl SharedPolicy for Golang {
    fn request(&mut self, node: usize, request: Request) -> Shared {
        let owner = usize::from(self.owners[request.key as usize]);
        if self.nodes[node].get(request.key) {
            return Shared { hit: true, peer_fetches: 0, origin_loads: 0 };
        }
        if owner == node {
            self.nodes[node].add_main(request);
            return Shared { hit: false, peer_fetches: 0, origin_loads: 1 };
        }
        let loaded = !self.nodes[owner].get(request.key);
        if loaded {
            self.nodes[owner].add_main(request);
        }
        if self.one_in.is_some_and(|one_in| self.rng.below(one_in) == 0) {
            self.nodes[node].add_hot(request);
        }
        Shared { hit: false, peer_fetches: 1, origin_loads: u64::from(loaded) }
    }
}

/// A node alone, which owns all keys.
impl CachePolicy for Golang {
    fn request(&mut self, request: Request) -> bool {
        SharedPolicy::request(self, 0, request).hit
    }
}

impl Node {
    fn get(&mut self, key: u32) -> bool {
        self.main.get(key) || self.hot.get(key)
    }

    fn add_main(&mut self, request: Request) {
        self.main.add(request);
        self.make_room();
    }

    fn add_hot(&mut self, request: Request) {
        self.hot.add(request);
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.main.used() + self.hot.used() > self.capacity.amount {
            let victim = if self.hot.used() > self.main.used() / 8 { &mut self.hot } else { &mut self.main };
            victim.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{capacity::Unit, replay::replay_shared};

    /// All keys belong to node 0.
    fn of_node_0(trace: &Trace, entries: u64) -> Golang {
        Golang::new(trace, Capacity::entries(entries), 2, vec![0; trace.keys()], 1)
    }

    fn ask(golang: &mut Golang, trace: &Trace, node: usize, position: usize) -> (bool, u64, u64) {
        let Shared { hit, peer_fetches, origin_loads } =
            SharedPolicy::request(golang, node, trace.request(position, Unit::Entries));
        (hit, peer_fetches, origin_loads)
    }

    #[test]
    fn the_owner_loads_and_keeps() {
        let trace = Trace::new("t", [1, 1]);
        let mut golang = of_node_0(&trace, 4);
        assert_eq!(ask(&mut golang, &trace, 0, 0), (false, 0, 1));
        assert_eq!(ask(&mut golang, &trace, 0, 1), (true, 0, 0));
    }

    #[test]
    fn another_node_asks_the_owner_until_the_dice_give_it_a_copy() {
        let trace = Trace::new("t", [1]);
        let mut golang = of_node_0(&trace, 4);
        assert_eq!(ask(&mut golang, &trace, 1, 0), (false, 1, 1));
        let fetches = (0..1_000).take_while(|_| ask(&mut golang, &trace, 1, 0) == (false, 1, 0)).count();
        assert!(fetches < 1_000, "one fetch in ten is copied");
        assert_eq!(ask(&mut golang, &trace, 1, 0), (true, 0, 0));
    }

    #[test]
    fn one_fetch_in_ten_is_copied() {
        // Every key once, at the node that owns none of them, with room for all: what hot holds is
        // what was admitted.
        let trace = Trace::new("t", 0..10_000);
        let mut golang = of_node_0(&trace, 100_000);
        for position in 0..10_000 {
            ask(&mut golang, &trace, 1, position);
        }
        // Five standard deviations of 30 either way.
        assert!((850..=1_150).contains(&golang.nodes[1].hot.used()), "{}", golang.nodes[1].hot.used());
    }

    #[test]
    fn hot_gives_way_above_an_eighth_of_main() {
        let trace = Trace::new("t", 0..40);
        let mut node = Node {
            main: Lru::new(&trace, Capacity::entries(18)),
            hot: Lru::new(&trace, Capacity::entries(18)),
            capacity: Capacity::entries(18),
        };
        let request = |position| trace.request(position, Unit::Entries);
        (0..10).for_each(|position| node.add_hot(request(position)));
        (10..30).for_each(|position| node.add_main(request(position)));
        assert_eq!((node.main.used(), node.hot.used()), (16, 2));
    }

    #[test]
    fn without_copies_every_request_elsewhere_is_a_fetch() {
        let trace = Trace::new("t", [1; 100]);
        let mut golang = Golang::without_copies(&trace, Capacity::entries(4), 2, vec![0]);
        let shared: Vec<_> = (0..100).map(|position| ask(&mut golang, &trace, 1, position)).collect();
        assert!(shared[0] == (false, 1, 1) && shared[1..].iter().all(|shared| *shared == (false, 1, 0)));
    }

    #[test]
    fn each_request_is_a_hit_a_fetch_or_a_load_of_its_own() {
        let mut rng = Rng::new(3);
        let trace = Trace::new("t", (0..2_000).map(|_| rng.below(20) * rng.below(20)));
        let owners = (0..trace.keys()).map(|key| (key % 3) as u16).collect();
        let mut golang = Golang::new(&trace, Capacity::entries(20), 3, owners, 1);
        let counts = replay_shared(&trace, Unit::Entries, 3, 1, &mut golang, &mut |_| {});
        assert!(counts.hits + counts.peer_fetches <= 2_000 && counts.origin_loads >= trace.keys() as u64);
        assert!(counts.hits + counts.peer_fetches + counts.origin_loads >= 2_000);
    }
}
