//! The flags of `cargo xtask compare`. xtask has this file as well: it refuses a wrong flag before
//! it builds anything.

use std::fmt;
use std::str::FromStr;

use clap::{Args, ValueEnum};

/// Fewer would be no load, more no comparison: connections are bounded.
const MAX_CALLERS: usize = 4_096;
/// The largest value that our node takes from a peer by default.
const MAX_VALUE_BYTES: usize = 32 << 20;

/// Narrows what is compared. Without flags: all of it, within 40 minutes.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Systems beside ours: golang, groupcache-go, groupcache, groupcache-ng, redis,
    /// memcached. All by default.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub systems: Vec<System>,
    /// Numbers of callers at once, for single gets.
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1,64,256", value_parser = callers)]
    pub callers: Vec<usize>,
    /// Sizes of values, such as 100B, 1KB, 1MB (a KB is 1,000 bytes).
    #[arg(long, value_name = "SIZE,..", value_delimiter = ',', value_parser = value_bytes)]
    #[arg(default_value = "100B,1KB,10KB,100KB,1MB")]
    pub values: Vec<usize>,
    /// single: one key a get; batch: 100 keys a get, by one caller; slow: 64 callers, 1 KB, with 1
    /// % of the keys slow to load and with none.
    #[arg(long, value_name = "MODE,..", value_delimiter = ',', default_value = "single,batch,slow")]
    pub modes: Vec<Mode>,
    /// Number of times everything is run. As often as 40 minutes allow, and at most 5 times, by
    /// default.
    #[arg(long, value_name = "N", value_parser = rounds)]
    pub rounds: Option<usize>,
    /// Seconds for which a run is measured.
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds)]
    pub seconds: f64,
    /// Leave out of medians and ratios what ran while the machine gave it fewer cores than this,
    /// such as 1.8 of its 2.
    #[arg(long, value_name = "C", default_value = "0", value_parser = cores)]
    pub cores_min: f64,
    /// All callers of redis on one connection whose client sends what has collected, rather than
    /// each on its own.
    #[arg(long)]
    pub redis_multiplexed: bool,
    /// Print one JSON document, and nothing else, on standard output.
    #[arg(long)]
    pub json: bool,
}

/// The way in which callers ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    Single,
    Batch,
    Slow,
}

/// A system, under the name that it has everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    Ours,
    Golang,
    GroupcacheGo,
    Groupcache,
    GroupcacheNg,
    Redis,
    Memcached,
}

impl System {
    /// All systems in the order of the table, ours first.
    pub const ALL: [System; 7] = [
        System::Ours,
        System::Golang,
        System::GroupcacheGo,
        System::Groupcache,
        System::GroupcacheNg,
        System::Redis,
        System::Memcached,
    ];

    /// Its name in flags, tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            System::Ours => "ours",
            System::Golang => "golang",
            System::GroupcacheGo => "groupcache-go",
            System::Groupcache => "groupcache",
            System::GroupcacheNg => "groupcache-ng",
            System::Redis => "redis",
            System::Memcached => "memcached",
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for System {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || System::ALL.map(System::name).join(", ");
        let found = System::ALL.into_iter().find(|system| system.name() == text);
        found.ok_or_else(|| format!("write names out of: {}", names()))
    }
}

fn callers(text: &str) -> Result<usize, String> {
    let callers = text.parse().ok().filter(|callers| (1..=MAX_CALLERS).contains(callers));
    callers.ok_or_else(|| format!("write numbers of callers from 1 to {MAX_CALLERS}, such as 1,64,256"))
}

fn rounds(text: &str) -> Result<usize, String> {
    let rounds = text.parse().ok().filter(|rounds| (1..=1_000).contains(rounds));
    rounds.ok_or_else(|| "write a number of rounds from 1 to 1000".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=60.0).contains(seconds));
    seconds.ok_or_else(|| "write a number of seconds from 0.1 to 60".to_owned())
}

fn cores(text: &str) -> Result<f64, String> {
    let cores = text.parse().ok().filter(|cores| (0.0..2.0).contains(cores));
    cores.ok_or_else(|| "write a number of cores below 2, such as 1.8".to_owned())
}

fn value_bytes(text: &str) -> Result<usize, String> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &lower[digits.len()..] {
        "" | "b" => Some(1),
        "kb" => Some(1_000),
        "mb" => Some(1_000_000),
        _ => None,
    };
    let bytes = unit.and_then(|unit| digits.parse::<usize>().ok()?.checked_mul(unit));
    let bytes = bytes.filter(|bytes| (1..=MAX_VALUE_BYTES).contains(bytes));
    bytes.ok_or_else(|| format!("write sizes from 1B to {} MB, such as 100B,1KB,1MB", MAX_VALUE_BYTES / 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_decimal() {
        let sizes = ["1", "100B", "1KB", "10kb", "1MB"].map(|text| value_bytes(text).unwrap());
        assert_eq!(sizes, [1, 100, 1_000, 10_000, 1_000_000]);
    }

    #[test]
    fn a_size_that_is_none_is_refused_with_a_sentence() {
        for text in ["", "0", "KB", "1GB", "1.5KB", "-1", "34MB", "99999999999999999999MB", "1 KB"] {
            assert!(value_bytes(text).unwrap_err().starts_with("write sizes from 1B"), "{text:?}");
        }
    }

    #[test]
    fn seconds_are_bounded() {
        assert!(seconds("0").is_err() && seconds("nan").is_err() && seconds("0.3") == Ok(0.3));
    }

    #[test]
    fn names_are_those_of_the_contract() {
        let names = ["ours", "golang", "groupcache-go", "groupcache", "groupcache-ng", "redis", "memcached"];
        assert_eq!(System::ALL.map(System::name), names);
    }

    #[test]
    fn a_name_is_read_back() {
        assert!(System::ALL.iter().all(|system| system.name().parse() == Ok(*system)));
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_right_ones() {
        assert!("valkey".parse::<System>().unwrap_err().contains("redis, memcached"));
    }
}
