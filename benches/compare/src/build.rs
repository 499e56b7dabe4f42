//! Building the programs, and finding those that the machine has.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::{Metadata, MetadataCommand};

use crate::Skipped;
use crate::args::System;
use crate::process::build::{cargo_program, run_build};
use crate::process::supervisor;
use crate::system::{Kind, Program};

/// Longest build of a Go program, with the download of its modules.
const GO_LIMIT: Duration = Duration::from_secs(10 * 60);
/// The name of the Rust harness.
const HARNESS: &str = "peercache-peers";

/// The programs there are to run.
pub struct Programs(Vec<Program>);

impl Programs {
    pub fn systems(&self) -> Vec<System> {
        self.0.iter().map(|program| program.system).collect()
    }

    pub fn each(&self) -> impl Iterator<Item = &Program> {
        self.0.iter()
    }

    pub fn of(&self, system: System) -> &Program {
        self.0.iter().find(|program| program.system == system).expect("only systems that were built are run")
    }
}

/// Reads where things are in the workspace of the working directory.
pub fn workspace() -> Result<Metadata> {
    let mut command = MetadataCommand::new();
    command.cargo_path(cargo_program()).no_deps();
    command.exec().context("`cargo metadata` failed; is this directory inside the workspace?")
}

/// Builds all that these systems need. What cannot be had is skipped and said; in CI it is an
/// error.
pub fn all(workspace: &Metadata, systems: &[System], in_ci: bool) -> Result<(Programs, Vec<Skipped>)> {
    ensure!(Path::new("/proc/self/stat").exists(), "compare reads /proc, which this system does not have");
    let mut skipped = vec![];
    let mut had = vec![];
    for &system in systems {
        match had_for(workspace, system) {
            Ok(found) => had.push((system, found)),
            Err(error) => {
                let why = format!("{error:#}");
                eprintln!("skipped: {system}, {why}");
                ensure!(!in_ci, "{system} is missing, and in CI nothing may be: {why}");
                skipped.push(Skipped { system, name: system.to_string(), why });
            }
        }
    }
    let kept: Vec<System> = had.iter().map(|(system, _)| *system).collect();
    let harness = harness(workspace, &kept, in_ci)?;
    let program = |(system, found): (System, Option<PathBuf>)| {
        let version = version(system, found.as_deref());
        let server = found.unwrap_or_else(|| harness.clone());
        let client = if system.kind() == Kind::Go { server.clone() } else { harness.clone() };
        Program { system, server, client, version }
    };
    Ok((Programs(had.into_iter().map(program).collect()), skipped))
}

/// The program of a system's server, unless that is the Rust harness, which is built for all of
/// them at once.
fn had_for(workspace: &Metadata, system: System) -> Result<Option<PathBuf>> {
    match system.kind() {
        Kind::Rust { .. } => Ok(None),
        Kind::Go => go(workspace, system.name()).map(Some),
        Kind::Installed { program, .. } => match find_program(program) {
            Some(path) => Ok(Some(path)),
            None => bail!("there is no `{program}` on the path; install it (Debian: `apt-get install {program}`)"),
        },
    }
}

fn go(workspace: &Metadata, name: &str) -> Result<PathBuf> {
    let go =
        find_program("go").context("there is no `go` on the path; install Go (Debian: `apt-get install golang`)")?;
    eprintln!("building {name} with go");
    let out = workspace.target_directory.join("peers/go").join(name);
    let mut command = supervisor::command(go)?;
    command.arg("build").arg("-o").arg(&out).arg(".");
    command.current_dir(workspace.workspace_root.join("benches/peers/go").join(name)).stdout(Stdio::null());
    // Nothing of this machine's own may change what is built.
    command.env("GOFLAGS", "-mod=readonly").env("GOTOOLCHAIN", "local").env("GOWORK", "off");
    let status = supervisor::run(&mut command, GO_LIMIT)?;
    ensure!(
        status.success(),
        "`go build` failed ({status}), for what it said above; it downloads modules the first time"
    );
    Ok(out.into())
}

fn harness(workspace: &Metadata, systems: &[System], in_ci: bool) -> Result<PathBuf> {
    eprintln!("building the Rust harness, the first time for some minutes");
    let mut command = supervisor::command(cargo_program())?;
    command.args(["build", "--release", "--message-format=json-render-diagnostics", "--manifest-path"]);
    command.arg(workspace.workspace_root.join("benches/peers/Cargo.toml"));
    command.arg("--target-dir").arg(workspace.target_directory.join("peers")).current_dir(&workspace.workspace_root);
    command.arg("--features").arg(features(systems).join(","));
    if in_ci {
        command.arg("--locked");
    }
    let mut built = run_build(&mut command)?;
    built.remove(HARNESS).with_context(|| format!("cargo built no program named {HARNESS}"))
}

/// Builds those of the systems that are run: the rivals are what takes long.
fn features(systems: &[System]) -> Vec<&'static str> {
    let feature = |system: &System| match system.kind() {
        Kind::Rust { feature } | Kind::Installed { feature, .. } => feature,
        Kind::Go => None,
    };
    systems.iter().filter_map(feature).collect()
}

/// The version of a program that is in no lock file of ours.
fn version(system: System, program: Option<&Path>) -> Option<String> {
    let mut command = match system.kind() {
        Kind::Rust { .. } => return None,
        Kind::Go => Command::new(find_program("go")?),
        Kind::Installed { .. } => Command::new(program?),
    };
    let output = command.arg(if system.kind() == Kind::Go { "version" } else { "--version" }).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_run_is_built() {
        assert_eq!(features(&[System::Ours, System::Golang, System::Memcached]), Vec::<&str>::new());
        assert_eq!(features(&System::ALL), ["groupcache", "groupcache-ng", "redis"]);
    }

    #[test]
    fn a_program_that_is_not_there_is_not_found() {
        assert_eq!(find_program("no-such-program-on-any-machine"), None);
        assert!(find_program("sh").is_some());
    }
}
