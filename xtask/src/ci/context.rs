//! The machine and the workspace, as steps know them, and ways to run commands.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::cargo::Workspace;
use crate::process::build::cargo_program;
use crate::process::child::ChildGuard;
use crate::process::supervisor;

/// Longest wait for the last of an ended command's output.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(10);

/// A program that some tests need and that not every machine has.
#[derive(Clone, Copy)]
pub struct Needed {
    /// Its name in `PEERCACHE_REQUIRE`, which turns the skipping of tests without it into a
    /// failure.
    pub name: &'static str,
    /// The programs that must be there.
    pub programs: &'static [&'static str],
    /// The way to have the tests run.
    pub how: &'static str,
}

/// Programs for the tests of the PostgreSQL origin, which start a server of their own.
pub const POSTGRES: Needed = Needed {
    name: "postgres",
    programs: &["initdb", "postgres"],
    how: "no `initdb` and `postgres` on the path or in /usr/lib/postgresql/*/bin; \
          install PostgreSQL (Debian: `apt-get install postgresql`) and they run",
};

/// Programs for the tests with golang/groupcache processes.
pub const GO: Needed = Needed {
    name: "go",
    programs: &["go"],
    how: "no `go` on the path; install Go (Debian: `apt-get install golang`) and they run; \
          the first time they download one module",
};

/// Programs to count the instructions of a hit.
pub const VALGRIND: Needed = Needed { name: "valgrind", programs: &["valgrind"], how: crate::bench::instructions::HOW };

/// The machine and the workspace.
pub struct Context {
    pub workspace: Workspace,
    /// `CI=1` or `CI=true`: what is missing is a failure.
    pub in_ci: bool,
    /// The state of the working tree before the first step; `None` outside a git repository.
    pub tree_before: Option<String>,
}

impl Context {
    /// Looks around, before anything runs.
    pub fn new(workspace: Workspace) -> Result<Self> {
        let in_ci = matches!(env::var("CI").as_deref(), Ok("1" | "true"));
        let mut context = Self { workspace, in_ci, tree_before: None };
        context.tree_before = context.tree_state();
        Ok(context)
    }

    /// Whether tests that need it may not be skipped: always in CI, elsewhere where it is there.
    pub fn requires(&self, needed: Needed) -> bool {
        self.in_ci || is_installed(needed)
    }

    /// Cargo, supervised, at the root of the workspace.
    pub fn cargo<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Result<Command> {
        self.command(cargo_program(), arguments)
    }

    /// Ourselves, as `cargo xtask` runs us.
    pub fn xtask<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Result<Command> {
        self.command(supervisor::own_path()?, arguments)
    }

    /// The tracked and untracked changes of the working tree; `None` outside a git repository.
    pub fn tree_state(&self) -> Option<String> {
        let git = |arguments: &[&str]| {
            let output = capture(&mut self.command("git", arguments).ok()?, Duration::from_secs(60)).ok()?;
            output.status.success().then_some(output.text)
        };
        Some(git(&["status", "--porcelain"])? + &git(&["diff"])?)
    }

    fn command<I>(&self, program: impl AsRef<OsStr>, arguments: I) -> Result<Command>
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        let mut command = supervisor::command(program)?;
        command.args(arguments).current_dir(&self.workspace.root);
        Ok(command)
    }
}

/// Whether the programs are on the path or where Debian keeps PostgreSQL's.
pub fn is_installed(needed: Needed) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut dirs: BTreeSet<PathBuf> = env::split_paths(&path).collect();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    dirs.extend(versions.map(|version| version.path().join("bin")));
    needed.programs.iter().all(|program| dirs.iter().any(|dir| dir.join(program).is_file()))
}

/// Runs a command to its end; anything but success is an error.
pub fn succeed(command: &mut Command, limit: Duration) -> Result<()> {
    let status = supervisor::run(command, limit)?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// A command's standard output and how it ended.
pub struct Captured {
    pub text: String,
    pub status: ExitStatus,
}

/// Runs a command to its end and keeps its standard output.
pub fn capture(command: &mut Command, limit: Duration) -> Result<Captured> {
    watch(command, limit, |_| ())
}

/// Runs a command to its end, keeps its standard output and shows it as it comes.
pub fn capture_shown(command: &mut Command, limit: Duration) -> Result<Captured> {
    watch(command, limit, |line| println!("{line}"))
}

fn watch(command: &mut Command, limit: Duration, see: fn(&str)) -> Result<Captured> {
    let deadline = Instant::now() + limit;
    let mut process = ChildGuard::spawn(command.stdout(Stdio::piped())).context("cannot start a copy of xtask")?;
    let stdout = BufReader::new(process.take_stdout().expect("the command's output is piped"));
    let (sender, text) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        for line in stdout.lines().map_while(Result::ok) {
            see(&line);
            text.push_str(&line);
            text.push('\n');
        }
        let _ = sender.send(text);
    });
    let status = process.wait_until(deadline);
    let status = status.with_context(|| format!("not done after {} s, and killed", limit.as_secs()))?;
    let text = text.recv_timeout(OUTPUT_TIMEOUT).context("it ended, but something it started holds its output open")?;
    Ok(Captured { text, status })
}
