//! `cargo xtask compare`: our node beside the peers and servers that one would pick instead.
//!
//! Every run is a server and a client in processes of their own, started for it alone and on the
//! same two cores. In a round each setting is run with each system, one right after the other. A
//! machine that is busy for a while is so for all of them, which shows as spread between the rounds
//! rather than as a winner. What a run is and who prints what is in benches/peers/README.md.

mod args;
mod build;
mod figures;
mod json;
mod plan;
#[path = "../../../xtask/src/process/mod.rs"]
#[allow(dead_code, reason = "xtask also stops clusters, gently")]
mod process;
mod processes;
mod run;
mod spread;
mod system;
mod table;

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use args::{Options, System};
use build::Programs;
use figures::Figures;
use plan::Cell;
use process::supervisor;

/// Longest time that this program takes without `--rounds`, building the systems included. A round
/// that would take longer is not begun. `cargo xtask compare` may take 40 minutes in all: five are
/// left for what comes before, the building of this program.
const MAX_TIME: Duration = Duration::from_secs(35 * 60);

#[derive(Parser)]
#[command(name = "cargo xtask compare", bin_name = "cargo xtask compare")]
#[command(disable_help_subcommand = true, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run a program that ends, with all it started, when our standard input does (used for builds
    /// and servers).
    #[command(hide = true)]
    Supervise {
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        program: Vec<OsString>,
    },
}

/// Something that was asked for and not run.
struct Skipped {
    system: System,
    name: String,
    why: String,
}

/// A run that came to something.
struct Run {
    round: usize,
    cell: Cell,
    system: System,
    figures: Figures,
}

/// Everything there is to tell.
struct Outcome {
    rounds: usize,
    cells: Vec<Cell>,
    systems: Vec<System>,
    cpus: Vec<usize>,
    /// Runs with less are in the record, and in no median.
    cores_min: f64,
    runs: Vec<Run>,
    skipped: Vec<Skipped>,
}

fn main() -> ExitCode {
    let result = match Cli::parse() {
        Cli { command: Some(Command::Supervise { program }), .. } => supervisor::supervise(&program),
        Cli { options, .. } => compare(&options),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// Builds, runs and prints.
fn compare(options: &Options) -> Result<ExitCode> {
    let started = Instant::now();
    let in_ci = matches!(env::var("CI").as_deref(), Ok("1" | "true"));
    let (programs, skipped) = build::all(&build::workspace()?, &options.systems(), in_ci)?;
    let mut outcome = Outcome {
        rounds: 0,
        cells: plan::cells(options),
        systems: programs.systems(),
        cpus: processes::pin()?,
        cores_min: options.cores_min,
        runs: vec![],
        skipped,
    };
    take_rounds(options, &programs, started, &mut outcome);
    if options.json {
        println!("{}", json::document(options, &programs, &outcome));
    } else {
        print!("{}", table::text(&outcome));
    }
    verdict(in_ci, &outcome)
}

fn take_rounds(options: &Options, programs: &Programs, started: Instant, outcome: &mut Outcome) {
    let time_max = if options.rounds.is_none() { MAX_TIME } else { Duration::MAX };
    let mut longest = Duration::ZERO;
    for round in 0..options.rounds() {
        if started.elapsed() + longest > time_max {
            eprintln!("no time for more than {round} rounds: --rounds {} would take it", options.rounds());
            break;
        }
        let begun = Instant::now();
        for cell in outcome.cells.clone() {
            // Even of the first round, on a machine where every run fails as slowly as it can.
            if started.elapsed() < time_max {
                take_turns(options, programs, round, cell, outcome);
            }
        }
        longest = longest.max(begun.elapsed());
        outcome.rounds += 1;
    }
}

/// All systems at one setting, one after the other.
fn take_turns(options: &Options, programs: &Programs, round: usize, cell: Cell, outcome: &mut Outcome) {
    let mut systems: Vec<System> = outcome.systems.iter().copied().filter(|system| cell.suits(*system)).collect();
    // Another one goes first each time.
    let first = round % systems.len();
    systems.rotate_left(first);
    for system in systems {
        eprint!("round {}/{}, {cell}: {system}", round + 1, options.rounds());
        match run::run(options, programs, &outcome.cpus, system, cell) {
            Ok(figures) => {
                eprintln!(", {:.0} gets/s", figures.gets_per_second());
                outcome.runs.push(Run { round, cell, system, figures });
            }
            Err(error) => {
                let (name, why) = (format!("{system} in round {} of {cell}", round + 1), format!("{error:#}"));
                eprintln!("\nskipped: {name}, {why}");
                outcome.skipped.push(Skipped { system, name, why });
            }
        }
    }
}

/// A rival that fails is a finding; our own failure, and anything that is missing in CI, is an
/// error.
fn verdict(in_ci: bool, outcome: &Outcome) -> Result<ExitCode> {
    let failed = outcome.skipped.iter().filter(|skipped| in_ci || skipped.system == System::Ours).count();
    if failed > 0 {
        bail!("{failed} of what was to be run could not be; it is named above");
    }
    Ok(ExitCode::SUCCESS)
}
