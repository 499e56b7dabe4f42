//! What the kernel says of processes: CPU time, memory, and how much of the two cores they could have.

use std::fs;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// On how many cores everything runs.
pub const CORES: usize = 2;

/// Keeps this thread, and so all that it starts, to the first two cores that it may use. Returns their numbers.
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
    /// Of the cores we run on, together, in seconds since the machine began.
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
        let path = format!("/proc/{process}/status");
        let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        memory_in(&status).with_context(|| format!("{path} has no VmRSS and VmHWM"))
    }
}

fn memory_in(status: &str) -> Option<Memory> {
    let bytes = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    };
    Some(Memory { now: bytes("VmRSS")?, peak: bytes("VmHWM")? })
}

fn cpu(process: u32) -> Result<f64> {
    let path = format!("/proc/{process}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let ticks = cpu_ticks_in(&stat).with_context(|| format!("cannot make sense of {path}"))?;
    Ok(ticks as f64 / ticks_per_second())
}

/// utime and stime, the 14th and 15th field. The second is a name in parentheses, and may hold spaces and some more of them.
fn cpu_ticks_in(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn idle(cpus: &[usize]) -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    Ok(idle_ticks_in(&stat, cpus) as f64 / ticks_per_second())
}

/// Idle and waiting for a disk, the 4th and 5th number of a core's line.
fn idle_ticks_in(stat: &str, cpus: &[usize]) -> u64 {
    let of_cpu = |line: &str| -> Option<u64> {
        let mut fields = line.strip_prefix("cpu")?.split(' ');
        let number: usize = fields.next()?.parse().ok()?;
        let idle = fields.skip(3).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        cpus.contains(&number).then_some(idle)
    };
    stat.lines().filter_map(of_cpu).sum()
}

fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_a_nasty_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 150 25 7 9 20 0 4 0 100";
        assert_eq!(cpu_ticks_in(stat), Some(175));
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "Name:\tx\nVmPeak:\t  900 kB\nVmHWM:\t    20 kB\nVmRSS:\t    10 kB\n";
        assert_eq!(memory_in(status), Some(Memory { now: 10_240, peak: 20_480 }));
    }

    #[test]
    fn only_our_cores_count_as_idle() {
        let stat = "cpu  9 9 9 99 9 0\ncpu0 1 0 2 30 4 0 0\ncpu1 1 0 2 50 6 0 0\ncpu11 1 0 2 70 8 0 0\nintr 5\n";
        assert_eq!(idle_ticks_in(stat, &[0, 1]), 90);
    }

    #[test]
    fn this_process_has_a_memory_and_a_time() {
        let memory = Memory::of(std::process::id()).unwrap();
        assert!(memory.now > 0 && memory.peak >= memory.now, "{memory:?}");
        assert!(Moment::now(std::process::id(), std::process::id(), &[0]).is_ok());
    }
}
