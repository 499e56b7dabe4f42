//! Processes as the kernel sees them: CPU time, memory, and how much of the two cores they could
//! have.

use anyhow::{Context, Result};
use procfs::process::{Process, Stat, Status};
use procfs::{CurrentSI, KernelStats, ticks_per_second};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Number of cores on which everything runs.
pub const CORES: usize = 2;

/// Keeps this thread, and so all that it starts, to the first two cores that it may use. Returns
/// their numbers.
pub fn pin() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(None).context("cannot read the CPU affinity")?;
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).take(CORES).collect();
    let mut set = CpuSet::new();
    cpus.iter().for_each(|&cpu| set.set(cpu));
    sched_setaffinity(None, &set).context("cannot set the CPU affinity")?;
    if cpus.len() < CORES {
        eprintln!("this machine has one core only: what is measured here is not what others measure on two");
    }
    Ok(cpus)
}

/// A moment: what two processes have used, and what was left idle.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// User and system time, in seconds since each began.
    pub client_cpu: f64,
    pub server_cpu: f64,
    /// Idle time of the cores we run on, together, in seconds since the machine began.
    pub idle: f64,
}

impl Moment {
    pub fn now(client: u32, server: u32, cpus: &[usize]) -> Result<Self> {
        Ok(Moment { client_cpu: cpu(client)?, server_cpu: cpu(server)?, idle: idle(cpus)? })
    }
}

/// Resident memory of a process in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub now: u64,
    pub peak: u64,
}

impl Memory {
    pub fn of(process: u32) -> Result<Self> {
        let status = opened(process)?.status().context("cannot read the status of a process")?;
        memory_in(&status).with_context(|| format!("/proc/{process}/status has no VmRSS and VmHWM"))
    }
}

fn memory_in(status: &Status) -> Option<Memory> {
    Some(Memory { now: status.vmrss? << 10, peak: status.vmhwm? << 10 })
}

fn cpu(process: u32) -> Result<f64> {
    let Stat { utime, stime, .. } = opened(process)?.stat().context("cannot read the times of a process")?;
    Ok(seconds(utime + stime))
}

fn opened(process: u32) -> Result<Process> {
    Process::new(process.try_into()?).with_context(|| format!("there is no process {process}"))
}

fn idle(cpus: &[usize]) -> Result<f64> {
    let stats = KernelStats::current().context("cannot read /proc/stat")?;
    idle_ticks_in(&stats, cpus).map(seconds).context("/proc/stat does not list the cores we run on")
}

/// Ticks that these cores were idle or waited for a disk.
///
/// The list is one of cores that are online: a core's number is its place where none before it is
/// off.
fn idle_ticks_in(stats: &KernelStats, cpus: &[usize]) -> Option<u64> {
    let idle = |&cpu: &usize| stats.cpu_time.get(cpu).map(|time| time.idle + time.iowait.unwrap_or(0));
    cpus.iter().map(idle).sum()
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use procfs::{FromReadSI, current_system_info};

    use super::*;

    #[test]
    fn only_our_cores_count_as_idle() {
        let stat = "cpu  9 9 9 99 9 0\ncpu0 1 0 2 30 4 0 0\ncpu1 1 0 2 50 6 0 0\ncpu2 1 0 2 70 8 0 0\n\
                    ctxt 1\nbtime 1\nprocesses 1\n";
        let stats = KernelStats::from_read(stat.as_bytes(), current_system_info()).unwrap();
        assert_eq!(idle_ticks_in(&stats, &[0, 1]), Some(90));
        assert_eq!(idle_ticks_in(&stats, &[2, 3]), None, "there is no fourth core");
    }

    #[test]
    fn this_process_has_a_memory_and_a_time() {
        let memory = Memory::of(std::process::id()).unwrap();
        assert!(memory.now > 1 << 20 && memory.peak >= memory.now, "{memory:?}");
        assert!(Moment::now(std::process::id(), std::process::id(), &[0]).is_ok());
    }
}
