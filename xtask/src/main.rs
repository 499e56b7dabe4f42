//! `cargo xtask`: the commands of this workspace.
//!
//! Nothing here imports a crate of ours: the nodes are real processes, asked over HTTP as anybody
//! would.

mod bench;
mod cargo;
mod ci;
mod cluster;
mod compare;
mod demo;
mod hit_ratio;
mod http;
mod measure;
mod memory;
mod node;
mod ports;
mod process;
mod row;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use process::supervisor;

/// The commands of this workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the example service and run several nodes of it on this machine, until Ctrl-C.
    Cluster {
        /// Number of nodes, from 1 to 90.
        #[arg(long, value_name = "N", default_value_t = 3, value_parser = node_count, allow_negative_numbers = true)]
        nodes: u16,
        /// Node I answers people on port P+I, peers on P+90+I and operators on P+190+I.
        #[arg(long, value_name = "P", default_value_t = 9000, value_parser = base_port, allow_negative_numbers = true)]
        base_port: u16,
        /// Take a tour of a three-node cluster on free ports, check every step, and exit.
        #[arg(long, conflicts_with_all = ["nodes", "base_port"])]
        demo: bool,
        /// Gives one node a wrong peer list, which the tour of --demo must notice and fail.
        #[arg(long, requires = "demo")]
        sabotage: bool,
    },
    /// Run our node and the rivals one would pick instead, in turn on the same two cores, and print
    /// ratios.
    Compare(compare::Args),
    /// Run every check that CI runs.
    Ci {
        /// Run only the steps whose name contains this text.
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
        /// Print the names of the steps and run none.
        #[arg(long)]
        list: bool,
    },
    HitRatio(hit_ratio::Args),
    Memory(memory::Args),
    Bench(bench::Args),
    /// Run a program that ends, with all it started, when our standard input does (used by the
    /// other commands).
    #[command(hide = true)]
    Supervise {
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        program: Vec<OsString>,
    },
}

fn base_port(text: &str) -> Result<u16, String> {
    // What is above is left to the plan, which knows how many nodes there are.
    match text.parse() {
        Ok(port @ 1..) => Ok(port),
        _ => Err("write a port, such as 9000".to_owned()),
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Cluster { demo: true, sabotage, .. } => demo::run(sabotage),
        Command::Cluster { nodes, base_port, .. } => cluster::run(plan_or_exit(base_port, nodes)),
        Command::Compare(_) => compare::run(measure::flags_after_command()),
        Command::Ci { only, list } => ci::run(only.as_deref(), list),
        Command::HitRatio(args) => match args.check() {
            Ok(()) => hit_ratio::run(measure::flags_after_command()),
            Err(sentence) => Cli::command().error(ErrorKind::ArgumentConflict, sentence).exit(),
        },
        Command::Bench(args) => bench::run(&args),
        Command::Memory(args) => memory::run(&args),
        Command::Supervise { program } => supervisor::supervise(&program),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn node_count(text: &str) -> Result<u16, String> {
    let count = text.parse().ok().filter(|count| (1..=ports::MAX_NODES).contains(count));
    count.ok_or_else(|| format!("write a number of nodes from 1 to {}", ports::MAX_NODES))
}

/// A wrong flag: a sentence that says what to write instead, and exit code 2.
fn plan_or_exit(base: u16, nodes: u16) -> ports::Plan {
    ports::Plan::new(base, nodes)
        .unwrap_or_else(|sentence| Cli::command().error(ErrorKind::ValueValidation, sentence).exit())
}
