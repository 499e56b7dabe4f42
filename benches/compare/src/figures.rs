//! Figures of a run.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::processes::{Memory, Moment};

/// A little less than all, for what is counted while the last of the warm-up is on its way.
const MIN_CROSSED: f64 = 0.99;

/// The figures of one run.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Keys that were got.
    pub gets: u64,
    pub seconds: f64,
    /// Latency of single gets, or of whole batches; without those of keys that are slow on purpose.
    pub p50_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
    /// Keys that came from the server, as the system itself counts them.
    pub crossed: u64,
    /// Gets of keys that are slow on purpose.
    pub slow: u64,
    pub client_cpu: f64,
    pub server_cpu: f64,
    pub client_memory: Memory,
    pub server_memory: Memory,
    /// The cores that these two processes had or could have had; what is missing went to others.
    pub cores: f64,
}

impl Figures {
    /// Takes the figures from the client's last line and what was seen of the processes before and
    /// after.
    pub fn read(line: &Value, before: Moment, after: Moment, memory: [Memory; 2], wall: f64) -> Result<Self> {
        let number =
            |name: &str| line[name].as_f64().with_context(|| format!("the client's line has no {name}: {line}"));
        let count =
            |name: &str| line[name].as_u64().with_context(|| format!("the client's line has no {name}: {line}"));
        let client_cpu = after.client_cpu - before.client_cpu;
        let server_cpu = after.server_cpu - before.server_cpu;
        let figures = Figures {
            gets: count("gets")?,
            seconds: number("seconds")?,
            p50_us: number("p50_us")?,
            p99_us: number("p99_us")?,
            max_us: number("max_us")?,
            crossed: count("crossed")?,
            slow: count("slow")?,
            client_cpu,
            server_cpu,
            client_memory: memory[0],
            server_memory: memory[1],
            cores: (client_cpu + server_cpu + after.idle - before.idle) / wall,
        };
        ensure!(figures.gets > 0, "nothing was got");
        let (crossed, gets) = (figures.crossed, figures.gets);
        ensure!(crossed as f64 >= MIN_CROSSED * gets as f64, "only {crossed} of {gets} gets went to the server");
        Ok(figures)
    }

    pub fn gets_per_second(&self) -> f64 {
        self.gets as f64 / self.seconds
    }

    /// Adds up client and server.
    pub fn cpu_seconds_per_100k(&self) -> f64 {
        (self.client_cpu + self.server_cpu) * 1e5 / self.gets as f64
    }

    /// Adds up client and server.
    pub fn memory(&self) -> u64 {
        self.client_memory.now + self.server_memory.now
    }

    pub fn to_json(&self) -> Value {
        json!({
            "gets": self.gets,
            "seconds": self.seconds,
            "gets_per_second": self.gets_per_second(),
            "p50_us": self.p50_us,
            "p99_us": self.p99_us,
            "max_us": self.max_us,
            "crossed": self.crossed,
            "slow_gets": self.slow,
            "client_cpu_seconds": self.client_cpu,
            "server_cpu_seconds": self.server_cpu,
            "cpu_seconds_per_100k": self.cpu_seconds_per_100k(),
            "client_rss_bytes": self.client_memory.now,
            "client_rss_peak_bytes": self.client_memory.peak,
            "server_rss_bytes": self.server_memory.now,
            "server_rss_peak_bytes": self.server_memory.peak,
            "cores": self.cores,
        })
    }
}

/// A figure that systems are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    GetsPerSecond,
    CpuSeconds,
    P50,
    P99,
    Rss,
    RssPeak,
}

impl Measure {
    pub const ALL: [Measure; 6] =
        [Measure::GetsPerSecond, Measure::CpuSeconds, Measure::P50, Measure::P99, Measure::Rss, Measure::RssPeak];

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Measure::GetsPerSecond => "gets_per_second",
            Measure::CpuSeconds => "cpu_seconds_per_100k",
            Measure::P50 => "p50_us",
            Measure::P99 => "p99_us",
            Measure::Rss => "rss_bytes",
            Measure::RssPeak => "rss_peak_bytes",
        }
    }

    pub fn of(self, figures: &Figures) -> f64 {
        match self {
            Measure::GetsPerSecond => figures.gets_per_second(),
            Measure::CpuSeconds => figures.cpu_seconds_per_100k(),
            Measure::P50 => figures.p50_us,
            Measure::P99 => figures.p99_us,
            Measure::Rss => figures.memory() as f64,
            Measure::RssPeak => (figures.client_memory.peak + figures.server_memory.peak) as f64,
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Two CPU seconds in one second, half by each.
    pub fn figures(gets: u64) -> Figures {
        let moment = |cpu| Moment { client_cpu: cpu, server_cpu: cpu, idle: 0.0 };
        read(&line(gets, gets), moment(1.0), moment(2.0)).unwrap()
    }

    fn line(gets: u64, crossed: u64) -> Value {
        let latency = 1e6 / gets as f64;
        json!({
            "gets": gets,
            "seconds": 1.0,
            "p50_us": latency,
            "p99_us": 2.0 * latency,
            "max_us": 3.0 * latency,
            "crossed": crossed,
            "slow": 0,
        })
    }

    fn read(line: &Value, before: Moment, after: Moment) -> Result<Figures> {
        Figures::read(line, before, after, [Memory { now: 1 << 20, peak: 2 << 20 }; 2], 1.0)
    }

    #[test]
    fn cpu_is_that_of_both_processes_per_100k() {
        assert_eq!(figures(50_000).cpu_seconds_per_100k(), 4.0);
    }

    #[test]
    fn cores_are_what_was_used_and_what_was_left() {
        let before = Moment { client_cpu: 0.0, server_cpu: 0.0, idle: 7.0 };
        let after = Moment { client_cpu: 0.5, server_cpu: 0.75, idle: 7.25 };
        assert_eq!(read(&line(1, 1), before, after).unwrap().cores, 1.5);
    }

    #[test]
    fn gets_that_were_answered_by_the_client_are_no_run() {
        let moment = Moment { client_cpu: 0.0, server_cpu: 0.0, idle: 0.0 };
        let error = read(&line(100, 97), moment, moment).unwrap_err();
        assert_eq!(error.to_string(), "only 97 of 100 gets went to the server");
    }

    #[test]
    fn a_line_without_a_figure_is_no_run() {
        let moment = Moment { client_cpu: 0.0, server_cpu: 0.0, idle: 0.0 };
        assert!(read(&json!({ "gets": 1 }), moment, moment).is_err());
    }
}
