//! The admission of fetched values as hot copies.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::key::Key;

/// Decides which fetched values are mirrored: kept as hot copies at a node that does not own them.
///
/// A copy saves fetches while its key is popular and wastes budget when it is not. Use decides
/// which copies stay, as with the entries that the node owns.
pub trait HotAdmission: Send + Sync + 'static {
    /// Whether to keep this value, just fetched from its owner. Called once for each fetch.
    fn admit(&self, copy: &HotCandidate<'_>) -> bool;
}

/// A fetched value that may be mirrored.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct HotCandidate<'a> {
    /// Its key.
    pub key: &'a Key,
    /// The bytes that the copy would be charged.
    pub weight: usize,
    /// The rate at which peers ask the owner for the key, per second over about the last minute, if
    /// the owner says so.
    pub minute_qps: Option<f64>,
}

/// Mirrors one fetch in `n` at random, as golang/groupcache does: a key is admitted in proportion
/// to how often it is asked for.
pub struct OneIn {
    n: u64,
    /// The state of a Weyl sequence, which visits every number once before it repeats.
    state: AtomicU64,
}

/// Mirrors every fetched value, which is the default. A copy enters the window of the hot copies
/// and is evicted soon, unless it is asked for again there or its owner says that it is in demand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Always;

/// Mirrors no fetched value: for a group whose values must come from their owners, or that has no
/// memory to spare for copies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Never;

impl OneIn {
    /// Mirrors one fetch in `n`: with 0 as [`Never`], with 1 as [`Always`].
    pub fn new(n: u32) -> Self {
        OneIn { n: n.into(), state: AtomicU64::new(RandomState::new().hash_one(n)) }
    }
}

impl HotAdmission for OneIn {
    fn admit(&self, _: &HotCandidate<'_>) -> bool {
        /// 2^64 divided by the golden ratio, as SplitMix64 steps (Steele, Lea and Flood, 2014).
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let step = self.state.fetch_add(STEP, Relaxed);
        self.n != 0 && mix(step).is_multiple_of(self.n)
    }
}

impl HotAdmission for Always {
    fn admit(&self, _: &HotCandidate<'_>) -> bool {
        true
    }
}

impl HotAdmission for Never {
    fn admit(&self, _: &HotCandidate<'_>) -> bool {
        false
    }
}

impl fmt::Debug for OneIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneIn").field("n", &self.n).finish_non_exhaustive()
    }
}

/// SplitMix64's finisher.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(admission: &OneIn) -> usize {
        let copy = HotCandidate { key: &Key::from("k"), weight: 100, minute_qps: None };
        (0..10_000).filter(|_| admission.admit(&copy)).count()
    }

    #[test]
    fn one_in_ten_admits_about_a_tenth() {
        // Five standard deviations of 30 either way.
        let admitted = admitted(&OneIn { n: 10, state: AtomicU64::new(0) });
        assert!((850..=1_150).contains(&admitted), "{admitted} of 10,000");
    }

    #[test]
    fn one_in_none_is_never_and_one_in_one_is_always() {
        assert_eq!((admitted(&OneIn::new(0)), admitted(&OneIn::new(1))), (0, 10_000));
    }
}
