//! Hit ratios: how often caches have what is asked for. `cargo xtask hit-ratio` builds and runs
//! this; see there, or `--help`.
//!
//! The policies are those of `peercache-replay`, and the rivals' own crates. What `default` is, see
//! `peercache_replay::Alone`.

mod args;
mod plot;
mod report;
mod rivals;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser, error::ErrorKind};
use indicatif::{ProgressBar, ProgressStyle};
use peercache_replay::{
    Alone, Belady, CachePolicy, Capacity, Cluster, Golang, Lru, Records, ReplayCounts, S3Fifo, SharedPolicy, Sieve,
    Trace, Unit, Workload, owners, replay, replay_shared,
};

use args::{HitRatio, PolicyName, RecordsName, WorkloadName};
use report::Run;

#[derive(Parser)]
#[command(name = "cargo xtask hit-ratio", bin_name = "cargo xtask hit-ratio")]
struct Cli {
    #[command(flatten)]
    args: HitRatio,
    /// Tells that `cargo bench` runs this.
    #[arg(long, hide = true)]
    bench: bool,
    /// Makes it brief, to see it run.
    #[arg(long, hide = true)]
    test: bool,
}

fn main() -> ExitCode {
    let Cli { args, test, .. } = Cli::parse();
    if let Err(sentence) = args.check() {
        Cli::command().error(ErrorKind::ArgumentConflict, sentence).exit();
    }
    match run(&args, test) {
        Ok(()) => ExitCode::SUCCESS,
        // Whatever goes wrong from here on was wrong with what we were given.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &HitRatio, test: bool) -> Result<()> {
    let traces = traces(args, test)?;
    let policies = policies(args);
    let cells: Vec<(&Trace, Capacity, PolicyName)> = traces
        .iter()
        .flat_map(|trace| capacities(args, trace).into_iter().map(move |capacity| (trace, capacity)))
        .flat_map(|(trace, capacity)| policies.iter().map(move |policy| (trace, capacity, *policy)))
        .collect();
    let bar = progress(cells.iter().map(|(trace, ..)| trace.len() as u64).sum());
    let mut runs = Vec::with_capacity(cells.len());
    for (trace, capacity, policy) in cells {
        bar.set_message(format!("{} {} {capacity}", trace.name, report::name(policy)));
        let counts = counts_of(args, trace, capacity, policy, &mut |requests| bar.inc(requests));
        let run = Run { trace: trace.name.clone(), policy, capacity, counts };
        if args.json {
            bar.suspend(|| report::print_json(args, &run))?;
        }
        runs.push(run);
    }
    bar.finish_and_clear();
    if !args.json {
        report::print_tables(args, &runs)?;
    }
    match &args.plot {
        None => Ok(()),
        Some(file) => plot::draw(file, &runs).with_context(|| format!("cannot write {}", file.display())),
    }
}

fn traces(args: &HitRatio, test: bool) -> Result<Vec<Trace>> {
    if let Some(path) = &args.trace {
        let records = args.records.map(|records| match records {
            RecordsName::Unit => Records::Unit,
            RecordsName::Sized => Records::Sized,
        });
        let trace = Trace::read(path, records, unit(args))?;
        if args.records.is_none() && trace.could_be_sized() {
            eprintln!("note: {} is read as a unit trace; if it is a sized one, say --records sized", path.display());
        }
        return Ok(vec![trace]);
    }
    let chosen = args.workload.iter().map(|workload| match workload {
        WorkloadName::Zipf => Workload::Zipf,
        WorkloadName::Scan => Workload::Scan,
        WorkloadName::Loop => Workload::Loop,
        WorkloadName::Shifting => Workload::Shifting,
    });
    let chosen: Vec<Workload> = if args.workload.is_empty() { Workload::ALL.to_vec() } else { chosen.collect() };
    let make = |workload: Workload| {
        if test { workload.trace_of(2_000, args.seed) } else { workload.trace(args.seed) }
    };
    Ok(chosen.into_iter().map(make).collect())
}

fn unit(args: &HitRatio) -> Unit {
    if args.bytes.is_empty() { Unit::Entries } else { Unit::Bytes }
}

fn capacities(args: &HitRatio, trace: &Trace) -> Vec<Capacity> {
    const PERCENTS: [usize; 4] = [1, 5, 10, 20];
    let mut capacities: Vec<Capacity> = match unit(args) {
        Unit::Bytes => args.bytes.iter().map(|bytes| Capacity::bytes(*bytes)).collect(),
        Unit::Entries if args.entries.is_empty() => {
            let part = |percent: usize| (trace.keys() * percent / 100).max(1) as u64;
            PERCENTS.map(|percent| Capacity::entries(part(percent))).to_vec()
        }
        Unit::Entries => args.entries.iter().map(|entries| Capacity::entries(*entries)).collect(),
    };
    capacities.dedup();
    capacities
}

fn policies(args: &HitRatio) -> Vec<PolicyName> {
    use PolicyName::{All, Belady, Default, Golang, Lru, Moka, QuickCache, S3Fifo, Sieve};
    let all = match args.nodes {
        Some(_) => vec![Lru, Golang, Default],
        None => vec![Lru, Golang, S3Fifo, Sieve, Moka, QuickCache, Default, Belady],
    };
    let mut policies = match (args.policy.as_slice(), args.nodes) {
        (chosen, _) if chosen.contains(&All) => all,
        ([], Some(_)) => vec![Golang, Default],
        ([], None) => vec![Lru, Default, Belady],
        (chosen, _) => chosen.to_vec(),
    };
    let mut seen = Vec::new();
    policies.retain(|policy| {
        !seen.contains(policy) && {
            seen.push(*policy);
            true
        }
    });
    policies
}

fn counts_of(
    args: &HitRatio,
    trace: &Trace,
    capacity: Capacity,
    policy: PolicyName,
    advance: &mut dyn FnMut(u64),
) -> ReplayCounts {
    match args.nodes {
        None => replay(trace, capacity.unit, &mut *policy_of(args, trace, capacity, policy), advance),
        Some(nodes) => {
            let nodes = usize::from(nodes);
            let mut policy = shared_policy_of(args, trace, capacity, policy, nodes);
            replay_shared(trace, capacity.unit, nodes, args.seed, &mut *policy, advance)
        }
    }
}

fn policy_of(args: &HitRatio, trace: &Trace, capacity: Capacity, policy: PolicyName) -> Box<dyn CachePolicy> {
    match policy {
        PolicyName::Default => Box::new(Alone::new(trace, capacity)),
        PolicyName::Lru => Box::new(Lru::new(trace, capacity)),
        PolicyName::Belady => Box::new(Belady::new(trace, capacity)),
        PolicyName::Golang => Box::new(Golang::new(trace, capacity, 1, owners(trace, 1), args.seed)),
        PolicyName::S3Fifo => Box::new(S3Fifo::new(trace, capacity)),
        PolicyName::Sieve => Box::new(Sieve::new(trace, capacity)),
        PolicyName::Moka => Box::new(rivals::Moka::new(capacity)),
        PolicyName::QuickCache => Box::new(rivals::QuickCache::new(trace, capacity)),
        PolicyName::All => unreachable!("it has been replaced by what it stands for"),
    }
}

fn shared_policy_of(
    args: &HitRatio,
    trace: &Trace,
    capacity: Capacity,
    policy: PolicyName,
    nodes: usize,
) -> Box<dyn SharedPolicy> {
    let owners = || owners(trace, nodes);
    match policy {
        PolicyName::Default => Box::new(Cluster::new(trace, capacity, nodes, args.rate)),
        PolicyName::Golang => Box::new(Golang::new(trace, capacity, nodes, owners(), args.seed)),
        PolicyName::Lru => Box::new(Golang::without_copies(trace, capacity, nodes, owners())),
        _ => unreachable!("the flags were checked"),
    }
}

/// Draws on standard error, and only on a terminal.
fn progress(requests: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {percent:>3} % {msg} ({eta} to go)");
    ProgressBar::new(requests).with_style(style.expect("the template is good"))
}
