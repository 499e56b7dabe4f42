//! A child process that ends with the test.

use std::{
    fs::File,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use super::within;

/// A process that does not outlive the test. Its standard error goes to a file, which is shown if
/// the test fails.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    _dir: TempDir,
}

impl Process {
    /// Starts it with its standard input open, and closed at the death of this process.
    pub fn start(name: impl Into<String>, mut command: Command) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("stderr");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&log).unwrap()).kill_on_drop(true);
        let name = name.into();
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        Process { name, child, log, _dir: dir }
    }

    /// The next line on its standard output.
    pub async fn line(&mut self) -> String {
        let mut line = String::new();
        let stdout = self.child.stdout.as_mut().expect("it is piped");
        // The programs read here write one line and no more, so nothing is lost with the reader.
        within(&format!("a line from {}", self.name), BufReader::new(stdout).read_line(&mut line)).await.unwrap();
        line.trim_end().to_owned()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.id().cast_signed()).unwrap(), signal).unwrap();
    }

    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// One of the counts of memory that Linux keeps, in bytes: `VmRSS` is that of now, `VmHWM` the
    /// highest so far. 0 on other systems.
    pub fn memory_bytes(&self, count: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(count)?.strip_prefix(':'));
        let kib: u64 = line.unwrap_or("0 kB").trim().trim_end_matches(" kB").parse().unwrap();
        kib << 10
    }

    /// Whether all its threads have obeyed a signal to stop. On systems other than Linux the answer
    /// is always true.
    pub fn is_stopped(&self) -> bool {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.id())) else { return true };
        let mut states = threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap());
        states.all(|state| state.rsplit_once(") ").unwrap().1.starts_with('T'))
    }

    /// Lets its standard input end.
    pub fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    pub async fn exited(&mut self) -> ExitStatus {
        // Waiting closes the standard input, which some take as an order to exit.
        let stdin = self.child.stdin.take();
        let status = within(&format!("the exit of {}", self.name), self.child.wait()).await.unwrap();
        drop(stdin);
        status
    }

    /// Whether it has ended.
    pub fn is_gone(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Kills it as `kill -9` does.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    pub fn stderr(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- {} said:\n{}", self.name, self.stderr());
        }
    }
}
