//! What all caches are given: the same keys, values, hasher, weights, and the same order of questions.

use std::{
    sync::Barrier,
    time::{Duration, Instant},
};

use ahash::RandomState;
use bytes::Bytes;

pub type Key = [u8; 16];

pub const VALUE_BYTES: usize = 100;
pub const ENTRY_BYTES: usize = size_of::<Key>() + VALUE_BYTES;

pub fn key(number: usize) -> Key {
    let mut key = *b"role:...........";
    key[8..].copy_from_slice(&(number as u64).to_be_bytes());
    key
}

/// In a block of its own.
pub fn value() -> Bytes {
    Bytes::copy_from_slice(&[7; VALUE_BYTES])
}

/// Nobody charges an overhead where it can be chosen, so a budget holds the same number of entries everywhere.
pub fn weigh(key: &Key, value: &Bytes) -> usize {
    key.len() + value.len()
}

pub fn hasher() -> RandomState {
    RandomState::with_seeds(1, 2, 3, 4)
}

/// How much there is of everything.
pub struct Size {
    pub keys: usize,
    pub asked: usize,
}

impl Size {
    /// `--test` only wants to see it run.
    pub fn from_args() -> Self {
        if std::env::args().any(|argument| argument == "--test") {
            Size { keys: 1_000, asked: 10_000 }
        } else {
            Size { keys: 100_000, asked: 1 << 20 }
        }
    }
}

/// The popularity of the key of some rank, counted from 1.
pub type Law = fn(usize) -> f64;

pub const ZIPF: Law = |rank| 1.0 / rank as f64;

/// Keys in the order in which they are asked for.
pub fn asked(size: &Size, law: Law) -> Vec<Key> {
    let mut sum = 0.0;
    let mut up_to = |rank| {
        sum += law(rank);
        sum
    };
    let ranks: Vec<f64> = (1..=size.keys).map(&mut up_to).collect();
    let mut state = 3_u64;
    let mut pick = || {
        let uniform = split_mix(&mut state) as f64 / u64::MAX as f64 * sum;
        ranks.partition_point(|below| *below < uniform).min(size.keys - 1)
    };
    (0..size.asked).map(|_| key(pick())).collect()
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// The time in which each of the threads does all iterations, so that with perfect scaling it is the same for any number of
/// them.
pub fn on_threads(threads: usize, iterations: u64, asked: &[Key], work: impl Fn(&Key) + Sync) -> Duration {
    let start = Barrier::new(threads);
    let run = |thread: usize| {
        // Each begins elsewhere, or they would walk through the same shards side by side.
        let keys = asked.iter().cycle().skip(thread * asked.len() / threads);
        start.wait();
        let started = Instant::now();
        keys.take(iterations as usize).for_each(&work);
        started.elapsed()
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        let mine = run(0);
        others.into_iter().map(|other| other.join().expect("a reader does not panic")).fold(mine, Duration::max)
    })
}
