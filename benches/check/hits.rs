//! A hit: 100k keys of 16 bytes, all present, values of 100 B, asked for by a Zipf law and evenly,
//! by one thread and by two; the value is cloned and dropped. Ours as the builders give it without
//! options: a group, whose hit is its future's first poll, and the cache crate. The yardstick is a
//! `DashMap`, which evicts nothing. All hash with foldhash, a group's own choice.

use crate::{
    number::Number,
    pairs::{Effort, Rounds, Timed, timed},
    support::{
        hits::{awaited_hits, filled, hits},
        ours::{Cache, WholeGroup},
        rivals::{Map, Rival},
        workload::{Key, Law, Size, ZIPF, asked, key},
    },
};

const MAX_BYTES: usize = 64 << 20;

/// Rounds after which all are made again: where in memory things lie is luck, and is not to decide.
const ROUNDS_EACH: usize = 12;

/// Group, cache and map, filled alike.
struct Filled {
    group: WholeGroup,
    cache: Cache,
    map: Map,
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
        Filled {
            group: filled(WholeGroup::without_workers(MAX_BYTES), keys),
            cache: filled(Cache::with_bytes(MAX_BYTES), keys),
            map: filled(Map::new(MAX_BYTES, keys), keys),
        }
    }

    /// Each thread asks for keys of its own. The choice of the system is made outside of the loop.
    fn timed(&self, system: System, threads: usize, operations: u64, asked: &[Key]) -> Timed {
        timed(threads, operations, |thread| {
            let asked = asked[thread * operations as usize..][..operations as usize].iter();
            match system {
                System::Group => hits(asked, |key| self.group.get(key)),
                System::Cache => hits(asked, |key| self.cache.get(key)),
                System::Map => hits(asked, |key| self.map.get(key)),
            }
        })
    }

    fn awaited(&self, operations: u64, asked: &[Key]) -> Timed {
        let WholeGroup { group, runtime } = &self.group;
        timed(1, operations, |_| runtime.block_on(awaited_hits(group, asked[..operations as usize].iter())))
    }
}

/// The measurements of a round: by one thread and by two, each time group, cache and map, and the
/// group awaited.
type Measured = Rounds<7>;
const GROUP: usize = 0;
const CACHE: usize = 1;
const MAP: usize = 2;
const AWAITED: usize = 6;

/// Index, in a round, of the measurement of a system by one thread or by two.
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

/// Takes as many keys as two threads ask for.
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

/// Slowdown of a hit when another thread does as much: 1 is perfect.
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

/// Counts how often a group's hit allocates.
fn allocations(effort: Effort) -> Number {
    const HITS: usize = 10_000;
    let keys: Vec<Key> = (0..effort.keys.min(1_000)).map(key).collect();
    let group = filled(WholeGroup::without_workers(MAX_BYTES), keys.len());
    let counted = allocation_counter::measure(|| hits(keys.iter().cycle().take(HITS), |key| group.get(key)));
    Number::new("hit-allocations", counted.count_total as f64 / HITS as f64)
}
