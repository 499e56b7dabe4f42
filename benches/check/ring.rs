//! Who owns a key: what a lookup costs, how evenly keys are shared, and how many move when a name leaves.

use std::hint::black_box;

use peercache_consistenthash::{Ring, SLOTS, Table};

use crate::{
    Number,
    pairs::{Effort, Rounds, timed},
    support::workload::{Key, key},
};

/// Members of the largest cluster that is promised anything.
const NAMES_MAX: usize = 100;

/// Few enough that neither finding nor reading the next key costs more than the lookup.
const KEYS: usize = 1 << 14;

pub fn measure(effort: Effort) -> Vec<Number> {
    let mut numbers: Vec<Number> = [3, 10, NAMES_MAX].map(|names| lookup(effort, names)).into();
    let sizes = || (2..=NAMES_MAX).step_by(if effort.rounds > 1 { 7 } else { 49 }).chain([NAMES_MAX]);
    let worst = |of: fn(usize) -> f64| sizes().map(of).fold(0.0, f64::max);
    numbers.push(Number::new("ring-largest-share-over-mean", worst(largest_share)));
    numbers.push(Number::new("ring-moved-over-ideal", worst(moved)));
    numbers
}

fn lookup(effort: Effort, size: usize) -> Number {
    let names = names(size);
    let table = Table::new(&names).expect("names differ");
    let golang = Ring::golang(&names).expect("names differ");
    let keys: Vec<Key> = (0..KEYS).map(key).collect();
    let rounds = Rounds::measure(effort, |_| {
        [
            timed(1, effort.operations, |_| each(&keys, effort.operations, |key| table.owner_index(key))),
            timed(1, effort.operations, |_| each(&keys, effort.operations, |key| golang.owner_index(key))),
        ]
    });
    Number {
        name: format!("ring-lookup-ns-{size}"),
        ours: rounds.median([0], |[ns]| ns),
        rival: Some(rounds.median([1], |[ns]| ns)),
        ratio: None,
        undisturbed: Some(rounds.undisturbed([0, 1])),
    }
}

fn each(keys: &[Key], operations: u64, owner: impl Fn(&[u8]) -> Option<usize>) {
    for key in keys.iter().cycle().take(operations as usize) {
        black_box(owner(black_box(key)));
    }
}

fn largest_share(size: usize) -> f64 {
    let shares = Table::new(names(size)).expect("names differ").shares();
    shares.into_iter().fold(0.0, f64::max) * size as f64
}

/// Keys that change hands when the last name leaves, over what it had to give up at least: its share.
fn moved(size: usize) -> f64 {
    let names = names(size);
    let (before, after) =
        (Table::new(&names).expect("names differ"), Table::new(&names[..size - 1]).expect("names differ"));
    let keys = || (0..SLOTS).map(key);
    let moved = keys().filter(|key| before.owner(key) != after.owner(key)).count();
    moved as f64 / (SLOTS as f64 / size as f64)
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("http://10.0.0.{number}:8080")).collect()
}
