//! Some hits and nothing else, for valgrind to count: `instructions KIND HITS`. What a hit takes is
//! the difference of two runs, over that of their hits. `cargo xtask bench --instructions` does so.

mod support;

use std::process::ExitCode;

use support::{
    hits::{awaited_hits, filled, hits},
    ours::{Cache, WholeGroup},
    rivals::{Map, Rival},
    workload::{Key, key},
};

/// Enough that neither is in the processor's first cache only, few enough that filling takes
/// little.
const KEYS: usize = 1_000;

/// Room for all of them.
const MAX_BYTES: usize = 64 << 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--test"] => KINDS.iter().for_each(|(_, run)| run(2 * KEYS)),
        [kind, hits] => {
            let run = KINDS.iter().find(|(name, _)| *name == kind);
            let (Some((_, run)), Ok(hits)) = (run, hits.parse()) else { return usage() };
            run(hits);
        }
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    let kinds: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
    eprintln!("error: write one of {} and a number of hits", kinds.join(", "));
    ExitCode::from(2)
}

type Run = fn(usize);

const KINDS: [(&str, Run); 4] = [("group", group), ("awaited", awaited), ("cache", cache), ("dashmap", dashmap)];

/// A hit of a group, polled once.
fn group(count: usize) {
    let whole = filled(WholeGroup::without_workers(MAX_BYTES), KEYS);
    hits(asked(&keys(), count), |key| whole.get(key));
}

/// A hit of a group, awaited in a runtime.
fn awaited(count: usize) {
    let WholeGroup { group, runtime } = filled(WholeGroup::without_workers(MAX_BYTES), KEYS);
    runtime.block_on(awaited_hits(&group, asked(&keys(), count)));
}

fn cache(count: usize) {
    let cache = filled(Cache::with_bytes(MAX_BYTES), KEYS);
    hits(asked(&keys(), count), |key| cache.get(key));
}

fn dashmap(count: usize) {
    let map = filled(Map::new(MAX_BYTES, KEYS), KEYS);
    hits(asked(&keys(), count), |key| map.get(key));
}

fn keys() -> Vec<Key> {
    (0..KEYS).map(key).collect()
}

fn asked(keys: &[Key], count: usize) -> impl Iterator<Item = &Key> {
    keys.iter().cycle().take(count)
}
