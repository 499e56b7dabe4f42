//! The check that nothing is left of a cluster whose xtask was killed with -9.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, test_kill_process};

use super::context::Context;
use crate::ports::Block;
use crate::process::child::{ChildGuard, POLL};
use crate::process::supervisor;

/// Members of the cluster.
const NODES: u16 = 3;
/// Longest wait for the cluster to be ready; everything is built by now, or has ten minutes to be.
const READY_LIMIT: Duration = Duration::from_secs(10 * 60);
/// Longest life of a node after the death of xtask.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Starts a cluster, kills its xtask, and looks for what is left: processes and ports.
pub fn leaves_no_node(context: &Context) -> Result<()> {
    let block = Block::claim(NODES)?;
    let mut command = Command::new(supervisor::own_path()?);
    command.current_dir(&context.workspace.root).stdout(Stdio::piped());
    command.args(["cluster", "--base-port", &block.plan.base().to_string()]);
    let mut xtask = ChildGuard::spawn(&mut command).context("cannot start xtask")?;
    let said = until_ready(&mut xtask)?;
    let ids = node_ids(&said);
    ensure!(ids.len() == usize::from(NODES), "the cluster named {} process ids, not {NODES}", ids.len());
    ensure!(ids.iter().all(|&id| is_running(id)), "a node that is ready is not running");
    // This kills xtask's process group; the nodes have groups of their own.
    xtask.kill();
    let deadline = Instant::now() + END_LIMIT;
    // A process seems gone a moment before the last of its threads lets go of the ports.
    while ids.iter().any(|&id| is_running(id)) || block.plan.check_free().is_err() {
        ensure!(
            Instant::now() < deadline,
            "nodes or their ports are left {} s after xtask was killed",
            END_LIMIT.as_secs()
        );
        thread::sleep(POLL);
    }
    Ok(())
}

/// Reads what the cluster prints up to the line that says it is ready.
fn until_ready(xtask: &mut ChildGuard) -> Result<String> {
    let lines = BufReader::new(xtask.take_stdout().expect("the command's output is piped")).lines();
    let (sender, ready) = mpsc::channel();
    thread::spawn(move || {
        let mut said = String::new();
        for line in lines.map_while(Result::ok) {
            said.push_str(&line);
            said.push('\n');
            if line == format!("ready: {NODES} nodes") {
                let _ = sender.send(said);
                return;
            }
        }
    });
    ready.recv_timeout(READY_LIMIT).context("the cluster was not ready")
}

/// The numbers after `pid`.
fn node_ids(said: &str) -> Vec<u32> {
    let words: Vec<&str> = said.split_whitespace().collect();
    words.windows(2).filter(|pair| pair[0] == "pid").filter_map(|pair| pair[1].parse().ok()).collect()
}

/// Whether a process is there and is not a dead one that nobody has waited for yet.
fn is_running(id: u32) -> bool {
    let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) else { return false };
    test_kill_process(id).is_ok() && !is_zombie(id)
}

#[cfg(target_os = "linux")]
fn is_zombie(id: Pid) -> bool {
    let stat = procfs::process::Process::new(id.as_raw_pid()).and_then(|process| process.stat());
    stat.is_ok_and(|stat| stat.state == 'Z')
}

#[cfg(not(target_os = "linux"))]
fn is_zombie(_: Pid) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_from_the_welcome() {
        assert_eq!(node_ids("node 1  people x  pid 12  log y\nnode 2  pid 345  log\n"), [12, 345]);
    }

    #[test]
    fn we_are_running() {
        assert!(is_running(std::process::id()));
    }

    #[test]
    fn a_child_that_nobody_waited_for_is_not_running() {
        let mut child = Command::new("true").stdout(Stdio::piped()).spawn().unwrap();
        // Its output is closed as it ends; a moment later it is a zombie.
        std::io::copy(child.stdout.as_mut().unwrap(), &mut std::io::sink()).unwrap();
        let deadline = Instant::now() + END_LIMIT;
        while is_running(child.id()) {
            assert!(Instant::now() < deadline, "it ended and still seems to run");
            thread::yield_now();
        }
        child.wait().unwrap();
    }
}
