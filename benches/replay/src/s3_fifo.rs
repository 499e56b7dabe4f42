//! S3-FIFO.

use crate::{
    capacity::Capacity,
    order::Order,
    replay::CachePolicy,
    trace::{Request, Trace},
};

/// S3-FIFO as its paper has it (Yang, Zhang, Qiu, Yue, Vinayak: FIFO queues are all you need for
/// cache eviction, SOSP 2023).
///
/// It has a small queue of a tenth, a main queue, and a ghost queue of keys that left the small
/// one, which weighs as much as main.
pub struct S3Fifo {
    small: Queue,
    main: Queue,
    ghost: Queue,
    weights: Vec<u64>,
    /// Hits since the key came in or was passed over, up to [`MAX_FREQUENCY`].
    frequencies: Vec<u8>,
    small_max: u64,
    capacity: Capacity,
}

struct Queue {
    order: Order,
    used: u64,
}

const MAX_FREQUENCY: u8 = 3;

impl S3Fifo {
    /// An empty cache for the keys of this trace.
    pub fn new(trace: &Trace, capacity: Capacity) -> Self {
        let queue = || Queue { order: Order::new(trace.keys()), used: 0 };
        S3Fifo {
            small: queue(),
            main: queue(),
            ghost: queue(),
            weights: vec![0; trace.keys()],
            frequencies: vec![0; trace.keys()],
            small_max: (capacity.amount / 10).max(1),
            capacity,
        }
    }

    fn evict(&mut self) {
        if self.small.used >= self.small_max || self.main.order.len() == 0 {
            self.evict_small();
        } else {
            self.evict_main();
        }
    }

    /// Moves what was hit more than once on to main, and evicts the first that was not.
    fn evict_small(&mut self) {
        while let Some(key) = self.small.pop(&self.weights) {
            if self.frequencies[key as usize] > 1 {
                self.frequencies[key as usize] = 0;
                self.main.push(key, &self.weights);
                if self.main.used > self.capacity.amount - self.small_max {
                    self.evict_main();
                }
            } else {
                return self.haunt(key);
            }
        }
    }

    fn evict_main(&mut self) {
        while let Some(key) = self.main.pop(&self.weights) {
            let frequency = &mut self.frequencies[key as usize];
            if *frequency == 0 {
                return;
            }
            *frequency -= 1;
            self.main.push(key, &self.weights);
        }
    }

    fn haunt(&mut self, key: u32) {
        self.ghost.push(key, &self.weights);
        while self.ghost.used > self.capacity.amount - self.small_max {
            self.ghost.pop(&self.weights);
        }
    }
}

impl CachePolicy for S3Fifo {
    fn request(&mut self, request: Request) -> bool {
        let key = request.key as usize;
        if self.small.order.contains(request.key) || self.main.order.contains(request.key) {
            self.frequencies[key] = MAX_FREQUENCY.min(self.frequencies[key] + 1);
            return true;
        }
        if !self.capacity.fits(request.weight) {
            return false;
        }
        while self.small.used + self.main.used + request.weight > self.capacity.amount {
            self.evict();
        }
        let known = self.ghost.order.contains(request.key);
        if known {
            self.ghost.remove(request.key, &self.weights);
        }
        self.weights[key] = request.weight;
        self.frequencies[key] = 0;
        let queue = if known { &mut self.main } else { &mut self.small };
        queue.push(request.key, &self.weights);
        false
    }
}

impl Queue {
    fn push(&mut self, key: u32, weights: &[u64]) {
        self.order.push(key);
        self.used += weights[key as usize];
    }

    fn pop(&mut self, weights: &[u64]) -> Option<u32> {
        let key = self.order.pop_oldest()?;
        self.used -= weights[key as usize];
        Some(key)
    }

    fn remove(&mut self, key: u32, weights: &[u64]) {
        self.order.remove(key);
        self.used -= weights[key as usize];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{capacity::Unit, replay::replay};

    #[test]
    fn what_is_popular_survives_a_scan() {
        let popular = || (0..5).chain(0..5).chain(0..5);
        let trace = Trace::new("t", popular().chain(100..200).chain(0..5));
        let mut policy = S3Fifo::new(&trace, Capacity::entries(20));
        assert_eq!(replay(&trace, Unit::Entries, &mut policy, &mut |_| {}).hits, 15);
    }

    #[test]
    fn what_comes_back_from_the_ghosts_goes_to_main() {
        // 0 leaves the small queue unasked, comes back by way of the ghosts, and then outlives a
        // scan longer than the cache.
        let trace = Trace::new("t", [0].into_iter().chain(1..11).chain([0]).chain(20..40).chain([0]));
        let mut policy = S3Fifo::new(&trace, Capacity::entries(10));
        assert_eq!(replay(&trace, Unit::Entries, &mut policy, &mut |_| {}).hits, 1);
    }

    #[test]
    fn holds_no_more_than_it_may() {
        let trace = Trace::sized("t", (0..500).map(|number| (number % 37, (number * 7 % 90) as u32)));
        let mut policy = S3Fifo::new(&trace, Capacity::bytes(300));
        for position in 0..trace.len() {
            policy.request(trace.request(position, Unit::Bytes));
            assert!(policy.small.used + policy.main.used <= 300);
        }
    }
}
