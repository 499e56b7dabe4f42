//! Resident memory gained per budget. `cargo xtask memory` builds and runs this; see there,
//! or `--help`.
//!
//! For each system, kind of value and budget a process of its own is started (`--one`), so that
//! nothing that another freed is used again. It fills the budget twice over, so that entries are
//! evicted; each entry is read once, right after it came in, for some caches allocate at the first
//! read. Resident memory (VmRSS) is read before the cache is made and after it is full,
//! everything that was made for the filling being there before or gone after. All have the same
//! 16-byte keys and the same hasher, and the rivals weigh an entry as their users do: key and
//! value. Ours charges its overhead by itself.

mod args;
mod fill;
mod report;
mod systems;
mod values;

#[path = "../support/mod.rs"]
mod support;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use args::{Memory, SystemName, ValueName};
use report::Gained;

#[derive(Parser)]
#[command(name = "cargo xtask memory", bin_name = "cargo xtask memory")]
struct Cli {
    #[command(flatten)]
    args: Memory,
    /// Measure the one system, kind and budget that are named, in this process.
    #[arg(long, hide = true)]
    one: bool,
    /// Tells that `cargo bench` runs this.
    #[arg(long, hide = true)]
    bench: bool,
    /// Makes it brief, to see it run.
    #[arg(long, hide = true)]
    test: bool,
}

fn main() -> ExitCode {
    let Cli { mut args, one, test, .. } = Cli::parse();
    if test {
        args.budget_mib = vec![1];
    }
    let result = if one { measure_here(&args) } else { measure_each(&args) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure_here(args: &Memory) -> Result<()> {
    let [(system, value, budget_mib)] = cells(args)[..] else {
        anyhow::bail!("one system, one kind of value and one budget are measured in a process");
    };
    println!("{}", fill::measured(system, value, budget_mib)?.json());
    Ok(())
}

fn measure_each(args: &Memory) -> Result<()> {
    let cells = cells(args);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} ({eta} to go)").expect("the template is good");
    let bar = ProgressBar::new(cells.len() as u64).with_style(style);
    let mut all = Vec::with_capacity(cells.len());
    for (system, value, budget_mib) in cells {
        bar.set_message(format!("{} {} {budget_mib} MiB", name(&system), name(&value)));
        let gained = measure_apart(system, value, budget_mib)?;
        if args.json {
            bar.suspend(|| println!("{}", gained.json()));
        }
        all.push(gained);
        bar.inc(1);
    }
    bar.finish_and_clear();
    if !args.json {
        report::print(&all);
    }
    Ok(())
}

fn measure_apart(system: SystemName, value: ValueName, budget_mib: u64) -> Result<Gained> {
    let itself = std::env::current_exe().context("cannot find this program")?;
    let budget = budget_mib.to_string();
    let flags = ["--one", "--system", &name(&system), "--value", &name(&value), "--budget-mib", &budget];
    let output = Command::new(itself).args(flags).stderr(std::process::Stdio::inherit()).output()?;
    let what = || format!("{} with values of kind {}", name(&system), name(&value));
    ensure!(output.status.success(), "{}: {}", what(), output.status);
    Gained::from_json(system, value, &output.stdout).with_context(what)
}

fn cells(args: &Memory) -> Vec<(SystemName, ValueName, u64)> {
    let systems = chosen(&args.system);
    let values = chosen(&args.value);
    let mut cells = Vec::new();
    for value in values {
        for system in &systems {
            cells.extend(args.budget_mib.iter().map(|budget_mib| (*system, value, *budget_mib)));
        }
    }
    cells
}

/// All, where none was named.
fn chosen<T: ValueEnum>(named: &[T]) -> Vec<T> {
    if named.is_empty() { T::value_variants().to_vec() } else { named.to_vec() }
}

fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
