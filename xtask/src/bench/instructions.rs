//! Instructions of a hit, counted by valgrind: the same on a busy machine, so that here a
//! regression shows.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::measure::Program;
use crate::row::Row;

/// The most instructions of a hit, by kind: what was counted when it was last made faster, and some
/// percent for compilers to differ by. A change that makes hits faster lowers it, one that raises
/// it says why.
const BOUNDS: [(&str, f64); 3] = [("group", 335.0), ("awaited", 330.0), ("cache", 215.0)];

/// The yardstick, which is not ours to bound.
const YARDSTICK: &str = "dashmap";

/// Hits of two runs, whose difference in instructions is what the hits between take.
const HITS: [u64; 2] = [10_000, 30_000];

/// Reason why nothing can be counted here, and how to have it counted.
pub const HOW: &str = "no `valgrind` on the path; install it (Debian: `apt-get install valgrind`) and it runs";

/// Instructions of a hit of each kind, beside the yardstick's.
pub fn rows() -> Result<Vec<Row>> {
    let name = |kind| format!("instructions-{kind}");
    if Command::new("valgrind").arg("--version").output().is_err() {
        return Ok(BOUNDS.map(|(kind, _)| Row::skipped(name(kind), HOW)).to_vec());
    }
    let program = Program::build("instructions")?;
    let yardstick = a_hit(&program, YARDSTICK)?;
    let row = |(kind, bound)| Ok(Row::new(name(kind)).ours(a_hit(&program, kind)?).rival(yardstick).at_most(bound));
    BOUNDS.map(row).into_iter().collect()
}

fn a_hit(program: &Program, kind: &str) -> Result<f64> {
    let [few, many] = HITS;
    let more = counted(program, kind, many)?.checked_sub(counted(program, kind, few)?);
    Ok(more.context("more hits took fewer instructions")? as f64 / (many - few) as f64)
}

fn counted(program: &Program, kind: &str, hits: u64) -> Result<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(&program.path);
    let output = valgrind.args([kind, &hits.to_string()]).output().context("cannot run valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind: {}: {said}", output.status);
    collected(&said).with_context(|| format!("valgrind did not say what it counted: {said}"))
}

/// Its line is `==123== Collected : 456`.
fn collected(said: &str) -> Option<u64> {
    said.lines().find_map(|line| line.split("Collected :").nth(1)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_valgrind_counted_is_found() {
        let said = "==7== Callgrind\n==7== Events    : Ir\n==7== Collected : 17562545\n";
        assert_eq!(collected(said), Some(17_562_545));
        assert_eq!(collected("==7== Collected : nothing"), None);
    }
}
