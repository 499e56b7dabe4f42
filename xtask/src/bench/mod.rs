//! `cargo xtask bench`: the numbers that are to be reached, and whether they are.
//!
//! A number is a [`Row`]. Rows come from parts, each of which measures one thing and knows its
//! goals: another part is another line of [`PARTS`].

mod hit_ratio;
pub mod instructions;
mod memory;
mod timed;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::builder::PossibleValuesParser;

use crate::row::{Row, Verdict};

/// Measure the numbers that are to be reached, and say which are.
#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["check", "instructions"]))]
pub struct Args {
    /// One line per number: name, ours, rival, ratio, goal, met or MISSED.
    #[arg(long)]
    check: bool,
    /// Count the instructions of a hit: needs valgrind, and is the same on a busy machine.
    #[arg(long)]
    instructions: bool,
    /// Narrows --check to these parts.
    #[arg(long, value_name = "PART,..", value_delimiter = ',', requires = "check")]
    #[arg(value_parser = PossibleValuesParser::new(PARTS.map(|part| part.name)))]
    only: Vec<String>,
    /// Folder of web12.bin.zst, orm-busy.bin.zst and semicomplete.bin.zst. Defaults to
    /// ../shared/traces, seen from the workspace.
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,
    /// One JSON object per number, each on a line, and nothing else on standard output.
    #[arg(long)]
    json: bool,
    /// Exit with 1 if a number is missed.
    #[arg(long)]
    strict: bool,
}

/// Something that is measured at one go.
struct Part {
    name: &'static str,
    rows: fn(&Args) -> Result<Vec<Row>>,
}

/// All parts in the order in which they are measured: what is quick first. What peers cost belongs
/// here as well, and is measured by `compare`.
const PARTS: [Part; 8] = [
    Part { name: "instructions", rows: |_| instructions::rows() },
    Part { name: "ring", rows: |_| timed::rows("ring") },
    Part { name: "flights", rows: |_| timed::rows("flights") },
    Part { name: "hits", rows: |_| timed::rows("hits") },
    Part { name: "trust", rows: |_| timed::rows("trust") },
    Part { name: "hit-ratio", rows: |args| hit_ratio::rows(args.traces.as_deref()) },
    Part { name: "memory", rows: |_| memory::rows() },
    Part { name: "role", rows: |_| crate::memory::role_row().map(|row| vec![row]) },
];

/// Measures part after part. A part that cannot be measured is a line that says why, and the others
/// go on.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut missed = 0;
    for part in PARTS.iter().filter(|part| is_wanted(args, part)) {
        eprintln!("measuring {}", part.name);
        let rows = (part.rows)(args).unwrap_or_else(|error| vec![Row::failed(part.name, format!("{error:#}"))]);
        for row in rows {
            missed += usize::from(row.verdict() == Verdict::Missed);
            if args.json {
                println!("{}", row.json());
            } else {
                println!("{row}");
            }
        }
    }
    Ok(if args.strict && missed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn is_wanted(args: &Args, part: &Part) -> bool {
    match (args.check, args.only.is_empty()) {
        (false, _) => part.name == "instructions",
        (true, true) => true,
        (true, false) => args.only.iter().any(|name| name == part.name),
    }
}
