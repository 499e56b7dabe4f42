//! A supervisor for programs that know nothing of us, and shall not outlive us.
//!
//! Our own nodes end when their standard input does (`role --exit-with-stdin`), and the kernel
//! closes our end of that pipe however we die. Cargo knows no such rule. So we start it through a
//! second copy of ourselves, which leads a process group of its own, watches its standard input,
//! and at its end kills the group: cargo, compilers, tests, all.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, io, process, thread};

use anyhow::{Context, Result};
use rustix::process::{Signal, kill_current_process_group, setpgid};

use super::child::ChildGuard;

/// A command that runs `program` under a supervisor. Arguments and environment that are added to it
/// go to the program.
pub fn command(program: impl AsRef<OsStr>) -> Result<Command> {
    let mut command = Command::new(own_path()?);
    command.args([OsStr::new("supervise"), OsStr::new("--"), program.as_ref()]);
    Ok(command)
}

/// Runs a supervised command for at most `limit`.
pub fn run(command: &mut Command, limit: Duration) -> Result<ExitStatus> {
    let mut process = ChildGuard::spawn(command).context("cannot start a copy of xtask")?;
    let status = process.wait_until(Instant::now() + limit);
    status.with_context(|| format!("not done after {} s, and killed", limit.as_secs()))
}

/// Finds the file that this program can be started again from. A `cargo test` that we run may
/// replace our file; on Linux the old one stays reachable.
pub fn own_path() -> Result<PathBuf> {
    let itself = Path::new("/proc/self/exe");
    if itself.exists() {
        return Ok(itself.to_path_buf());
    }
    env::current_exe().context("cannot find the path of xtask itself")
}

/// The watching copy: runs the program, and ends with its exit code or with everything in the
/// group.
pub fn supervise(program: &[OsString]) -> Result<ExitCode> {
    // The one that started us has usually done this already; a group shared with strangers must not
    // be killed.
    setpgid(None, None).or_else(|error| if leads_session() { Ok(()) } else { Err(error) })?;
    let mut child = Command::new(&program[0])
        .args(&program[1..])
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", program[0].display()))?;
    thread::spawn(|| {
        // An error on the pipe means the same as its end: nobody holds the other side.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = kill_current_process_group(Signal::KILL);
    });
    let status = child.wait().with_context(|| format!("cannot wait for {}", program[0].display()))?;
    // As a shell does it: 128 and the number of the signal.
    #[expect(
        clippy::exit,
        reason = "the status of the program that was run is ours, beyond what `ExitCode` takes from `main`"
    )]
    process::exit(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

/// The leader of a session already leads its group, and may not ask for it again.
fn leads_session() -> bool {
    rustix::process::getpgrp() == rustix::process::getpid()
}
