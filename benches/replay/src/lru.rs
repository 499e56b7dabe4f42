//! Exact LRU.

use crate::{
    capacity::Capacity,
    order::Order,
    replay::CachePolicy,
    trace::{Request, Trace},
};

/// The exact least-recently-used order. What is larger than the capacity is not taken in.
pub struct Lru {
    order: Order,
    weights: Vec<u64>,
    used: u64,
    capacity: Capacity,
}

impl Lru {
    /// An empty cache for the keys of this trace.
    pub fn new(trace: &Trace, capacity: Capacity) -> Self {
        Lru { order: Order::new(trace.keys()), weights: vec![0; trace.keys()], used: 0, capacity }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Whether the key is there; it becomes the most recent.
    pub(crate) fn get(&mut self, key: u32) -> bool {
        let found = self.order.contains(key);
        if found {
            self.order.remove(key);
            self.order.push(key);
        }
        found
    }

    /// Takes in a key that is not there, over the capacity or not.
    pub(crate) fn add(&mut self, request: Request) {
        self.order.push(request.key);
        self.weights[request.key as usize] = request.weight;
        self.used += request.weight;
    }

    /// Takes out the least recent.
    pub(crate) fn pop(&mut self) -> bool {
        let oldest = self.order.pop_oldest();
        self.used -= oldest.map_or(0, |key| self.weights[key as usize]);
        oldest.is_some()
    }
}

impl CachePolicy for Lru {
    fn request(&mut self, request: Request) -> bool {
        if self.get(request.key) {
            return true;
        }
        if self.capacity.fits(request.weight) {
            self.add(request);
            while self.used > self.capacity.amount {
                self.pop();
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{capacity::Unit, replay::replay};

    fn hits(trace: &Trace, capacity: Capacity) -> u64 {
        replay(trace, capacity.unit, &mut Lru::new(trace, capacity), &mut |_| {}).hits
    }

    #[test]
    fn the_least_recent_goes_first() {
        // 3 sends 2 away, for 1 was asked for since.
        let trace = Trace::new("t", [1, 2, 1, 3, 1, 2]);
        assert_eq!(hits(&trace, Capacity::entries(2)), 2);
    }

    #[test]
    fn a_loop_one_longer_than_the_cache_never_hits() {
        let trace = Trace::new("t", (0..5).cycle().take(50));
        assert_eq!((hits(&trace, Capacity::entries(4)), hits(&trace, Capacity::entries(5))), (0, 45));
    }

    #[test]
    fn a_large_one_sends_several_away_and_an_oversize_one_none() {
        let trace = Trace::sized("t", [(1, 4), (2, 4), (3, 11), (1, 4), (2, 4), (4, 10), (1, 4)]);
        let counts = replay(&trace, Unit::Bytes, &mut Lru::new(&trace, Capacity::bytes(10)), &mut |_| {});
        assert_eq!((counts.hits, counts.bytes, counts.bytes_hit), (2, 41, 8));
    }
}
