//! `cargo xtask hit-ratio`: how often caches have what is asked for.
//!
//! The flags are looked at here, so that a wrong one is refused at once; the work is done by a
//! program of `benches`, which is given them as they were written.

#[path = "../../benches/hit_ratio/args.rs"]
mod args;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::measure;

pub use args::HitRatio as Args;

/// Builds the program and runs it with these flags.
pub fn run(flags: impl Iterator<Item = OsString>) -> Result<ExitCode> {
    measure::Program::build("hit_ratio")?.run(flags)
}
