//! The outcome as text.

use std::fmt::Write;

use comfy_table::presets::{ASCII_MARKDOWN, NOTHING};
use comfy_table::{CellAlignment, Table};

use crate::Outcome;
use crate::args::System;
use crate::figures::{Figures, Measure};
use crate::plan::Cell;
use crate::spread::Spread;

/// A table for each setting, then what is asked most: the CPU time of all of them.
pub fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    for &cell in &outcome.cells {
        let _ = writeln!(text, "{}", block(outcome, cell));
    }
    let _ = write!(text, "{}{}{}", slow(outcome), summary(outcome), legend(outcome));
    text
}

fn block(outcome: &Outcome, cell: Cell) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["", "gets/s", "", "CPU s", "", "p50 us", "", "p99 us", "", "RSS MB", ""]);
    table.add_rows(outcome.systems.iter().filter_map(|&system| row(outcome, cell, system)));
    // A figure to the right, and its ratio beside it.
    table.column_iter_mut().skip(1).step_by(2).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    format!("{cell}\n{}\n", table.trim_fmt())
}

fn row(outcome: &Outcome, cell: Cell, system: System) -> Option<Vec<String>> {
    let columns = [
        (Measure::GetsPerSecond, 0, 1.0),
        (Measure::CpuSeconds, 2, 1.0),
        (Measure::P50, 0, 1.0),
        (Measure::P99, 0, 1.0),
        (Measure::Rss, 1, 1e6),
    ];
    let mut row = vec![format!("  {system}")];
    for (measure, digits, unit) in columns {
        let median = outcome.spread(cell, system, measure)?.median / unit;
        let ratio = outcome.ratio(cell, system, measure).filter(|_| system != System::Ours).map(ratio);
        row.extend([format!("{median:.digits$}"), ratio.unwrap_or_default()]);
    }
    Some(row)
}

/// The median, and from where to where.
fn ratio(ratio: Spread) -> String {
    let Spread { min, median, max } = ratio;
    if min == max {
        format!("{}x", short(median))
    } else {
        format!("{}x ({}-{})", short(median), short(min), short(max))
    }
}

/// Two digits that count.
fn short(number: f64) -> String {
    let digits = if number >= 9.95 {
        0
    } else if number >= 0.995 {
        1
    } else {
        2
    };
    format!("{number:.digits$}")
}

fn slow(outcome: &Outcome) -> String {
    let mut text = String::new();
    for &cell in outcome.cells.iter().filter(|cell| cell.slow == Some(true)) {
        let _ = writeln!(text, "p99 of the fast keys, {cell}, against a run with none slow");
        for &system in &outcome.systems {
            if let Some(slowed) = outcome.slowed(cell, system) {
                let _ = writeln!(text, "  {system:14} {}", ratio(slowed));
            }
        }
        text.push('\n');
    }
    text
}

/// Writes the summary in Markdown, to be copied.
fn summary(outcome: &Outcome) -> String {
    let rivals: Vec<System> = outcome.systems.iter().copied().filter(|system| *system != System::Ours).collect();
    let mut table = Table::new();
    let header = ["setting".to_owned(), "ours".to_owned()];
    table.load_style(ASCII_MARKDOWN).set_header(header.into_iter().chain(rivals.iter().map(System::to_string)));
    for &cell in outcome.cells.iter().filter(|cell| cell.slow.is_none()) {
        let ours = outcome.spread(cell, System::Ours, Measure::CpuSeconds);
        let ours = ours.map(|ours| format!("{:.2}", ours.median));
        let times = |system: &System| outcome.ratio(cell, *system, Measure::CpuSeconds).map(ratio);
        let figures = [ours].into_iter().chain(rivals.iter().map(times));
        let figures = figures.map(|figure| figure.unwrap_or_else(|| "-".to_owned()));
        table.add_row([cell.to_string()].into_iter().chain(figures));
    }
    format!(
        "CPU time of client and server per 100,000 gets: ours in seconds, the others as multiples of ours\n\n{table}\n"
    )
}

fn legend(outcome: &Outcome) -> String {
    let cores = Spread::of(outcome.runs.iter().map(|run| run.figures.cores));
    let cores = cores.map_or(String::new(), |cores| {
        format!("; of 2 cores the machine gave {:.2} ({:.2}-{:.2})", cores.median, cores.min, cores.max)
    });
    let mut text = format!(
        "\nmedians of {} rounds; x: the system's figure over ours, median (least-greatest) of the rounds{cores}\n\
         CPU s: seconds of client and server per 100,000 gets; RSS: resident memory of both; \
         a latency is that of a whole batch\n",
        outcome.rounds
    );
    let starved = outcome.runs.iter().filter(|run| run.figures.cores < outcome.cores_min).count();
    if starved > 0 {
        let _ = writeln!(
            text,
            "{starved} of {} runs are left out: they had less than {} cores",
            outcome.runs.len(),
            outcome.cores_min
        );
    }
    for skipped in &outcome.skipped {
        let _ = writeln!(text, "skipped: {}, {}", skipped.name, skipped.why);
    }
    text
}

impl Outcome {
    /// The figures of a system at a setting while the machine gave enough, each with its round.
    pub fn figures(&self, cell: Cell, system: System) -> impl Iterator<Item = (usize, &Figures)> {
        let runs = self.runs.iter().filter(|run| run.figures.cores >= self.cores_min);
        let runs = runs.filter(move |run| run.cell == cell && run.system == system);
        runs.map(|run| (run.round, &run.figures))
    }

    pub fn spread(&self, cell: Cell, system: System, measure: Measure) -> Option<Spread> {
        Spread::of(self.figures(cell, system).map(|(_, figures)| measure.of(figures)))
    }

    /// The system's figure over ours, round by round.
    pub fn ratio(&self, cell: Cell, system: System, measure: Measure) -> Option<Spread> {
        self.over((cell, system), (cell, System::Ours), measure)
    }

    /// The p99 with slow keys over that without, round by round.
    pub fn slowed(&self, cell: Cell, system: System) -> Option<Spread> {
        cell.slow.filter(|slow| *slow)?;
        self.over((cell, system), (Cell { slow: Some(false), ..cell }, system), Measure::P99)
    }

    fn over(&self, one: (Cell, System), other: (Cell, System), measure: Measure) -> Option<Spread> {
        let below = |round| {
            let mut figures = self.figures(other.0, other.1);
            figures.find(|(number, _)| *number == round).map(|(_, figures)| measure.of(figures))
        };
        let ratio = |(round, figures): (usize, &Figures)| Some(measure.of(figures) / below(round)?);
        Spread::of(self.figures(one.0, one.1).filter_map(ratio))
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::figures;
    use super::super::{Run, Skipped};
    use super::*;

    const CELL: Cell = Cell { callers: 64, value_bytes: 1_000, batch: 1, slow: None };
    const SLOW: Cell = Cell { slow: Some(true), ..CELL };
    const NONE_SLOW: Cell = Cell { slow: Some(false), ..CELL };

    fn outcome(runs: &[(usize, Cell, System, u64)]) -> Outcome {
        let run = |&(round, cell, system, gets): &(usize, Cell, System, u64)| Run {
            round,
            cell,
            system,
            figures: figures(gets),
        };
        Outcome {
            rounds: 2,
            cells: vec![CELL, NONE_SLOW, SLOW],
            systems: vec![System::Ours, System::Golang],
            cpus: vec![0, 1],
            cores_min: 0.0,
            runs: runs.iter().map(run).collect(),
            skipped: vec![Skipped {
                system: System::Redis,
                name: "redis".to_owned(),
                why: "it is not there".to_owned(),
            }],
        }
    }

    #[test]
    fn ratios_are_made_within_a_round() {
        // In the second round the machine was slow for both; a ratio of medians would be another.
        let runs = [
            (0, CELL, System::Ours, 400_000),
            (0, CELL, System::Golang, 100_000),
            (1, CELL, System::Ours, 40_000),
            (1, CELL, System::Golang, 20_000),
        ];
        let ratio = outcome(&runs).ratio(CELL, System::Golang, Measure::CpuSeconds);
        assert_eq!(ratio, Some(Spread { min: 2.0, median: 3.0, max: 4.0 }));
    }

    #[test]
    fn a_round_that_ours_missed_makes_no_ratio() {
        let runs = [(0, CELL, System::Golang, 1), (1, CELL, System::Golang, 10), (1, CELL, System::Ours, 40)];
        let ratio = outcome(&runs).ratio(CELL, System::Golang, Measure::CpuSeconds).unwrap();
        assert_eq!((ratio.min, ratio.max), (4.0, 4.0));
    }

    #[test]
    fn a_run_that_had_too_few_cores_is_in_no_median() {
        let mut outcome = outcome(&[(0, CELL, System::Ours, 200_000), (1, CELL, System::Ours, 100_000)]);
        outcome.runs[1].figures.cores = 1.7;
        outcome.cores_min = 1.8;
        assert_eq!(outcome.spread(CELL, System::Ours, Measure::GetsPerSecond).unwrap().max, 200_000.0);
        assert_eq!(outcome.figures(CELL, System::Ours).count(), 1);
        assert!(text(&outcome).contains("1 of 2 runs are left out"));
    }

    #[test]
    fn slow_keys_are_held_against_the_same_system_without() {
        let runs = [(0, NONE_SLOW, System::Ours, 200_000), (0, SLOW, System::Ours, 100_000)];
        assert_eq!(outcome(&runs).slowed(SLOW, System::Ours).unwrap().median, 2.0);
        assert_eq!(outcome(&runs).slowed(CELL, System::Ours), None);
    }

    #[test]
    fn the_text_has_the_figures_their_ratio_and_what_was_skipped() {
        let text = text(&outcome(&[(0, CELL, System::Ours, 200_000), (0, CELL, System::Golang, 50_000)]));
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("| 64 callers, 1 KB | 1.00 | 4.0x |"), "{text}");
        assert!(text.contains("skipped: redis, it is not there"), "{text}");
    }

    #[test]
    fn two_digits_count() {
        assert_eq!([0.123, 0.999, 1.26, 9.96, 123.4].map(short), ["0.12", "1.0", "1.3", "10", "123"]);
    }
}
