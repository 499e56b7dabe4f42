//! The measuring programs: bench targets of `benches`, which know the crates that we do not.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::cargo::Workspace;
use crate::child::{Kept, POLL};
use crate::tether;

const PACKAGE: &str = "peercache-benches";

/// A program that is built.
pub struct Program {
    name: &'static str,
    path: PathBuf,
}

impl Program {
    /// Builds a bench target as `cargo bench` does, showing cargo's own progress.
    pub fn build(name: &'static str) -> Result<Self> {
        let path = Workspace::read()?.build_bench(PACKAGE, name)?;
        Ok(Self { name, path })
    }

    /// Runs it with our standard output and error, and ends as it does.
    pub fn run(&self, flags: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<ExitCode> {
        let mut process = self.start(tether::command(&self.path)?.args(flags))?;
        let status = loop {
            match process.ended() {
                Some(status) => break status,
                None => std::thread::sleep(POLL),
            }
        };
        Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
    }

    fn start(&self, command: &mut Command) -> Result<Kept> {
        Kept::spawn(command).with_context(|| format!("cannot start {}", self.name))
    }
}

/// What was written after the name of a command: `cargo xtask NAME` is all that comes before.
pub fn flags_after_command() -> impl Iterator<Item = OsString> {
    std::env::args_os().skip(2)
}
