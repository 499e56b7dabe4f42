//! Ownership as everybody measures it: criterion, and `check` side by side.

use std::hint::black_box;

use peercache_consistenthash::Table;

use super::workload::Key;

/// Names of members.
pub fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("http://10.0.0.{number}:8080")).collect()
}

/// Asks who owns each of the keys.
pub fn lookups<'a, O>(keys: impl Iterator<Item = &'a Key>, owner: impl Fn(&Key) -> O) {
    for key in keys {
        black_box(owner(black_box(key)));
    }
}

/// The largest share that one of the names has of a table, over the mean.
pub fn largest_share_over_mean(names: &[String]) -> f64 {
    let shares = Table::new(names).expect("names differ").shares();
    shares.into_iter().fold(0.0, f64::max) * names.len() as f64
}

/// Keys that change hands when the last of the names leaves, over what it has to give up at least:
/// its share.
pub fn moved_over_ideal<O: PartialEq>(
    keys: impl Iterator<Item = Key>,
    names: usize,
    owner: &[impl Fn(&Key) -> O; 2],
) -> f64 {
    let (mut moved, mut all) = (0_u64, 0_u64);
    for key in keys {
        moved += u64::from(owner[0](&key) != owner[1](&key));
        all += 1;
    }
    moved as f64 / (all as f64 / names as f64)
}
