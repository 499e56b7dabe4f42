//! `cargo xtask compare`: our node beside the peers and servers that one would pick instead.
//!
//! The flags are looked at here, so that a wrong one is refused at once; the work is done by the
//! program `benches/compare`, which is given them as they were written.

#[path = "../../benches/compare/src/args.rs"]
mod args;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::measure::Program;

pub use args::Options as Args;

/// Builds the program and runs it with these flags.
pub fn run(flags: impl Iterator<Item = OsString>) -> Result<ExitCode> {
    Program::build_binary("peercache-compare")?.run(flags)
}
