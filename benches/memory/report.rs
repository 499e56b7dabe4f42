//! Output: JSON for programs, tables for people.

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde_json::{Value, json};

use crate::{
    args::{SystemName, ValueName},
    name,
};

/// The memory that one system took for one budget.
#[derive(Clone, Debug)]
pub struct Gained {
    pub system: SystemName,
    pub value: ValueName,
    /// All in bytes.
    pub budget: u64,
    pub gained: u64,
    pub entries: u64,
    /// The weight of the entries' keys and values.
    pub payload: u64,
}

/// The most that ours may gain of its budget, in the mean over the budgets.
const MAX_RATIO: f64 = 1.05;
/// The most bytes that it may take for an entry beside key and value.
const MAX_OVERHEAD: f64 = 120.0;

impl Gained {
    fn ratio(&self) -> f64 {
        self.gained as f64 / self.budget as f64
    }

    fn overhead(&self) -> f64 {
        (self.gained as f64 - self.payload as f64) / self.entries.max(1) as f64
    }

    pub fn json(&self) -> Value {
        json!({
            "system": name(&self.system),
            "value": name(&self.value),
            "budget_bytes": self.budget,
            "gained_bytes": self.gained,
            "entries": self.entries,
            "payload_bytes": self.payload,
            "ratio": self.ratio(),
            "overhead_bytes": self.overhead(),
        })
    }

    pub fn from_json(system: SystemName, value: ValueName, text: &[u8]) -> Result<Self> {
        let object: Value = serde_json::from_slice(text).context("it printed no JSON")?;
        let number = |field: &str| object[field].as_u64().with_context(|| format!("it said no {field}"));
        Ok(Gained {
            system,
            value,
            budget: number("budget_bytes")?,
            gained: number("gained_bytes")?,
            entries: number("entries")?,
            payload: number("payload_bytes")?,
        })
    }
}

/// A table for each kind of value, and how ours does.
pub fn print(all: &[Gained]) {
    for of_value in all.chunk_by(|one, other| one.value == other.value) {
        let systems: Vec<&[Gained]> = of_value.chunk_by(|one, other| one.system == other.system).collect();
        println!("\nvalues: {}; resident memory gained / budget", name(&of_value[0].value));
        println!("{}", table(&systems));
        if let Some(ours) = systems.iter().find(|system| system[0].system == SystemName::Ours) {
            let (ratio, overhead) = means(ours);
            println!("ours, mean ratio {ratio:.3}, goal <= {MAX_RATIO}: {}", verdict(ratio <= MAX_RATIO));
            println!(
                "ours, overhead {overhead:.0} B an entry, goal <= {MAX_OVERHEAD}: {}",
                verdict(overhead <= MAX_OVERHEAD)
            );
        }
    }
}

fn table(systems: &[&[Gained]]) -> Table {
    let mut header = vec!["system".to_owned()];
    header.extend(systems[0].iter().map(|gained| format!("{} MiB", gained.budget >> 20)));
    header.extend(["mean", "overhead, B an entry", "entries"].map(str::to_owned));
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(header);
    for system in systems {
        let (ratio, overhead) = means(system);
        let mut row = vec![name(&system[0].system)];
        row.extend(system.iter().map(|gained| format!("{:.3}", gained.ratio())));
        let entries = system.iter().map(|gained| gained.entries).sum::<u64>() / system.len() as u64;
        row.extend([format!("{ratio:.3}"), format!("{overhead:.0}"), entries.to_string()]);
        table.add_row(row);
    }
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

/// The means of the ratios and of the overheads.
fn means(system: &[Gained]) -> (f64, f64) {
    let count = system.len() as f64;
    (system.iter().map(Gained::ratio).sum::<f64>() / count, system.iter().map(Gained::overhead).sum::<f64>() / count)
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}
