//! Builds by cargo, and the programs they make.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};
use cargo_metadata::Message;

use super::child::{ChildGuard, POLL};

/// The cargo that runs us, or the one on the path.
pub fn cargo_program() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs a build to its end. Returns the programs it made, by name.
pub fn run_build(command: &mut Command) -> Result<BTreeMap<String, PathBuf>> {
    let mut build = ChildGuard::spawn(command.stdout(Stdio::piped())).context("cannot start cargo")?;
    let messages = BufReader::new(build.take_stdout().expect("the command's output is piped"));
    let mut programs = BTreeMap::new();
    for message in Message::parse_stream(messages) {
        // Lines that are no JSON are a build script's own; they are not for us.
        let Message::CompilerArtifact(artifact) = message.context("cannot read what cargo says")? else {
            continue;
        };
        if let Some(program) = artifact.executable {
            programs.insert(artifact.target.name, program.into());
        }
    }
    // Cargo has closed its output: it is about to end, and cannot hang for long.
    let status = loop {
        if let Some(status) = build.ended() {
            break status;
        }
        thread::sleep(POLL);
    };
    ensure!(status.success(), "the build failed ({status}); what cargo said is above");
    Ok(programs)
}
