//! Resident memory stays near the charge of the entries.
//!
//! The test is alone in its binary, so that no other test's memory is measured. It runs with
//! glibc's allocator, which the overhead was read off.

#![cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]

use std::{fs, mem::ManuallyDrop};

use peercache_lru::{Cache, HeapBytes};

const BUDGET: usize = 16 << 20;

/// The number of times that the budget is filled: eviction leaves marks in the table, which grows
/// once more for it.
const ROUNDS: usize = 4;

#[test]
fn resident_memory_stays_near_the_charge() {
    let kinds = [
        measured("16 + 100 bytes", |number| (format!("{number:016}"), vec![7_u8; 100])),
        measured("8 + 10 bytes", |number| (format!("{number:08}"), vec![7_u8; 10])),
        measured("16 + 3,000 bytes", |number| (format!("{number:016}"), vec![7_u8; 3_000])),
        measured("u64 + u64", |number| (number, number)),
    ];
    for (name, ratio) in kinds {
        println!("{name}: {ratio:.3}");
        assert!((0.9..1.25).contains(&ratio), "{name}: resident memory is {ratio:.3} of the charge");
    }
}

/// Resident memory gained by a full cache, over the charge of its entries.
fn measured<K, V>(name: &'static str, entry: impl Fn(u64) -> (K, V)) -> (&'static str, f64)
where
    K: HeapBytes + std::hash::Hash + Eq + 'static,
    V: HeapBytes + 'static,
{
    let before = resident_bytes();
    let mut cache = Cache::new(BUDGET);
    let (mut number, mut inserted_bytes) = (0, 0);
    while inserted_bytes < ROUNDS * BUDGET {
        let (key, value) = entry(number);
        inserted_bytes += cache.weight_of(&key, &value);
        cache.insert(key, value).unwrap();
        number += 1;
    }
    let gained = resident_bytes() - before;
    let ratio = gained as f64 / cache.bytes() as f64;
    // Never dropped: memory that is freed and used again would not be seen to grow.
    let _kept = ManuallyDrop::new(cache);
    (name, ratio)
}

fn resident_bytes() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * page_bytes()
}

/// The size of a page, from the kernel's own sums, which are in kB.
fn page_bytes() -> usize {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let line = smaps.lines().find(|line| line.starts_with("KernelPageSize:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}
