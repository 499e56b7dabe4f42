//! A simulated cluster keeps its promises whatever happens. All nodes run the shipped groups in one
//! process; only the network, the clock and the origin are replaced. A seed decides the calls and
//! the faults, and the history of each run is checked.
//!
//! `SIM_SEED=7` runs one seed, with `SIM_LOG=1` it prints the whole history; `SIM_SEEDS=100000`
//! runs that many. `check.rs` says what is checked.

mod check;
mod clients;
mod counts;
mod facts;
mod history;
mod net;
mod origin;
mod plan;
mod rng;
mod run;
mod time;
mod world;

use std::{
    collections::BTreeSet,
    env, fmt,
    io::{self, Write},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
};

use crate::{
    check::{Violation, check},
    counts::Counts,
    facts::Facts,
    history::{Entry, about, hash},
};

/// Enough that each kind of fault meets each kind of call many times, and few enough for every run
/// of the tests.
const SEEDS: u64 = 200;

/// The result of one seed.
struct Outcome {
    hash: u64,
    counts: Counts,
    /// Reason why it is wrong, if it is.
    wrong: Option<String>,
}

#[test]
fn promises_hold_whatever_happens() {
    if let Some(seed) = number("SIM_SEED") {
        return one(seed);
    }
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let outcomes = run_all(0..seeds);
    let counts = outcomes.iter().map(|outcome| outcome.counts).fold(Counts::default(), Counts::plus);
    let hash = outcomes.iter().fold(0, |hash: u64, outcome| hash.rotate_left(1) ^ outcome.hash);
    say(format_args!("{seeds} seeds: {counts}, hash {hash:016x}"));
    let wrong: Vec<&String> = outcomes.iter().filter_map(|outcome| outcome.wrong.as_ref()).collect();
    wrong.iter().for_each(|wrong| say(format_args!("{}", wrong.lines().next().unwrap_or_default())));
    assert!(wrong.is_empty(), "{} of {seeds} seeds are wrong, the first of them\n{}", wrong.len(), wrong[0]);
    // Fewer may well have none of some kind.
    if seeds >= SEEDS {
        assert_eq!(counts.missing(), "", "nothing of this kind has happened");
    }
}

#[test]
fn a_seed_replays_identically() {
    /// Enough to meet calls whose order a hash table could change.
    const REPLAYED: u64 = 8;
    let hashes = || (0..REPLAYED).map(|seed| outcome(seed).hash).collect::<Vec<_>>();
    assert_eq!(hashes(), hashes());
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

/// Prints a line that is seen though the test passes.
fn say(line: fmt::Arguments<'_>) {
    io::stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn one(seed: u64) {
    let (plan, log) = run::run(seed);
    let outcome = examine(&plan, &log);
    if env::var_os("SIM_LOG").is_some() {
        log.iter().for_each(|entry| say(format_args!("{entry}")));
    }
    say(format_args!("seed {seed}: {}, hash {:016x}", outcome.counts, outcome.hash));
    assert!(outcome.wrong.is_none(), "{}", outcome.wrong.unwrap_or_default());
}

/// Runs the seeds on as many threads as the machine has cores for.
fn run_all(seeds: std::ops::Range<u64>) -> Vec<Outcome> {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let take = || Some(next.fetch_add(1, Relaxed)).filter(|seed| *seed < seeds.end);
        std::iter::from_fn(take).map(|seed| (seed, outcome(seed))).collect::<Vec<_>>()
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut outcomes: Vec<(u64, Outcome)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    outcomes.sort_by_key(|(seed, _)| *seed);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

fn outcome(seed: u64) -> Outcome {
    let (plan, log) = run::run(seed);
    examine(&plan, &log)
}

fn examine(plan: &plan::Plan, log: &[Entry]) -> Outcome {
    let facts = Facts::of(log);
    let violations = check(plan, log, &facts);
    let wrong = violations.first().map(|first| {
        let kinds: BTreeSet<_> = violations.iter().map(|violation| violation.invariant).collect();
        let kinds = kinds.into_iter().collect::<Vec<_>>().join(" ");
        format!("seed {}, {kinds}: {first}\n{}", plan.seed, slice(log, first))
    });
    Outcome { hash: hash(log), counts: Counts::of(log, &facts), wrong }
}

/// The part of the history that the violation is about.
fn slice(log: &[Entry], violation: &Violation) -> String {
    /// A screen or two.
    const LINES: usize = 120;
    let before_ms = violation.from.ms.saturating_sub(300);
    let entries = match violation.item {
        Some(item) => about(log, item),
        None => log.iter().collect(),
    };
    let lines: Vec<String> = entries
        .iter()
        .filter(|entry| (before_ms..=violation.to.ms).contains(&entry.ms))
        .map(ToString::to_string)
        .collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
