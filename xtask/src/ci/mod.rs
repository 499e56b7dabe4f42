//! `cargo xtask ci`: exactly what CI runs.
//!
//! Every step is taken, whatever became of the ones before it, so that one run tells all that is
//! wrong.

mod context;
mod killed;
mod steps;

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::cargo::Workspace;
use context::Context;

/// The number of slow steps that are named at the end.
const SLOWEST: usize = 10;

/// A check that has a name.
struct Step {
    name: String,
    take: Box<dyn Fn(&Context) -> Outcome>,
}

/// The outcome of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    /// It failed; this went wrong.
    Failed(String),
    /// It was not run; this is why, and how to have it run.
    Skipped(String),
}

impl From<Result<()>> for Outcome {
    fn from(result: Result<()>) -> Self {
        result.map_or_else(|error| Self::Failed(format!("{error:#}")), |()| Self::Passed)
    }
}

/// Takes the steps whose names contain `only`, or all; or lists them.
pub fn run(only: Option<&str>, list: bool) -> Result<ExitCode> {
    let context = Context::new(Workspace::read()?)?;
    let mut steps = steps::all(&context);
    steps.retain(|step| only.is_none_or(|text| step.name.contains(text)));
    ensure!(!steps.is_empty(), "no step has {:?} in its name: see --list", only.unwrap_or_default());
    if list {
        steps.iter().for_each(|step| println!("{}", step.name));
        return Ok(ExitCode::SUCCESS);
    }
    let report = take_all(&steps, &context);
    println!("\n{}", report.text());
    Ok(if report.all_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn take_all(steps: &[Step], context: &Context) -> Report {
    let mut report = Report::default();
    for (number, step) in (1..).zip(steps) {
        println!("\n== {number}/{}: {}", steps.len(), step.name);
        let start = Instant::now();
        let outcome = (step.take)(context);
        let seconds = start.elapsed().as_secs_f64();
        println!("-- {}: {} in {seconds:.1} s", step.name, verdict(&outcome));
        report.lines.push((step.name.clone(), outcome, seconds));
    }
    report
}

fn verdict(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Passed => "passed".to_owned(),
        Outcome::Failed(why) => format!("FAILED ({why})"),
        Outcome::Skipped(why) => format!("skipped ({why})"),
    }
}

/// The outcomes of all steps, in order, and the seconds each took.
#[derive(Default)]
struct Report {
    lines: Vec<(String, Outcome, f64)>,
}

impl Report {
    fn all_well(&self) -> bool {
        self.count(|outcome| matches!(outcome, Outcome::Failed(_))) == 0
    }

    fn count(&self, which: impl Fn(&Outcome) -> bool) -> usize {
        self.lines.iter().filter(|(_, outcome, _)| which(outcome)).count()
    }

    /// The steps that took longest, the slowest first.
    fn slowest(&self) -> Vec<(&str, f64)> {
        let mut times: Vec<(&str, f64)> = self.lines.iter().map(|(name, _, seconds)| (&**name, *seconds)).collect();
        times.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        times.truncate(SLOWEST);
        times
    }

    /// Times, then what failed and was skipped and why, then the slowest steps and the counts on
    /// the last line.
    fn text(&self) -> String {
        let mut text = String::new();
        for (name, _, seconds) in &self.lines {
            let _ = writeln!(text, "{seconds:8.1} s  {name}");
        }
        let troubles = self.lines.iter().filter(|(_, outcome, _)| *outcome != Outcome::Passed);
        for (name, outcome, _) in troubles {
            let _ = match outcome {
                Outcome::Failed(why) => writeln!(text, "failed: {name}: {why}"),
                Outcome::Skipped(why) => writeln!(text, "skipped: {name}: {why}"),
                Outcome::Passed => Ok(()),
            };
        }
        let _ = writeln!(text, "slowest:");
        for (name, seconds) in self.slowest() {
            let _ = writeln!(text, "{seconds:8.1} s  {name}");
        }
        let passed = self.count(|outcome| *outcome == Outcome::Passed);
        let failed = self.count(|outcome| matches!(outcome, Outcome::Failed(_)));
        let skipped = self.count(|outcome| matches!(outcome, Outcome::Skipped(_)));
        let _ = write!(text, "{passed} passed, {failed} failed, {skipped} skipped");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let line = |name: &str, outcome| (name.to_owned(), outcome, 1.0);
        Report {
            lines: vec![
                line("fmt", Outcome::Passed),
                line("tests", Outcome::Failed("exit status: 101".into())),
                line("Go", Outcome::Skipped("no go".into())),
            ],
        }
    }

    #[test]
    fn the_last_line_counts_the_steps() {
        assert_eq!(report().text().lines().last(), Some("1 passed, 1 failed, 1 skipped"));
    }

    #[test]
    fn the_ten_slowest_are_named_before_it() {
        let step = |number: u32| (format!("step {number}"), Outcome::Passed, f64::from(number));
        let text = Report { lines: (1..=12).map(step).collect() }.text();
        let last: Vec<&str> = text.lines().rev().take(12).collect();
        assert_eq!((last[11], last[10].trim(), last[1].trim()), ("slowest:", "12.0 s  step 12", "3.0 s  step 3"));
        assert_eq!(last[0], "12 passed, 0 failed, 0 skipped");
    }

    #[test]
    fn the_skipped_and_the_failed_are_named_with_the_reason() {
        let text = report().text();
        assert!(text.contains("\nskipped: Go: no go\n"), "{text}");
        assert!(text.contains("\nfailed: tests: exit status: 101\n"), "{text}");
    }

    #[test]
    fn one_failure_is_not_all_well() {
        assert!(!report().all_well());
    }
}
