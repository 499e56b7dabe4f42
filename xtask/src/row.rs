//! One number that is to be reached: a line of `cargo xtask bench --check`.

use std::fmt;

use serde_json::{Value, json};

/// A number, what it is compared with, and what it should be. Printed as `name ours rival ratio
/// goal met|MISSED`.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub name: String,
    pub ours: Option<f64>,
    pub rival: Option<f64>,
    /// Ours over the rival's, measured side by side where that says more than the two numbers.
    pub ratio: Option<f64>,
    goal: Goal,
    /// Reason why it was not measured.
    skipped: Option<String>,
    /// A remark on how it was measured.
    note: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Goal {
    None,
    AtMost(f64),
    AtLeast(f64),
}

/// The outcome of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Met,
    Missed,
    Skipped,
}

impl Row {
    /// A row without numbers.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ours: None, rival: None, ratio: None, goal: Goal::None, skipped: None, note: None }
    }

    /// Something that was not measured, and why.
    pub fn skipped(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self { skipped: Some(why.into()), ..Self::new(name) }
    }

    /// Something that could not be measured though it should have been: that is a miss.
    pub fn failed(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self { note: Some(why.into()), ..Self::new(name) }
    }

    pub fn ours(mut self, ours: f64) -> Self {
        self.ours = Some(ours);
        self
    }

    pub fn rival(mut self, rival: f64) -> Self {
        self.rival = Some(rival);
        self
    }

    /// Sets the number that is held against the goal; without it ours is.
    pub fn ratio(mut self, ratio: f64) -> Self {
        self.ratio = Some(ratio);
        self
    }

    pub fn at_most(mut self, goal: f64) -> Self {
        self.goal = Goal::AtMost(goal);
        self
    }

    pub fn at_least(mut self, goal: f64) -> Self {
        self.goal = Goal::AtLeast(goal);
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// The row for programs.
    pub fn json(&self) -> Value {
        let goal = match self.goal {
            Goal::None => Value::Null,
            Goal::AtMost(goal) => json!({ "at_most": goal }),
            Goal::AtLeast(goal) => json!({ "at_least": goal }),
        };
        let verdict = match self.verdict() {
            Verdict::Met => "met",
            Verdict::Missed => "MISSED",
            Verdict::Skipped => "skipped",
        };
        json!({
            "name": self.name,
            "ours": self.ours,
            "rival": self.rival,
            "ratio": self.ratio,
            "goal": goal,
            "verdict": verdict,
            "note": self.skipped.as_ref().or(self.note.as_ref()),
        })
    }

    /// Whether the goal is met by what is printed, to all its digits.
    pub fn verdict(&self) -> Verdict {
        if self.skipped.is_some() {
            return Verdict::Skipped;
        }
        let Some(number) = self.ratio.or(self.ours) else { return Verdict::Missed };
        let met = match self.goal {
            Goal::None => true,
            Goal::AtMost(goal) => number <= goal,
            Goal::AtLeast(goal) => number >= goal,
        };
        if met { Verdict::Met } else { Verdict::Missed }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<f64>| number.map_or_else(|| "-".to_owned(), shown);
        let goal = match self.goal {
            Goal::None => "-".to_owned(),
            Goal::AtMost(goal) => format!("<={}", shown(goal)),
            Goal::AtLeast(goal) => format!(">={}", shown(goal)),
        };
        let verdict = match (self.verdict(), &self.skipped) {
            (Verdict::Met, _) => "met".to_owned(),
            (Verdict::Missed, _) => "MISSED".to_owned(),
            (Verdict::Skipped, why) => format!("skipped: {}", why.as_deref().unwrap_or_default()),
        };
        let (ours, rival, ratio) = (number(self.ours), number(self.rival), number(self.ratio));
        write!(f, "{:<40} {ours:>9} {rival:>9} {ratio:>7} {goal:>8} {verdict}", self.name)?;
        self.note.as_ref().map_or(Ok(()), |note| write!(f, " ({note})"))
    }
}

/// Three digits after the point where they say something.
fn shown(number: f64) -> String {
    match number.abs() {
        0.0 => "0".to_owned(),
        100.0.. => format!("{number:.0}"),
        10.0.. => format!("{number:.1}"),
        _ => format!("{number:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_name_ours_rival_ratio_goal_and_verdict_in_this_order() {
        let row = Row::new("hit").ours(80.0).rival(64.0).ratio(1.25).at_most(1.15);
        let words: Vec<String> = row.to_string().split_whitespace().map(str::to_owned).collect();
        assert_eq!(words, ["hit", "80.0", "64.0", "1.250", "<=1.150", "MISSED"]);
    }

    #[test]
    fn without_a_ratio_ours_is_held_against_the_goal() {
        let verdict = |ours| Row::new("overhead").ours(ours).at_most(120.0).verdict();
        assert_eq!((verdict(120.0), verdict(120.1)), (Verdict::Met, Verdict::Missed));
    }

    #[test]
    fn at_least_is_the_other_way_round() {
        let verdict = |ours| Row::new("points").ours(ours).at_least(4.0).verdict();
        assert_eq!((verdict(4.0), verdict(3.9)), (Verdict::Met, Verdict::Missed));
    }

    #[test]
    fn what_was_not_measured_says_why() {
        let row = Row::skipped("traces", "there are none");
        assert!(row.to_string().ends_with("skipped: there are none") && row.verdict() == Verdict::Skipped);
    }

    #[test]
    fn a_number_that_is_missing_is_a_miss() {
        assert_eq!(Row::new("hit").at_most(1.0).verdict(), Verdict::Missed);
    }
}
