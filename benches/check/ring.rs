//! Ownership of keys: what a lookup costs, how evenly keys are shared, and how many move when a
//! name leaves.

use peercache_consistenthash::{Ring, SLOTS, Table};

use crate::{
    number::Number,
    pairs::{Effort, Rounds, timed},
    support::{
        ring::{largest_share_over_mean, lookups, moved_over_ideal, names},
        workload::{Key, key},
    },
};

/// Members of the largest cluster that is promised anything.
const MAX_NAMES: usize = 100;

/// Few enough that neither finding nor reading the next key costs more than the lookup.
const KEYS: usize = 1 << 14;

pub fn measure(effort: Effort) -> Vec<Number> {
    let mut numbers: Vec<Number> = [3, 10, MAX_NAMES].map(|names| lookup(effort, names)).into();
    let sizes = || (2..=MAX_NAMES).step_by(if effort.rounds > 1 { 7 } else { 49 }).chain([MAX_NAMES]);
    let worst = |of: fn(usize) -> f64| sizes().map(of).fold(0.0, f64::max);
    numbers.push(Number::new("ring-largest-share-over-mean", worst(|size| largest_share_over_mean(&names(size)))));
    numbers.push(Number::new("ring-moved-over-ideal", worst(moved)));
    numbers
}

fn lookup(effort: Effort, size: usize) -> Number {
    let names = names(size);
    let table = Table::new(&names).expect("names differ");
    let golang = Ring::golang(&names).expect("names differ");
    let keys: Vec<Key> = (0..KEYS).map(key).collect();
    let asked = || keys.iter().cycle().take(effort.operations as usize);
    let rounds = Rounds::measure(effort, |_| {
        [
            timed(1, effort.operations, |_| lookups(asked(), |key| table.owner_index(key))),
            timed(1, effort.operations, |_| lookups(asked(), |key| golang.owner_index(key))),
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

fn moved(size: usize) -> f64 {
    let names = names(size);
    let [before, after] = [&names[..], &names[..size - 1]].map(|names| Table::new(names).expect("names differ"));
    let owner = |table: &Table, key: &Key| table.owner(key).map(str::to_owned);
    moved_over_ideal((0..SLOTS).map(key), size, &[&before, &after].map(|table| move |key: &Key| owner(table, key)))
}
