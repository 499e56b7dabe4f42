//! Hit ratios on real traces, which are not part of this repository.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cargo::Workspace;
use crate::measure::{Program, number};
use crate::row::Row;

/// A trace at one node, a number of entries, and the least number of points by which ours must be
/// above exact LRU.
const ALONE: [(&str, u64, f64); 4] =
    [("web12", 1_200, 4.0), ("web12", 80, -1.5), ("orm-busy", 3_817, 1.2), ("orm-busy", 80, -1.5)];

/// A trace that is counted by bytes, and 5 % of the bytes of all its keys.
const SIZED: (&str, u64) = ("semicomplete", 28_063_885);

/// Several nodes: a trace, and 5 and 10 % of its keys.
const SHARED: [(&str, [u64; 2]); 2] = [("web12", [687, 1_375]), ("orm-busy", [3_817, 7_634])];
const NODES: [u16; 2] = [3, 10];

/// Fetches over those of golang's rule, and loads.
const MAX_FETCHES: f64 = 0.92;
const MAX_LOADS: f64 = 1.0;

/// All of them, or lines that say which trace is not there.
pub fn rows(dir: Option<&Path>) -> Result<Vec<Row>> {
    let beside = Workspace::read()?.root.join("../shared/traces");
    let dir = dir.unwrap_or(&beside);
    let program = Program::build("hit_ratio")?;
    let mut rows = Vec::new();
    for (trace, entries, points) in ALONE {
        let name = format!("hit-ratio-{trace}-{entries}-points");
        rows.push(match file(dir, trace) {
            Err(why) => Row::skipped(name, why),
            Ok(file) => {
                let runs = Runs::of(&program, &file, &["--entries", &entries.to_string(), "--policy", "default,lru"])?;
                runs.points(name, "hits", "requests")?.at_least(points)
            }
        });
    }
    rows.extend(sized(&program, dir)?);
    for (trace, entries) in SHARED {
        for nodes in NODES {
            rows.extend(shared(&program, dir, trace, entries, nodes)?);
        }
    }
    Ok(rows)
}

fn sized(program: &Program, dir: &Path) -> Result<Vec<Row>> {
    let (trace, bytes) = SIZED;
    let name = |what| format!("hit-ratio-{trace}-{what}-points");
    let file = match file(dir, trace) {
        Err(why) => return Ok(vec![Row::skipped(name("object"), why)]),
        Ok(file) => file,
    };
    let runs = Runs::of(program, &file, &["--bytes", &bytes.to_string(), "--policy", "default,lru"])?;
    Ok(vec![
        runs.points(name("object"), "hits", "requests")?.at_least(0.0),
        runs.points(name("byte"), "bytes_hit", "bytes")?.at_least(0.0),
    ])
}

fn shared(program: &Program, dir: &Path, trace: &str, entries: [u64; 2], nodes: u16) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for entries in entries {
        let name = |what| format!("hot-{trace}-{entries}-x{nodes}-{what}");
        let file = match file(dir, trace) {
            Err(why) => return Ok(vec![Row::skipped(name("fetches"), why)]),
            Ok(file) => file,
        };
        let (entries, nodes) = (entries.to_string(), nodes.to_string());
        let runs = Runs::of(program, &file, &["--entries", &entries, "--nodes", &nodes, "--policy", "default,golang"])?;
        for (what, field, most) in [("fetches", "peer_fetches", MAX_FETCHES), ("loads", "origin_loads", MAX_LOADS)] {
            let (ours, golang) = (runs.number("default", field)?, runs.number("golang", field)?);
            rows.push(Row::new(name(what)).ours(ours).rival(golang).ratio(ours / golang).at_most(most));
        }
    }
    Ok(rows)
}

fn file(dir: &Path, trace: &str) -> Result<PathBuf, String> {
    let file = dir.join(format!("{trace}.bin.zst"));
    if file.is_file() { Ok(file) } else { Err(format!("there is no {}", file.display())) }
}

/// The words of a replay about each policy.
struct Runs(Vec<Value>);

impl Runs {
    fn of(program: &Program, file: &Path, flags: &[&str]) -> Result<Self> {
        let trace = file.to_str().context("the path of a trace is no UTF-8")?;
        program.objects(["--json", "--trace", trace].iter().chain(flags)).map(Runs)
    }

    fn number(&self, policy: &str, field: &str) -> Result<f64> {
        let run = self.0.iter().find(|run| run["policy"] == policy);
        number(run.with_context(|| format!("nothing was said of {policy}"))?, field)
    }

    /// Compares ours and LRU's in percent, and says how far ours is above.
    fn points(&self, name: String, part: &str, whole: &str) -> Result<Row> {
        let percent =
            |policy| Ok::<f64, anyhow::Error>(100.0 * self.number(policy, part)? / self.number(policy, whole)?);
        let (ours, lru) = (percent("default")?, percent("lru")?);
        Ok(Row::new(name).ours(ours).rival(lru).ratio(ours - lru))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::row::Verdict;

    #[test]
    fn points_are_percents_above_lru() {
        let run = |policy, hits| json!({ "policy": policy, "requests": 200, "hits": hits });
        let row = Runs(vec![run("default", 150), run("lru", 142)]).points("t".into(), "hits", "requests").unwrap();
        assert_eq!((row.ours, row.rival, row.ratio), (Some(75.0), Some(71.0), Some(4.0)));
        assert_eq!(row.at_least(4.1).verdict(), Verdict::Missed);
    }

    #[test]
    fn a_trace_that_is_not_there_is_named() {
        assert_eq!(file(Path::new("/nonexistent"), "web12").unwrap_err(), "there is no /nonexistent/web12.bin.zst");
    }
}
