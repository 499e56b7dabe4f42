//! The flags.

use clap::Args;

use super::plan::Mode;
use super::system::System;

/// As many rounds as there is time for, by default.
const ROUNDS: usize = 5;
/// Fewer would be no load, more no comparison: connections are bounded.
const CALLERS_MAX: usize = 4_096;
/// What our node takes from a peer by default.
const VALUE_BYTES_MAX: usize = 32 << 20;

/// Narrows what is compared. Without flags: all of it, within 40 minutes.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Which systems beside ours: golang, groupcache-go, groupcache, groupcache-ng, redis, memcached. All by default.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub systems: Vec<System>,
    /// How many ask at once, for single gets.
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1,64,256", value_parser = callers)]
    pub callers: Vec<usize>,
    /// Sizes of values, such as 100B, 1KB, 1MB (a KB is 1,000 bytes).
    #[arg(long, value_name = "SIZE,..", value_delimiter = ',', default_value = "100B,1KB,10KB,100KB,1MB", value_parser = value_bytes)]
    pub values: Vec<usize>,
    /// single: one key a get; batch: 100 keys a get, by one caller; slow: 64 callers, 1 KB, with 1 % of the keys slow to load and
    /// with none.
    #[arg(long, value_name = "MODE,..", value_delimiter = ',', default_value = "single,batch,slow")]
    pub modes: Vec<Mode>,
    /// How often everything is run. As often as 40 minutes allow, and at most 5 times, by default.
    #[arg(long, value_name = "N", value_parser = rounds)]
    pub rounds: Option<usize>,
    /// How long a run is measured.
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds)]
    pub seconds: f64,
    /// Leave out of medians and ratios what ran while the machine gave it fewer cores than this, such as 1.8 of its 2.
    #[arg(long, value_name = "C", default_value = "0", value_parser = cores)]
    pub cores_min: f64,
    /// All callers of redis on one connection whose client sends what has collected, rather than each on its own.
    #[arg(long)]
    pub redis_multiplexed: bool,
    /// Print one JSON document, and nothing else, on standard output.
    #[arg(long)]
    pub json: bool,
}

impl Options {
    /// The systems to run, ours first: ratios are to ours.
    pub fn systems(&self) -> Vec<System> {
        let wanted =
            |system: &System| *system == System::Ours || self.systems.is_empty() || self.systems.contains(system);
        System::ALL.into_iter().filter(wanted).collect()
    }

    /// How many rounds at most.
    pub fn rounds(&self) -> usize {
        self.rounds.unwrap_or(ROUNDS)
    }
}

fn callers(text: &str) -> Result<usize, String> {
    let callers = text.parse().ok().filter(|callers| (1..=CALLERS_MAX).contains(callers));
    callers.ok_or_else(|| format!("write numbers of callers from 1 to {CALLERS_MAX}, such as 1,64,256"))
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
    let bytes = bytes.filter(|bytes| (1..=VALUE_BYTES_MAX).contains(bytes));
    bytes.ok_or_else(|| format!("write sizes from 1B to {} MB, such as 100B,1KB,1MB", VALUE_BYTES_MAX / 1_000_000))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn options(flags: &str) -> Options {
        Cli::parse_from(["compare"].into_iter().chain(flags.split_whitespace())).options
    }

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
    fn by_default_all_systems_are_compared() {
        assert_eq!(options("").systems(), System::ALL);
    }

    #[test]
    fn ours_is_always_there_for_ratios_are_to_ours() {
        assert_eq!(options("--systems redis,golang").systems(), [System::Ours, System::Golang, System::Redis]);
    }

    #[test]
    fn seconds_are_bounded() {
        assert!(seconds("0").is_err() && seconds("nan").is_err() && seconds("0.3") == Ok(0.3));
    }
}
