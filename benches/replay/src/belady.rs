//! Belady's optimum, the yardstick.

use std::collections::BinaryHeap;

use crate::{
    capacity::{Capacity, Unit},
    replay::CachePolicy,
    trace::{Request, Trace},
};

/// Belady's optimum: what is asked for again latest goes first, or is not taken in at all (Belady:
/// A study of replacement algorithms for a virtual-storage computer, 1966).
///
/// With entries that are all alike no policy hits more often. With sizes that is not so: the true
/// optimum is NP-hard, and this is the usual yardstick in its place; a policy that prefers small
/// entries can hit more often, and none has been seen to hit more bytes.
pub struct Belady {
    /// The next request for the same key, by the position of a request; [`NEVER`] if there is none.
    next: Vec<u32>,
    /// The keys that are held, by where they are asked for next; and entries of the past, which are
    /// known by no longer being right.
    by_next: BinaryHeap<(u32, u32)>,
    /// The next request for each key that is held.
    held: Vec<Option<u32>>,
    weights: Vec<u64>,
    used: u64,
    capacity: Capacity,
}

const NEVER: u32 = u32::MAX;

impl Belady {
    /// A cache that knows the future of this trace.
    pub fn new(trace: &Trace, capacity: Capacity) -> Self {
        let mut seen = vec![NEVER; trace.keys()];
        let mut next = vec![NEVER; trace.len()];
        for position in (0..trace.len()).rev() {
            let key = trace.request(position, Unit::Entries).key as usize;
            next[position] = std::mem::replace(&mut seen[key], position as u32);
        }
        Belady {
            next,
            by_next: BinaryHeap::new(),
            held: vec![None; trace.keys()],
            weights: vec![0; trace.keys()],
            used: 0,
            capacity,
        }
    }

    fn evict_latest(&mut self) {
        while let Some((next, key)) = self.by_next.pop() {
            if self.held[key as usize] == Some(next) {
                self.held[key as usize] = None;
                self.used -= self.weights[key as usize];
                return;
            }
        }
    }
}

impl CachePolicy for Belady {
    fn request(&mut self, request: Request) -> bool {
        let key = request.key as usize;
        let next = self.next[request.position];
        let hit = self.held[key].is_some();
        if !hit && (!self.capacity.fits(request.weight) || next == NEVER) {
            return false;
        }
        if !hit {
            self.weights[key] = request.weight;
            self.used += request.weight;
        }
        self.held[key] = Some(next);
        self.by_next.push((next, request.key));
        while self.used > self.capacity.amount {
            self.evict_latest();
        }
        hit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lru::Lru, replay::replay, rng::Rng};

    fn hits(trace: &Trace, entries: u64) -> u64 {
        replay(trace, Unit::Entries, &mut Belady::new(trace, Capacity::entries(entries)), &mut |_| {}).hits
    }

    #[test]
    fn keeps_what_is_asked_for_soonest() {
        // Worked out by hand: with room for two, 1 and 2 stay while 3 and 4 pass by.
        assert_eq!(hits(&Trace::new("t", [1, 2, 3, 1, 2, 4, 1, 2]), 2), 4);
    }

    #[test]
    fn a_loop_hits_all_but_what_does_not_fit() {
        // Four of five stay for ever.
        assert_eq!(hits(&Trace::new("t", (0..5).cycle().take(50)), 4), 4 * 9);
    }

    /// The best that any choices can do, found by trying all of them.
    fn best(keys: &[u64], held: &mut Vec<u64>, room: usize) -> u64 {
        let Some((key, rest)) = keys.split_first() else { return 0 };
        if held.contains(key) {
            return 1 + best(rest, held, room);
        }
        let mut most = best(rest, held, room);
        if held.len() < room {
            held.push(*key);
            most = most.max(best(rest, held, room));
            held.pop();
        } else {
            for victim in 0..room {
                let evicted = std::mem::replace(&mut held[victim], *key);
                most = most.max(best(rest, held, room));
                held[victim] = evicted;
            }
        }
        most
    }

    #[test]
    fn no_choice_is_better() {
        let mut rng = Rng::new(1);
        for _ in 0..50 {
            let keys: Vec<u64> = (0..11).map(|_| rng.below(5)).collect();
            let trace = Trace::new("t", keys.iter().copied());
            assert_eq!(hits(&trace, 2), best(&keys, &mut Vec::new(), 2), "{keys:?}");
        }
    }

    #[test]
    fn is_never_behind_lru() {
        let mut rng = Rng::new(2);
        let trace = Trace::new("t", (0..5_000).map(|_| rng.below(30) * rng.below(30)));
        for entries in [1, 10, 100] {
            let lru = replay(&trace, Unit::Entries, &mut Lru::new(&trace, Capacity::entries(entries)), &mut |_| {});
            assert!(hits(&trace, entries) >= lru.hits);
        }
    }
}
