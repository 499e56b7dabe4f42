//! Measurements of the program `check`, and their goals.

use anyhow::Result;

use crate::measure::{Program, number};
use crate::row::Row;

/// Rounds of which a median is worth something.
const MIN_ROUNDS: u64 = 31;

/// The numbers of one of its parts.
pub fn rows(part: &str) -> Result<Vec<Row>> {
    Program::build("check")?.objects(["--only", part])?.iter().map(row).collect()
}

fn row(object: &serde_json::Value) -> Result<Row> {
    let name = object["name"].as_str().unwrap_or_default();
    let mut row = Row::new(name).ours(number(object, "ours")?);
    if let Some(rival) = object["rival"].as_f64() {
        row = row.rival(rival);
    }
    if let Some(ratio) = object["ratio"].as_f64() {
        row = row.ratio(ratio);
    }
    if let Some(rounds) = object["undisturbed_rounds"].as_u64().filter(|rounds| *rounds < MIN_ROUNDS) {
        row = row.note(format!("busy machine: {rounds} undisturbed rounds"));
    }
    Ok(match goal(name) {
        Some(goal) => row.at_most(goal),
        None => row,
    })
}

/// The most that a number may be: of its ratio if it has one.
fn goal(name: &str) -> Option<f64> {
    let of = |text: &str| name.contains(text);
    Some(match name {
        "hit-allocations" => 0.0,
        "ring-largest-share-over-mean" | "fetch-secret-cpu-64" => 1.03,
        "ring-moved-over-ideal" => 1.1,
        "flight-join-and-finish-ns" => 200.0,
        "flight-spawned-call-ns" => 2_000.0,
        "fetch-secret-cpu-1" => 1.05,
        "fetch-tls-cpu-64" => 1.6,
        _ if of("ring-lookup-ns") => 15.0,
        _ if of("hit-awaited") => 1.1,
        // No worse than the map's, but for what a median of such rounds is unsure of.
        _ if of("scaling") => 1.02,
        _ if of("-mean") => 1.15,
        _ if of("hit-") => 1.25,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::row::Verdict;

    #[test]
    fn every_kind_of_number_has_its_goal() {
        let goals = [
            "hit-group-zipf-2",
            "hit-group-mean",
            "hit-cache-uniform-scaling",
            "hit-awaited-zipf",
            "ring-lookup-ns-10",
        ];
        assert_eq!(goals.map(goal), [Some(1.25), Some(1.15), Some(1.02), Some(1.1), Some(15.0)]);
    }

    #[test]
    fn a_ratio_is_what_is_held_against_the_goal() {
        let object = json!({ "name": "hit-group-zipf-1", "ours": 80.0, "rival": 60.0, "ratio": 1.33 });
        assert_eq!(row(&object).unwrap().verdict(), Verdict::Missed);
    }

    #[test]
    fn a_number_of_a_busy_machine_says_so() {
        let object = json!({ "name": "hit-group-zipf-1", "ours": 60.0, "ratio": 1.0, "undisturbed_rounds": 3 });
        assert!(row(&object).unwrap().to_string().ends_with("met (busy machine: 3 undisturbed rounds)"));
    }
}
