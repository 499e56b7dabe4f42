//! Memory of a whole process: `role --cache-bytes 64MiB`, after it has been asked for more than it
//! can hold.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::origin;
use crate::cargo::Workspace;
use crate::http::Client;
use crate::ports::{self, Block};
use crate::process::child::{ChildGuard, POLL};
use crate::row::Row;

const BUDGET: &str = "64MiB";
/// A quarter more than the budget holds, so that much is evicted.
const VALUES: u64 = 80_000;
/// Requests made before it begins, so that what a process makes at its first ones is there.
const WARM_UP: u64 = 100;
/// Enough to keep a small machine busy, few enough that their buffers do not count.
const CALLERS: u64 = 4;

/// The most that it may gain, in bytes.
const MAX_GAINED: u64 = 80_000_000;

const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// Resident memory that the process gained, in bytes.
pub struct Gained(u64);

impl Gained {
    pub fn json(&self) -> Value {
        json!({
            "system": "role",
            "cache_bytes": BUDGET,
            "values": VALUES,
            "value_bytes": origin::VALUE_BYTES,
            "gained_bytes": self.0,
        })
    }

    pub fn row(&self) -> Row {
        let (gained, most) = (self.0 as f64 / 1e6, MAX_GAINED as f64 / 1e6);
        Row::new("memory-role-64MiB-gained-MB").ours(gained).at_most(most)
    }
}

/// Builds the service, starts one, asks it, and ends it.
pub fn gained() -> Result<Gained> {
    let [program] = Workspace::read()?.build_programs(["role"])?;
    let block = Block::claim(1)?;
    let ports = block.plan.each().next().context("a plan of one node has one node")?;
    let origin = origin::start()?;
    let mut command = Command::new(program);
    let address = |port: u16| format!("127.0.0.1:{port}");
    command.args(["--listen", &address(ports.front), "--peer-listen", &address(ports.peer)]);
    command.args(["--admin-listen", &address(ports.admin), "--self-url", &ports.peer_url()]);
    command.args(["--peers", &ports.peer_url(), "--cache-bytes", BUDGET, "--exit-with-stdin"]);
    command.args(["--origin", &format!("{}/value?key={{key}}", ports::url(origin.port()))]);
    let mut role = ChildGuard::spawn(command.stdout(Stdio::null())).context("cannot start role")?;
    wait_ready(&mut role, &format!("{}/readyz", ports.admin_url()))?;
    let front = ports.front_url();
    ask(&front, "warm", WARM_UP)?;
    let before = resident(role.id())?;
    ask(&front, "key", VALUES)?;
    Ok(Gained(resident(role.id())?.saturating_sub(before)))
}

fn wait_ready(role: &mut ChildGuard, url: &str) -> Result<()> {
    let (client, deadline) = (Client::new(), Instant::now() + READY_TIMEOUT);
    while !client.get(url).is_ok_and(|answer| answer.status == 200) {
        if let Some(status) = role.ended() {
            bail!("role ended ({status}) before it was ready");
        }
        ensure!(Instant::now() < deadline, "role is not ready after {} s", READY_TIMEOUT.as_secs());
        thread::sleep(POLL);
    }
    Ok(())
}

/// Asks for this many different values, by some callers.
fn ask(front: &str, kind: &str, values: u64) -> Result<()> {
    let next = AtomicU64::new(0);
    let caller = || -> Result<()> {
        let client = Client::keeping_connections();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= values {
                return Ok(());
            }
            let answer = client.get(&format!("{front}/raw?name={kind}{number:012}"))?;
            ensure!(answer.status == 200, "role answered {} for value {number}", answer.status);
            ensure!(answer.body.len() == origin::VALUE_BYTES, "value {number} has {} bytes", answer.body.len());
        }
    };
    thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(caller)).collect();
        callers.into_iter().try_for_each(|caller| caller.join().expect("a caller does not panic"))
    })
}

/// Reads the resident memory of a process, in bytes.
#[cfg(target_os = "linux")]
fn resident(process: u32) -> Result<u64> {
    let status = procfs::process::Process::new(process.try_into()?).and_then(|process| process.status());
    let kib = status.context("cannot read what role takes")?.vmrss.context("/proc says no VmRSS")?;
    Ok(kib << 10)
}

#[cfg(not(target_os = "linux"))]
fn resident(_: u32) -> Result<u64> {
    bail!("resident memory is read from /proc, which this system does not have")
}
