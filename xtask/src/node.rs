//! A node: one process of the example service, its ports and its log.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::http::Client;
use crate::ports::Ports;
use crate::process::child::{ChildGuard, POLL};

/// Longest wait for a started node to say that it is ready.
pub const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for a node to stop when asked: it drains for at most 30 s, and some more for a busy
/// machine.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(35);
/// The part of a log that is shown when its node has ended unasked.
const LOG_TAIL_BYTES: u64 = 4096;
const LOG_TAIL_LINES: usize = 20;

/// All it takes to start a node, and to start it again.
#[derive(Clone)]
pub struct Spec {
    /// Number of the node, counted from 1.
    pub number: u16,
    pub program: PathBuf,
    pub ports: Ports,
    /// The peer list it starts with, itself included.
    pub peers: Vec<String>,
    pub origin: String,
    /// Its standard output and error, appended.
    pub log: PathBuf,
    /// Whether `ROLE_*` variables of our environment reach it. They never override what is set
    /// here.
    pub inherit_settings: bool,
}

impl Spec {
    /// Starts the node. It is not ready yet.
    pub fn start(&self) -> Result<Node> {
        let process = ChildGuard::spawn(&mut self.command()?);
        let process = process.with_context(|| format!("cannot start node {}", self.number))?;
        Ok(Node { number: self.number, ports: self.ports, log: self.log.clone(), process, was_killed: false })
    }

    fn command(&self) -> Result<Command> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("cannot write {}", self.log.display()))?;
        let address = |port: u16| format!("127.0.0.1:{port}");
        let mut command = Command::new(&self.program);
        command.args(["--listen", &address(self.ports.front)]);
        command.args(["--peer-listen", &address(self.ports.peer)]);
        command.args(["--admin-listen", &address(self.ports.admin)]);
        command.args(["--self-url", &self.ports.peer_url()]);
        command.args(["--peers", &self.peers.join(",")]);
        command.args(["--origin", &self.origin]);
        command.arg("--exit-with-stdin");
        if !self.inherit_settings {
            forget_settings(&mut command);
        }
        command.stdout(log.try_clone().context("cannot share a log")?).stderr(Stdio::from(log));
        Ok(command)
    }
}

fn forget_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"ROLE_")) {
        command.env_remove(name);
    }
}

/// A started node. Dropping it kills it.
pub struct Node {
    pub number: u16,
    pub ports: Ports,
    pub log: PathBuf,
    process: ChildGuard,
    was_killed: bool,
}

impl Node {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The status with which the process ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        self.was_killed |= self.ended().is_none();
        self.process.kill();
    }

    /// Whether it was us who ended it.
    pub fn was_killed(&self) -> bool {
        self.was_killed
    }

    /// A sentence with the last lines of the log, for a node that ended though nobody asked it to.
    pub fn describe_end(&self, status: ExitStatus) -> String {
        let Self { number, log, .. } = self;
        let last_lines = log_tail(log).unwrap_or_else(|error| format!("(its log cannot be read: {error})"));
        format!("node {number} ended ({status}); the end of its log {}:\n{last_lines}", log.display())
    }

    fn is_ready(&self, client: &Client) -> bool {
        let answer = client.get(&format!("{}/readyz", self.ports.admin_url()));
        answer.is_ok_and(|answer| answer.status == 200)
    }
}

/// Waits until every node is ready, calling `announce` as each one is. A node that ends before that
/// is an error with the end of its log. `give_up` is asked between looks; when it says so, the wait
/// ends with `false`.
pub fn wait_ready<'a>(
    nodes: impl IntoIterator<Item = &'a mut Node>,
    mut announce: impl FnMut(&Node),
    give_up: impl Fn() -> bool,
) -> Result<bool> {
    let (client, deadline) = (Client::new(), Instant::now() + READY_TIMEOUT);
    let mut waiting: Vec<&mut Node> = nodes.into_iter().collect();
    while !give_up() {
        for node in &mut waiting {
            if let Some(status) = node.ended() {
                bail!("{}", node.describe_end(status));
            }
        }
        waiting.retain(|node| {
            let ready = node.is_ready(&client);
            if ready {
                announce(node);
            }
            !ready
        });
        let Some(slow) = waiting.first() else {
            return Ok(true);
        };
        if Instant::now() >= deadline {
            bail!(
                "node {} is not ready after {} s: {}/readyz does not answer 200; its log is {}",
                slow.number,
                READY_TIMEOUT.as_secs(),
                slow.ports.admin_url(),
                slow.log.display()
            );
        }
        thread::sleep(POLL);
    }
    Ok(false)
}

/// Asks all nodes to stop, side by side, and kills those that do not in time. Returns how each
/// ended, with `None` for one that had to be killed.
pub fn stop<'a>(nodes: impl IntoIterator<Item = &'a mut Node>) -> Vec<(u16, Option<ExitStatus>)> {
    let mut nodes: Vec<&mut Node> = nodes.into_iter().collect();
    nodes.iter_mut().for_each(|node| node.process.terminate());
    let deadline = Instant::now() + STOP_TIMEOUT;
    let mut ends = Vec::new();
    for node in nodes {
        let status = node.process.wait_until(deadline);
        node.kill();
        ends.push((node.number, status));
    }
    ends
}

fn log_tail(path: &Path) -> std::io::Result<String> {
    let mut log = File::open(path)?;
    let start = log.metadata()?.len().saturating_sub(LOG_TAIL_BYTES);
    log.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    log.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
    Ok(last.iter().map(|line| format!("  {line}\n")).collect())
}
