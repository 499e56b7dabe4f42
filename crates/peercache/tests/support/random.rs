//! Random numbers from a seed that is printed.

use std::{
    collections::hash_map::RandomState,
    env,
    hash::{BuildHasher, Hasher},
};

/// A generator of pseudorandom numbers.
pub struct Random(u64);

impl Random {
    /// Starts from the seed in the variable `SEED`, or from a new one. It is printed, so that a
    /// failed test shows it.
    pub fn new() -> Self {
        let given = env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        println!("SEED={seed}");
        Random(seed)
    }

    /// The next number in `0..end`, by splitmix64 as Vigna published it.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}
