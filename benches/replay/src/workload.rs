//! Traces that are made up.

use std::fmt;

use crate::{rng::Rng, trace::Trace};

/// Requests that are made up, each to show one thing about a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Popularity by a Zipf law with exponent 0.9, which never changes.
    Zipf,
    /// The same, and time and again a run through keys that are asked for once and never again.
    Scan,
    /// All keys round and round, in the same order: the worst case of LRU.
    Loop,
    /// The Zipf law again, but who is popular changes slowly and thoroughly.
    Shifting,
}

/// Keys that are asked for more than once.
const KEYS: u64 = 20_000;
const REQUESTS: u64 = 400_000;
const EXPONENT: f64 = 0.9;
/// Keys of a scan.
const SCAN: u64 = 4_000;
/// Requests after which the next scan begins, so that a fifth of all are of scans.
const SCAN_EACH: u64 = 20_000;
/// Requests after which the next key becomes the most popular, so that by the end half of the
/// keys have been.
const SHIFT_EACH: u64 = REQUESTS / (KEYS / 2);

impl Workload {
    /// All there are.
    pub const ALL: [Workload; 4] = [Workload::Zipf, Workload::Scan, Workload::Loop, Workload::Shifting];

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Zipf => "zipf",
            Workload::Scan => "scan",
            Workload::Loop => "loop",
            Workload::Shifting => "shifting",
        }
    }

    /// The requests, which follow from the seed alone.
    pub fn trace(self, seed: u64) -> Trace {
        self.trace_of(REQUESTS, seed)
    }

    /// The first of them, as many as are wanted.
    pub fn trace_of(self, requests: u64, seed: u64) -> Trace {
        let mut rng = Rng::new(seed);
        let zipf = Zipf::new(KEYS, EXPONENT);
        let keys = (0..requests).map(|position| match self {
            // Keys of scans are beyond all others, and each is there once.
            Workload::Scan if position % SCAN_EACH < SCAN => KEYS + position,
            Workload::Zipf | Workload::Scan => zipf.rank(&mut rng),
            // Short enough to come round often.
            Workload::Loop => position % (KEYS / 4),
            Workload::Shifting => (zipf.rank(&mut rng) + position / SHIFT_EACH) % KEYS,
        });
        Trace::new(self.name(), keys)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Ranks from 0, of which the nth is asked for in proportion to 1 / (n + 1)^exponent.
struct Zipf {
    sums: Vec<f64>,
}

impl Zipf {
    fn new(ranks: u64, exponent: f64) -> Self {
        let sums = (1..=ranks).scan(0.0, |sum, rank| {
            *sum += (rank as f64).powf(-exponent);
            Some(*sum)
        });
        Zipf { sums: sums.collect() }
    }

    fn rank(&self, rng: &mut Rng) -> u64 {
        let picked = rng.unit() * self.sums.last().expect("there are ranks");
        self.sums.partition_point(|sum| *sum <= picked) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        capacity::{Capacity, Unit},
        lru::Lru,
        replay::replay,
    };

    fn lru(workload: Workload, entries: u64) -> f64 {
        let trace = workload.trace(1);
        replay(&trace, Unit::Entries, &mut Lru::new(&trace, Capacity::entries(entries)), &mut |_| {}).hit_ratio()
    }

    #[test]
    fn a_loop_gives_lru_all_or_nothing() {
        assert_eq!(lru(Workload::Loop, KEYS / 4 - 1), 0.0);
        assert!(lru(Workload::Loop, KEYS / 4) > 0.98);
    }

    #[test]
    fn scans_and_shifts_cost_lru_hits() {
        let zipf = lru(Workload::Zipf, 1_000);
        assert!(lru(Workload::Scan, 1_000) < zipf - 0.1 && lru(Workload::Shifting, 1_000) < zipf);
    }

    #[test]
    fn the_same_seed_makes_the_same_requests() {
        let keys = |seed| {
            let trace = Workload::Zipf.trace_of(100, seed);
            (0..100).map(|position| trace.key(trace.request(position, Unit::Entries).key)).collect::<Vec<_>>()
        };
        assert!(keys(1) == keys(1) && keys(1) != keys(2));
    }
}
