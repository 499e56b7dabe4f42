//! The numbers that are to be reached and need no other program: hits, the ring, flights. `cargo
//! xtask bench --check` builds and runs this, and knows the goals; here, every number is a JSON
//! object with a `name`, `ours`, and where there are such `rival` and `ratio`.

mod flights;
mod hits;
mod number;
mod pairs;
mod ring;
mod trust;

#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use number::Number;

#[derive(Parser)]
struct Cli {
    /// The parts to measure. Defaults to all.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    only: Vec<Part>,
    /// Tells that `cargo bench` runs this.
    #[arg(long, hide = true)]
    bench: bool,
    /// Makes it brief, to see it run.
    #[arg(long, hide = true)]
    test: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Hits,
    Ring,
    Flights,
    Trust,
}

fn main() -> ExitCode {
    let Cli { only, test, .. } = Cli::parse();
    let effort = if test { pairs::Effort::SMALL } else { pairs::Effort::FULL };
    let wanted = |part| only.is_empty() || only.contains(&part);
    if wanted(Part::Hits) {
        hits::measure(effort).iter().for_each(Number::print);
    }
    if wanted(Part::Ring) {
        ring::measure(effort).iter().for_each(Number::print);
    }
    if wanted(Part::Flights) {
        flights::measure(effort).iter().for_each(Number::print);
    }
    if wanted(Part::Trust) {
        trust::measure(effort).iter().for_each(Number::print);
    }
    ExitCode::SUCCESS
}
