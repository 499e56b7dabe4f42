//! `cargo xtask cluster`: several nodes of the example service on this machine, until Ctrl-C.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::cargo::Workspace;
use crate::http::percent_encode;
use crate::node::{self, Node, Spec};
use crate::ports::Plan;
use crate::process::child::POLL;
use crate::process::supervisor;

/// Exit code of a command that Ctrl-C ended before it was done, as shells have it.
const INTERRUPTED: u8 = 130;

/// Longest filling of the database.
const SEED_TIMEOUT: Duration = Duration::from_secs(60);

/// Builds, starts, says what to try, and waits for a signal.
pub fn run(plan: Plan) -> Result<ExitCode> {
    plan.check_free()?;
    let workspace = Workspace::read()?;
    eprintln!("building the example service (the first time takes minutes)");
    // The demo's origin is built along, so that a tour after this one starts at once.
    let [role, role_seed, _] = workspace.build_programs(["role", "role-seed", "role-origin"])?;
    let stop = stop_flag()?;
    let run_dir = RunDir::claim(&workspace, plan)?;
    let database = run_dir.fill_database(&role_seed, &workspace)?;
    let mut nodes = start(plan, &role, &database, &run_dir)?;
    let announce = |node: &Node| eprintln!("node {} is ready", node.number);
    if !node::wait_ready(&mut nodes, announce, || stop.load(Ordering::Relaxed))? {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    println!("{}", welcome(&nodes, &workspace));
    let lost = wait_for_stop(&mut nodes, &stop);
    stop_nodes(&mut nodes);
    Ok(if lost { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A flag that the first Ctrl-C, SIGTERM or SIGHUP raises. The second ends us at once, and with us
/// the nodes.
fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: the first signal finds the flag down, and raises it.
        flag::register_conditional_shutdown(signal, i32::from(INTERRUPTED), stop.clone())?;
        flag::register(signal, stop.clone())?;
    }
    Ok(stop)
}

/// The directory of a running cluster: its database and its logs.
struct RunDir {
    dir: PathBuf,
    /// Keeps others from making another database under the cluster while it runs.
    _lock: File,
}

impl RunDir {
    /// `target/cluster`; or a directory below it, when a cluster of this workspace on other ports
    /// is using that one.
    fn claim(workspace: &Workspace, plan: Plan) -> Result<Self> {
        let shared = workspace.target.join("cluster");
        let own = shared.join(format!("port-{}", plan.base()));
        for dir in [shared, own] {
            if let Some(lock) = lock(&dir)? {
                return Ok(Self { dir, _lock: lock });
            }
            eprintln!("another cluster is using {}", workspace.shown(&dir));
        }
        bail!("stop one of the clusters that are running")
    }

    fn fill_database(&self, role_seed: &Path, workspace: &Workspace) -> Result<PathBuf> {
        let database = self.dir.join("roles.db");
        eprintln!("filling {}", workspace.shown(&database));
        let mut seed = supervisor::command(role_seed)?;
        seed.arg("--out").arg(&database).stdout(std::io::stderr());
        let status = supervisor::run(&mut seed, SEED_TIMEOUT).context("role-seed")?;
        ensure!(status.success(), "role-seed could not fill {} ({status})", database.display());
        Ok(database)
    }

    /// An empty log for a node.
    fn log(&self, number: u16) -> Result<PathBuf> {
        let log = self.dir.join(format!("node-{number}.log"));
        File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        Ok(log)
    }
}

fn lock(dir: &Path) -> Result<Option<File>> {
    let in_dir = || format!("cannot use {}", dir.display());
    fs::create_dir_all(dir).with_context(in_dir)?;
    let file = File::create(dir.join("lock")).with_context(in_dir)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error).with_context(in_dir),
    }
}

fn start(plan: Plan, role: &Path, database: &Path, run_dir: &RunDir) -> Result<Vec<Node>> {
    let peers: Vec<String> = plan.each().map(|ports| ports.peer_url()).collect();
    let start = |(ports, number)| {
        let spec = Spec {
            number,
            program: role.to_path_buf(),
            ports,
            peers: peers.clone(),
            origin: format!("sqlite:{}", database.display()),
            log: run_dir.log(number)?,
            inherit_settings: true,
        };
        spec.start()
    };
    eprintln!("starting {} nodes", plan.nodes());
    plan.each().zip(1..).map(start).collect()
}

/// The text that people see when all nodes are ready: who is where, and what to try.
fn welcome(nodes: &[Node], workspace: &Workspace) -> String {
    let mut lines = vec![String::new()];
    for node in nodes {
        let (ports, log) = (&node.ports, workspace.shown(&node.log));
        let (people, peers, operators) = (ports.front_url(), ports.peer_url(), ports.admin_url());
        let (number, id) = (node.number, node.id());
        lines
            .push(format!("node {number}  people {people}  peers {peers}  operators {operators}  pid {id}  log {log}"));
    }
    lines.push("\ntry, in another terminal:".into());
    lines.extend(suggestions(nodes).into_iter().map(|(line, why)| format!("  {line:<72} # {why}")));
    lines.push("\nCtrl-C stops all nodes".into());
    lines.push(format!("ready: {} nodes", nodes.len()));
    lines.join("\n")
}

fn suggestions(nodes: &[Node]) -> Vec<(String, &'static str)> {
    let first = &nodes[0].ports;
    let last = &nodes[nodes.len() - 1].ports;
    let (front, admin) = (first.front_url(), first.admin_url());
    let (name, soldier) = (percent_encode("张三"), percent_encode("小兵0042"));
    vec![
        (format!("curl '{front}/role?name=张三'"), "from the database, through the owner"),
        (format!("curl -i '{}/role?name={name}'", last.front_url()), "again, elsewhere: see x-cache"),
        (format!("curl '{front}/raw?name={soldier}'"), "one of the soldiers, 小兵0042: the value alone"),
        (format!("curl -X PUT -d 元帅 '{front}/role?name={name}'"), "a new role, which every node says from now on"),
        (format!("curl '{admin}/owner?key={name}'"), "the member that a key belongs to"),
        (format!("curl '{admin}/peers'"), "who the members are"),
    ]
}

/// Waits for a signal, telling of nodes that end meanwhile. Ends early when none is left. Returns
/// whether any ended.
fn wait_for_stop(nodes: &mut [Node], stop: &AtomicBool) -> bool {
    let all = nodes.len();
    let mut running: Vec<&mut Node> = nodes.iter_mut().collect();
    while !stop.load(Ordering::Relaxed) && !running.is_empty() {
        running.retain_mut(|node| {
            let ended = node.ended();
            if let Some(status) = ended {
                eprintln!("{}", node.describe_end(status).trim_end());
            }
            ended.is_none()
        });
        thread::sleep(POLL);
    }
    running.len() < all
}

fn stop_nodes(nodes: &mut [Node]) {
    let mut running: Vec<&mut Node> = nodes.iter_mut().filter_map(|n| n.ended().is_none().then_some(n)).collect();
    match running.len() {
        0 => eprintln!("no node is left"),
        some => eprintln!("stopping {some} nodes (Ctrl-C again: at once)"),
    }
    let ends = node::stop(running.iter_mut().map(|node| &mut **node));
    for (number, _) in ends.iter().filter(|(_, status)| status.is_none()) {
        eprintln!("node {number} did not stop within {} s and was killed", node::STOP_TIMEOUT.as_secs());
    }
}
