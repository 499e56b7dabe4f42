//! A hit: 100k keys of 16 bytes, all present, values of 100 B, asked for by a Zipf law and evenly, by one thread and by two; the value is
//! cloned and dropped. Ours as the builders give it without options: a group, whose hit is its future's first poll, and the cache crate.
//! The yardstick is a `DashMap`, which evicts nothing. All hash with foldhash, a group's own choice.

use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use dashmap::DashMap;
use foldhash::fast::FixedState;
use peercache_groupcache::{Clock, Group, Groups, Members, loader_fn};
use peercache_lru::ShardedCache;
use tokio::runtime::{Builder, Runtime};

use crate::{
    Number,
    pairs::{Effort, Rounds, Timed, timed},
    support::workload::{Key, Law, Size, ZIPF, asked, key, value},
};

const MAX_BYTES: usize = 64 << 20;

/// Rounds after which all are made anew: where in memory things lie is luck, and is not to decide.
const ROUNDS_EACH: usize = 12;

/// Group, cache and map, filled alike.
struct Filled {
    group: Group<Bytes>,
    cache: ShardedCache<Key, Bytes, FixedState>,
    map: DashMap<Key, Bytes, FixedState>,
    /// Where the group was filled.
    runtime: Runtime,
}

#[derive(Clone, Copy)]
enum System {
    Group,
    Cache,
    Map,
}

const SYSTEMS: [System; 3] = [System::Group, System::Cache, System::Map];

impl Filled {
    fn new(keys: usize) -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime starts");
        // Tokio's time, which stands still while the runtime does: a thread that ticks would be measured as well.
        let groups = Groups::with_clock(Members::alone(), Clock::tokio());
        let group = groups.group("hit", loader_fn(|_| async { Ok(value()) })).build().expect("the settings are good");
        let cache = ShardedCache::builder(MAX_BYTES).hasher(FixedState::default()).build_sharded();
        let map = DashMap::with_hasher(FixedState::default());
        for number in 0..keys {
            let key = key(number);
            runtime.block_on(group.get(&key)).expect("it loads");
            cache.insert(key, value()).expect("it fits");
            map.insert(key, value());
        }
        let filled = Filled { group, cache, map, runtime };
        for system in SYSTEMS {
            // The first clone of a `Bytes` allocates, and is no hit like others.
            let held = (0..keys).filter(|number| filled.get(system, &key(*number)).is_some()).count();
            assert_eq!(held, keys, "all fit");
        }
        filled
    }

    fn get(&self, system: System, key: &Key) -> Option<Bytes> {
        match system {
            System::Group => polled(&self.group, key),
            System::Cache => self.cache.get(key),
            System::Map => self.map.get(key).map(|value| value.clone()),
        }
    }

    /// Each thread asks for keys of its own. The choice of the system is made outside of the loop.
    fn timed(&self, system: System, threads: usize, operations: u64, asked: &[Key]) -> Timed {
        timed(threads, operations, |thread| {
            let asked = &asked[thread * operations as usize..][..operations as usize];
            match system {
                System::Group => asked.iter().for_each(|key| drop(black_box(self.get(System::Group, key)))),
                System::Cache => asked.iter().for_each(|key| drop(black_box(self.get(System::Cache, key)))),
                System::Map => asked.iter().for_each(|key| drop(black_box(self.get(System::Map, key)))),
            }
        })
    }

    fn awaited(&self, operations: u64, asked: &[Key]) -> Timed {
        timed(1, operations, |_| {
            self.runtime.block_on(async {
                for key in &asked[..operations as usize] {
                    drop(black_box(self.group.get(key).await));
                }
            });
        })
    }
}

fn polled(group: &Group<Bytes>, key: &Key) -> Option<Bytes> {
    match pin!(group.get(key)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value.ok(),
        Poll::Pending => None,
    }
}

/// What a round measures: by one thread and by two, each time group, cache and map, and the group awaited.
type Measured = Rounds<7>;
const GROUP: usize = 0;
const CACHE: usize = 1;
const MAP: usize = 2;
const AWAITED: usize = 6;

/// Where the measurement of a system by one thread or by two stands in a round.
fn cell(system: usize, threads: usize) -> usize {
    system + 3 * (threads - 1)
}

pub fn measure(effort: Effort) -> Vec<Number> {
    let size = Size { keys: effort.keys, asked: 1 << 20 };
    let uniform: Law = |_| 1.0;
    let laws = [("zipf", asked(&size, ZIPF)), ("uniform", asked(&size, uniform))];
    let laws = laws.map(|(law, asked)| (law, measured(effort, &asked)));
    let mut numbers = Vec::new();
    for (name, system) in [("group", GROUP), ("cache", CACHE)] {
        let mut cells = Vec::new();
        for (law, rounds) in &laws {
            for threads in [1, 2] {
                let places = (cell(system, threads), cell(MAP, threads));
                cells.push(compared(format!("hit-{name}-{law}-{threads}"), rounds, places));
            }
        }
        numbers.push(geometric_mean(format!("hit-{name}-mean"), &cells));
        numbers.append(&mut cells);
        numbers.extend(laws.iter().map(|(law, rounds)| scaling(format!("hit-{name}-{law}-scaling"), rounds, system)));
    }
    numbers.extend(
        laws.iter().map(|(law, rounds)| compared(format!("hit-awaited-{law}"), rounds, (AWAITED, cell(GROUP, 1)))),
    );
    numbers.push(allocations(effort));
    numbers
}

fn measured(effort: Effort, asked: &[Key]) -> Measured {
    let mut filled = None;
    Rounds::measure(effort, |number| {
        if number.is_multiple_of(ROUNDS_EACH) {
            // The old one goes first, or there would be two at a time.
            filled = None;
        }
        let filled = filled.get_or_insert_with(|| Filled::new(effort.keys));
        // Other questions each time, the same for all.
        let asked = window(asked, number, effort.operations);
        let mut round = [Timed { ns: 0.0, undisturbed: true }; 7];
        // Another one begins each time.
        for place in (0..round.len()).map(|place| (place + number) % 7) {
            round[place] = match place {
                AWAITED => filled.awaited(effort.operations, asked),
                _ => filled.timed(SYSTEMS[place % 3], place / 3 + 1, effort.operations, asked),
            };
        }
        round
    })
}

/// As many questions as two threads ask.
fn window(asked: &[Key], number: usize, operations: u64) -> &[Key] {
    let length = 2 * operations as usize;
    let start = number * length % (asked.len() - length);
    &asked[start..start + length]
}

fn compared(name: String, rounds: &Measured, (ours, rival): (usize, usize)) -> Number {
    let both = [ours, rival];
    Number {
        name,
        ours: rounds.median(both, |[ours, _]| ours),
        rival: Some(rounds.median(both, |[_, rival]| rival)),
        ratio: Some(rounds.median(both, |[ours, rival]| ours / rival)),
        undisturbed: Some(rounds.undisturbed(both)),
    }
}

/// By how much a hit gets slower when another thread does as much: 1 is perfect.
fn scaling(name: String, rounds: &Measured, system: usize) -> Number {
    let all = [cell(system, 1), cell(system, 2), cell(MAP, 1), cell(MAP, 2)];
    Number {
        name,
        ours: rounds.median(all, |[one, two, _, _]| two / one),
        rival: Some(rounds.median(all, |[_, _, one, two]| two / one)),
        ratio: Some(rounds.median(all, |[one, two, map_one, map_two]| (two / one) / (map_two / map_one))),
        undisturbed: Some(rounds.undisturbed(all)),
    }
}

fn geometric_mean(name: String, cells: &[Number]) -> Number {
    let mean = |of: fn(&Number) -> Option<f64>| {
        let logarithms = cells.iter().filter_map(of).map(f64::ln);
        (logarithms.sum::<f64>() / cells.len() as f64).exp()
    };
    Number {
        name,
        ours: mean(|cell| Some(cell.ours)),
        rival: Some(mean(|cell| cell.rival)),
        ratio: Some(mean(|cell| cell.ratio)),
        undisturbed: cells.iter().filter_map(|cell| cell.undisturbed).min(),
    }
}

/// How often a group's hit allocates.
fn allocations(effort: Effort) -> Number {
    let filled = Filled::new(effort.keys.min(1_000));
    const HITS: usize = 10_000;
    let counted = allocation_counter::measure(|| {
        (0..HITS).for_each(|number| drop(black_box(filled.get(System::Group, &key(number % 1_000)))));
    });
    Number::new("hit-allocations", counted.count_total as f64 / HITS as f64)
}
