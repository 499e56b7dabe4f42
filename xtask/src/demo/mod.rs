//! `cargo xtask cluster --demo`: a tour of a three-node cluster that checks what it shows.

mod origin;
mod steps;
mod tour;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cargo::Workspace;
use crate::node::{self, Node, Spec};
use crate::ports::{Block, Plan};
use origin::Origin;
use steps::{STEPS, Seen, Step};
use tour::Tour;

/// Members of the tour's cluster.
const NODES: u16 = 3;
/// The node that gets a wrong peer list, counted from 1.
const SABOTAGED: usize = 3;
/// Longest tour, from the first node's start on. It usually takes a few seconds.
const TOUR_TIMEOUT: Duration = Duration::from_secs(180);

/// Builds, starts, goes through all steps. Succeeds only if all held.
pub fn run(sabotage: bool) -> Result<ExitCode> {
    let workspace = Workspace::read()?;
    eprintln!("building the example service (the first time takes minutes)");
    let [role, _, role_origin] = workspace.build_programs(["role", "role-seed", "role-origin"])?;
    let block = Block::claim(NODES)?;
    let dir = workspace.target.join("cluster").join(format!("demo-{}", block.plan.base()));
    make_empty(&dir)?;
    let now = Watchdog::start();
    let origin = Origin::start(&role_origin)?;
    let specs = specs(block.plan, &role, &origin, &dir, sabotage);
    println!(
        "{} nodes on free ports, one origin that counts; logs, kept if a step fails, in {}",
        specs.len(),
        workspace.shown(&dir)
    );
    let result = start(&specs).and_then(|nodes| go_through(&mut Tour::new(specs, nodes, origin), &now));
    if matches!(result, Ok(true)) {
        // Logs are for those who ask why a step failed.
        let _ = fs::remove_dir_all(&dir);
    }
    Ok(if result? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn make_empty(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))
}

fn specs(plan: Plan, role: &Path, origin: &Origin, dir: &Path, sabotage: bool) -> Vec<Spec> {
    let peers: Vec<String> = plan.each().map(|ports| ports.peer_url()).collect();
    let spec = |(ports, number)| Spec {
        number,
        program: PathBuf::from(role),
        ports,
        peers: peers.clone(),
        origin: origin.template(),
        log: dir.join(format!("node-{number}.log")),
        inherit_settings: false,
    };
    let mut specs: Vec<Spec> = plan.each().zip(1..).map(spec).collect();
    if sabotage {
        // It has not heard of the first node, and gives that one's keys to others.
        specs[SABOTAGED - 1].peers.remove(0);
        println!("sabotage: node {SABOTAGED} starts with a wrong peer list");
    }
    specs
}

fn start(specs: &[Spec]) -> Result<Vec<Node>> {
    let mut nodes: Vec<Node> = specs.iter().map(Spec::start).collect::<Result<_>>()?;
    node::wait_ready(&mut nodes, |_| (), || false)?;
    Ok(nodes)
}

/// Takes one step after the other, up to the first that does not hold. Returns whether all did.
fn go_through(tour: &mut Tour, now: &Watchdog) -> Result<bool> {
    for (number, step) in (1..).zip(STEPS) {
        let title = format!("step {number}: {}", step.what);
        now.doing(&title);
        let Seen { held, text } = (step.take)(tour).unwrap_or_else(|error| Seen::failed(format!("{error:#}")));
        let verdict = if held { "ok" } else { "FAILED" };
        println!("{title} — expected {}, saw {text}: {verdict}", step.expected);
        if !held {
            eprintln!("{}", failure(number, step, tour));
            return Ok(false);
        }
    }
    println!("all {} steps held", STEPS.len());
    Ok(true)
}

fn failure(number: usize, step: &Step, tour: &mut Tour) -> String {
    let mut lines = tour.obituaries();
    let left = STEPS.len() - number;
    lines.push(format!("the tour failed at step {number}: {}; {left} steps were not taken", step.what));
    lines.join("\n")
}

/// Ends us, and with us the nodes, when the tour takes too long. It knows what the tour is doing.
struct Watchdog {
    doing: Arc<Mutex<String>>,
}

impl Watchdog {
    fn start() -> Self {
        let doing = Arc::new(Mutex::new("starting the nodes".to_owned()));
        let watched = doing.clone();
        thread::spawn(move || {
            thread::sleep(TOUR_TIMEOUT);
            let doing = watched.lock().unwrap_or_else(PoisonError::into_inner);
            eprintln!("the tour failed at {doing}: not done {} s after the start: FAILED", TOUR_TIMEOUT.as_secs());
            process::exit(1);
        });
        Self { doing }
    }

    fn doing(&self, what: &str) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = what.to_owned();
    }
}
