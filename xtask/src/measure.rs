//! The measuring programs: bench targets of `benches` and the program `benches/compare`.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cargo::Workspace;
use crate::process::child::{ChildGuard, POLL};
use crate::process::supervisor;

const PACKAGE: &str = "peercache-benches";

/// A program that is built.
pub struct Program {
    name: &'static str,
    pub path: PathBuf,
}

impl Program {
    /// Builds a bench target as `cargo bench` does, showing cargo's own progress.
    pub fn build(name: &'static str) -> Result<Self> {
        let path = Workspace::read()?.build_bench(PACKAGE, name)?;
        Ok(Self { name, path })
    }

    /// Builds a program that is a package of its own.
    pub fn build_binary(name: &'static str) -> Result<Self> {
        let [path] = Workspace::read()?.build_programs([name])?;
        Ok(Self { name, path })
    }

    /// Runs it with our standard output and error, and ends as it does.
    pub fn run(&self, flags: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<ExitCode> {
        let mut process = self.start(supervisor::command(&self.path)?.args(flags))?;
        let status = loop {
            match process.ended() {
                Some(status) => break status,
                None => std::thread::sleep(POLL),
            }
        };
        Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
    }

    /// Runs it and reads the JSON objects that it prints, one on each line. Its standard error is
    /// ours.
    pub fn objects(&self, flags: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Vec<Value>> {
        let mut command = supervisor::command(&self.path)?;
        let mut process = self.start(command.args(flags).stdout(Stdio::piped()))?;
        let mut text = String::new();
        let mut stdout = process.take_stdout().expect("the command's output is piped");
        stdout.read_to_string(&mut text).with_context(|| format!("cannot read what {} says", self.name))?;
        // It has closed its output: it is about to end, and cannot hang for long.
        let status = loop {
            match process.ended() {
                Some(status) => break status,
                None => std::thread::sleep(POLL),
            }
        };
        ensure!(status.success(), "{} failed ({status}); what it said is above", self.name);
        let parse = |line| serde_json::from_str(line).with_context(|| format!("{} printed no JSON: {line}", self.name));
        text.lines().map(parse).collect()
    }

    fn start(&self, command: &mut Command) -> Result<ChildGuard> {
        ChildGuard::spawn(command).with_context(|| format!("cannot start {}", self.name))
    }
}

/// The arguments after the name of a command: `cargo xtask NAME` is all that comes before.
pub fn flags_after_command() -> impl Iterator<Item = OsString> {
    std::env::args_os().skip(2)
}

/// A field of what a program said.
pub fn number(object: &Value, field: &str) -> Result<f64> {
    match object[field].as_f64() {
        Some(number) => Ok(number),
        None => bail!("a measuring program said no {field}: {object}"),
    }
}
