//! Output: JSON for programs, tables for people.

use std::io::{Write, stdout};

use anyhow::Result;
use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use peercache_replay::{Capacity, ReplayCounts, Unit};
use serde_json::json;

use crate::args::{HitRatio, PolicyName};

/// One policy at one size.
pub struct Run {
    pub trace: String,
    pub policy: PolicyName,
    /// The capacity of each node.
    pub capacity: Capacity,
    pub counts: ReplayCounts,
}

pub fn name(policy: PolicyName) -> String {
    policy.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

pub fn print_json(args: &HitRatio, run: &Run) -> Result<()> {
    let counts = &run.counts;
    let mut object = json!({
        "trace": run.trace,
        "policy": name(run.policy),
        "capacity": run.capacity.amount,
        "unit": match run.capacity.unit { Unit::Entries => "entries", Unit::Bytes => "bytes" },
        "requests": counts.requests,
        "hits": counts.hits,
        "hit_ratio": counts.hit_ratio(),
        "bytes": counts.bytes,
        "bytes_hit": counts.bytes_hit,
    });
    if let Some(nodes) = args.nodes {
        object["nodes"] = nodes.into();
        object["requests_per_second"] = args.rate.into();
        object["seed"] = args.seed.into();
        object["peer_fetches"] = counts.peer_fetches.into();
        object["origin_loads"] = counts.origin_loads.into();
    }
    writeln!(stdout(), "{object}")?;
    Ok(())
}

pub fn print_tables(args: &HitRatio, runs: &[Run]) -> Result<()> {
    for of_trace in runs.chunk_by(|one, other| one.trace == other.trace) {
        let Run { trace, capacity, counts, .. } = &of_trace[0];
        writeln!(stdout(), "\n{trace}: {} requests", counts.requests)?;
        if args.nodes.is_some() {
            print_nodes(args, of_trace)?;
            continue;
        }
        print_ratios("hit ratio, %", of_trace, ReplayCounts::hit_ratio)?;
        if capacity.unit == Unit::Bytes {
            print_ratios("byte hit ratio, %", of_trace, ReplayCounts::byte_hit_ratio)?;
        }
    }
    Ok(())
}

/// A line for each size, a column for each policy.
fn print_ratios(title: &str, runs: &[Run], ratio: fn(&ReplayCounts) -> f64) -> Result<()> {
    let sizes: Vec<&[Run]> = runs.chunk_by(|one, other| one.capacity == other.capacity).collect();
    let mut header = vec![title.to_owned()];
    header.extend(sizes[0].iter().map(|run| name(run.policy)));
    let mut table = table(header);
    for size in sizes {
        let mut row = vec![size[0].capacity.to_string()];
        row.extend(size.iter().map(|run| format!("{:.2}", 100.0 * ratio(&run.counts))));
        table.add_row(row);
    }
    print(table)
}

/// A line for each size and policy, and how it compares with golang's rule.
fn print_nodes(args: &HitRatio, runs: &[Run]) -> Result<()> {
    let title = format!("{} nodes, each", args.nodes.unwrap_or_default());
    let header = [&title, "policy", "hits here, %", "peer fetches", "of golang's", "origin loads", "of golang's"];
    let mut table = table(header.map(str::to_owned).to_vec());
    for size in runs.chunk_by(|one, other| one.capacity == other.capacity) {
        let golang = size.iter().find(|run| run.policy == PolicyName::Golang).map(|run| run.counts);
        let share = |part: u64, whole: Option<u64>| match whole {
            None | Some(0) => "-".to_owned(),
            Some(whole) => format!("{:.3}", part as f64 / whole as f64),
        };
        for Run { policy, capacity, counts, .. } in size {
            table.add_row([
                capacity.to_string(),
                name(*policy),
                format!("{:.2}", 100.0 * counts.hit_ratio()),
                counts.peer_fetches.to_string(),
                share(counts.peer_fetches, golang.map(|golang| golang.peer_fetches)),
                counts.origin_loads.to_string(),
                share(counts.origin_loads, golang.map(|golang| golang.origin_loads)),
            ]);
        }
    }
    print(table)
}

fn table(header: Vec<String>) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(header);
    table
}

fn print(mut table: Table) -> Result<()> {
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    writeln!(stdout(), "{table}")?;
    Ok(())
}
