//! Resident memory, ours alone: what others take does not change with our code, and is
//! measured by `cargo xtask memory`.

use anyhow::Result;

use crate::measure::{Program, number};
use crate::row::Row;

/// Kinds of values, by the names of `cargo xtask memory --value`.
const KINDS: [&str; 4] = ["100", "1k", "10k", "typed"];

const MAX_RATIO: f64 = 1.05;
const MAX_OVERHEAD_BYTES: f64 = 120.0;

/// Measures the mean over the budgets for each kind of value.
pub fn rows() -> Result<Vec<Row>> {
    let program = Program::build("memory")?;
    let mut rows = Vec::new();
    for kind in KINDS {
        let objects = program.objects(["--json", "--system", "ours", "--value", kind])?;
        let mean = |field| -> Result<f64> {
            let numbers = objects.iter().map(|object| number(object, field));
            Ok(numbers.sum::<Result<f64>>()? / objects.len() as f64)
        };
        rows.push(Row::new(format!("memory-{kind}-gained-over-budget")).ours(mean("ratio")?).at_most(MAX_RATIO));
        let overhead = Row::new(format!("memory-{kind}-overhead-bytes")).ours(mean("overhead_bytes")?);
        rows.push(overhead.at_most(MAX_OVERHEAD_BYTES));
    }
    Ok(rows)
}
