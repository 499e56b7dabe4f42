//! `cargo xtask memory`: how much resident memory caches take for their budget, and what a whole
//! process takes.

mod origin;
mod role;

#[path = "../../../benches/memory/args.rs"]
mod args;

use std::process::ExitCode;

use anyhow::Result;

use crate::measure::{Program, flags_after_command};
use crate::row::Row;

/// Measure how much resident memory caches take for their budget, each in a process of its own.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    caches: args::Memory,
    /// Measure a whole process instead: `role --cache-bytes 64MiB`, asked for 80,000 different
    /// values of 1 kB.
    #[arg(long, conflicts_with_all = ["system", "value", "budget_mib"])]
    role: bool,
}

/// Runs the program that measures caches, or measures a process of the example service.
pub fn run(args: &Args) -> Result<ExitCode> {
    if args.role {
        let gained = role::gained()?;
        if args.caches.json {
            println!("{}", gained.json());
        } else {
            println!("{}", gained.row());
        }
        return Ok(ExitCode::SUCCESS);
    }
    Program::build("memory")?.run(flags_after_command())
}

/// Measures what a whole process gains, for a line of `bench --check`.
pub fn role_row() -> Result<Row> {
    role::gained().map(|gained| gained.row())
}
