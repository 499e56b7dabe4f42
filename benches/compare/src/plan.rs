//! Settings that are run in a round.

use std::fmt;

use crate::args::{Mode, Options, System};

/// Most rounds by default: as many as there is time for.
const ROUNDS: usize = 5;
/// Keys of a batch.
const BATCH: usize = 100;
/// Gets of which one is slow, in the mode that asks about it.
const SLOW_EVERY: u64 = 100;
/// Callers in that mode, whatever the flags say: it is one question.
const SLOW_CALLERS: usize = 64;
const SLOW_VALUE_BYTES: usize = 1_000;
/// Few enough that values of 1 MB fit in memory.
const MIN_KEYS: usize = 200;
/// Fewest keys of small values, of which there can be more.
const MIN_KEYS_OF_SMALL: usize = 1_000;
const MAX_SMALL: usize = 10_000;

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub callers: usize,
    pub value_bytes: usize,
    /// Keys of one get; 1 for single ones.
    pub batch: usize,
    /// Presence of slow keys, for the question about them.
    pub slow: Option<bool>,
}

impl Options {
    /// The systems to run, ours first: ratios are to ours.
    pub fn systems(&self) -> Vec<System> {
        let wanted =
            |system: &System| *system == System::Ours || self.systems.is_empty() || self.systems.contains(system);
        System::ALL.into_iter().filter(wanted).collect()
    }

    /// The most rounds.
    pub fn rounds(&self) -> usize {
        self.rounds.unwrap_or(ROUNDS)
    }
}

/// All settings of a round.
pub fn cells(options: &Options) -> Vec<Cell> {
    let mut cells = vec![];
    let single = |callers, value_bytes| Cell { callers, value_bytes, batch: 1, slow: None };
    if options.modes.contains(&Mode::Single) {
        let with = |&callers: &usize| options.values.iter().map(move |&value_bytes| single(callers, value_bytes));
        cells.extend(options.callers.iter().flat_map(with));
    }
    if options.modes.contains(&Mode::Batch) {
        cells.extend(options.values.iter().map(|&value_bytes| Cell { batch: BATCH, ..single(1, value_bytes) }));
    }
    if options.modes.contains(&Mode::Slow) {
        let asked = single(SLOW_CALLERS, SLOW_VALUE_BYTES);
        cells.extend([false, true].map(|slow| Cell { slow: Some(slow), ..asked }));
    }
    cells
}

impl Cell {
    /// The number of different keys that are asked for: the same number for each caller, and at
    /// least two batches.
    pub fn keys(self) -> usize {
        let at_once = self.callers * self.batch;
        let least = if self.value_bytes <= MAX_SMALL { MIN_KEYS_OF_SMALL } else { MIN_KEYS };
        least.max(2 * at_once).next_multiple_of(at_once)
    }

    /// The number of gets of which one is for a key that is slow to load; 0 is none.
    pub fn slow_every(self) -> u64 {
        if self.slow == Some(true) { SLOW_EVERY } else { 0 }
    }

    pub fn suits(self, system: System) -> bool {
        self.slow.is_none() || system.loads()
    }

    /// The name of its mode in JSON.
    pub fn mode(self) -> &'static str {
        match self {
            Cell { slow: Some(true), .. } => "slow",
            Cell { slow: Some(false), .. } => "none-slow",
            Cell { batch: 1, .. } => "single",
            _ => "batch",
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let callers = if self.callers == 1 { "1 caller".to_owned() } else { format!("{} callers", self.callers) };
        write!(f, "{callers}, {}", size(self.value_bytes))?;
        match self.mode() {
            "batch" => write!(f, ", {} keys a get", self.batch),
            "slow" => write!(f, ", 1 % of keys slow"),
            "none-slow" => write!(f, ", no key slow"),
            _ => Ok(()),
        }
    }
}

/// A size as people write it.
pub fn size(bytes: usize) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1_000_000) => format!("{} MB", bytes / 1_000_000),
        _ if bytes.is_multiple_of(1_000) => format!("{} KB", bytes / 1_000),
        _ => format!("{bytes} B"),
    }
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

    fn names(flags: &str) -> Vec<String> {
        cells(&options(flags)).iter().map(Cell::to_string).collect()
    }

    #[test]
    fn by_default_every_size_meets_every_number_of_callers() {
        // 3 x 5 single ones, 5 of batches, and 2 about slow keys.
        assert_eq!(names("").len(), 22);
    }

    #[test]
    fn flags_narrow_the_plan() {
        let narrow = names("--callers 1,64 --values 1KB --modes single,batch");
        assert_eq!(narrow, ["1 caller, 1 KB", "64 callers, 1 KB", "1 caller, 1 KB, 100 keys a get"]);
    }

    #[test]
    fn the_question_about_slow_keys_has_one_setting() {
        let slow = names("--callers 1 --values 1MB --modes slow");
        assert_eq!(slow, ["64 callers, 1 KB, no key slow", "64 callers, 1 KB, 1 % of keys slow"]);
    }

    #[test]
    fn every_caller_has_as_many_keys_for_itself() {
        let cell = |callers, value_bytes, batch| Cell { callers, value_bytes, batch, slow: None };
        let keys = [cell(1, 100, 1), cell(1, 1_000_000, 1), cell(256, 1_000, 1), cell(1, 100_000, 100)].map(Cell::keys);
        assert_eq!(keys, [1_000, 200, 1_024, 200]);
    }

    #[test]
    fn by_default_all_systems_are_compared() {
        assert_eq!(options("").systems(), System::ALL);
    }

    #[test]
    fn ours_is_always_there_for_ratios_are_to_ours() {
        assert_eq!(options("--systems redis,golang").systems(), [System::Ours, System::Golang, System::Redis]);
    }
}
