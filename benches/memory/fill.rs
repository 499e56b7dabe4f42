//! One cache, filled and measured.

use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;

use crate::{
    args::{SystemName, ValueName},
    report::Gained,
    support::workload::{Key, key},
    systems::{Foyer, LockedLru, Moka, Ours, QuickCache, System},
    values::{Made, Person},
};

/// The number of times that the budget is filled.
const ROUNDS: usize = 2;

pub fn measured(system: SystemName, value: ValueName, budget_mib: u64) -> Result<Gained> {
    match value {
        ValueName::Hundred => of_values::<Bytes>(system, value, budget_mib, 100),
        ValueName::Thousand => of_values::<Bytes>(system, value, budget_mib, 1_000),
        ValueName::TenThousand => of_values::<Bytes>(system, value, budget_mib, 10_000),
        ValueName::Typed => of_values::<Arc<Person>>(system, value, budget_mib, 0),
    }
}

fn of_values<V: Made>(system: SystemName, value: ValueName, budget_mib: u64, size: usize) -> Result<Gained> {
    let budget = usize::try_from(budget_mib << 20)?;
    let filled = match system {
        SystemName::Ours => filled::<V, Ours<V>>(budget, size),
        SystemName::Moka => filled::<V, Moka<V>>(budget, size),
        SystemName::QuickCache => filled::<V, QuickCache<V>>(budget, size),
        SystemName::Foyer => filled::<V, Foyer<V>>(budget, size),
        SystemName::Lru => filled::<V, LockedLru<V>>(budget, size),
    }?;
    let (gained, entries, entry_bytes) = filled;
    Ok(Gained { system, value, budget: budget as u64, gained, entries, payload: entries * entry_bytes })
}

/// Resident bytes gained, entries held, and what key and value of one weigh in the mean.
fn filled<V: Made, S: System<V>>(budget: usize, size: usize) -> Result<(u64, u64, u64)> {
    let entry_bytes = mean_weight::<V>(size);
    let entries = budget / entry_bytes;
    warm_up::<V, S>(size);
    let before = resident()?;
    let mut system = S::new(budget, entries, size);
    let mut read = 0;
    for number in 0..ROUNDS * entries {
        let key: Key = key(number);
        system.insert(key, number);
        read += usize::from(system.read(&key));
    }
    system.settle();
    let gained = resident()?.saturating_sub(before);
    // One that keeps little of what comes in would look thrifty.
    anyhow::ensure!(
        read > entries / 10,
        "of {} entries only {read} could be read after they came in",
        ROUNDS * entries
    );
    let held = system.len() as u64;
    // Alive until it has been measured.
    drop(system);
    Ok((gained, held, entry_bytes as u64))
}

/// Has the program's own pages read in, which are no memory of a cache's: a few entries, come and
/// gone.
fn warm_up<V: Made, S: System<V>>(size: usize) {
    const ENTRIES: usize = 64;
    let mut system = S::new(ENTRIES * mean_weight::<V>(size), ENTRIES, size);
    for number in 0..2 * ENTRIES {
        system.insert(key(number), number);
        system.read(&key(number));
    }
    system.settle();
}

fn mean_weight<V: Made>(size: usize) -> usize {
    const SAMPLE: usize = 100;
    let weight = |number| size_of::<Key>() + V::made(size, number).weighed();
    (0..SAMPLE).map(weight).sum::<usize>() / SAMPLE
}

/// Reads the resident memory of this process, in bytes.
#[cfg(target_os = "linux")]
fn resident() -> Result<u64> {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    let kib = status.context("resident memory is read from /proc")?.vmrss.context("/proc says no VmRSS")?;
    Ok(kib << 10)
}

#[cfg(not(target_os = "linux"))]
fn resident() -> Result<u64> {
    anyhow::bail!("resident memory is read from /proc, which this system does not have")
}
