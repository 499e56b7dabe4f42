//! The outcome as one document.

use serde_json::{Map, Value, json};

use crate::Outcome;
use crate::args::Options;
use crate::args::System;
use crate::build::Programs;
use crate::figures::Measure;
use crate::plan::Cell;
use crate::run::{CONNECTIONS, THREADS};

/// Everything, with the setting it was taken at.
pub fn document(options: &Options, programs: &Programs, outcome: &Outcome) -> Value {
    let skipped = outcome.skipped.iter().map(|skipped| json!({ "name": skipped.name, "why": skipped.why }));
    json!({
        "settings": settings(options, programs, outcome),
        "results": results(outcome),
        "runs": runs(outcome),
        "skipped": skipped.collect::<Vec<_>>(),
    })
}

fn settings(options: &Options, programs: &Programs, outcome: &Outcome) -> Value {
    let systems: Map<String, Value> =
        outcome.systems.iter().map(|system| (system.to_string(), system.description().into())).collect();
    let versions =
        programs.each().filter_map(|program| Some((program.system.to_string(), program.version.clone()?.into())));
    let redis_client =
        if options.redis_multiplexed { "one multiplexed connection" } else { "a connection for each caller" };
    json!({
        "systems": systems,
        "versions": versions.collect::<Map<String, Value>>(),
        "callers": options.callers,
        "value_bytes": options.values,
        "rounds": outcome.rounds,
        "seconds_per_run": options.seconds,
        "threads_per_process": THREADS,
        "connections_max": CONNECTIONS,
        "redis_client": redis_client,
        "cpus": outcome.cpus,
        "cores_min": outcome.cores_min,
        "ratio": "the system's figure divided by ours in the same round",
    })
}

/// One object for each system at each setting: medians, and the spread of each ratio to ours.
fn results(outcome: &Outcome) -> Vec<Value> {
    let mut results = vec![];
    for &cell in &outcome.cells {
        for &system in &outcome.systems {
            if let Some(figures) = figures(outcome, cell, system) {
                let mut result = head(cell, system);
                result.extend(figures);
                results.push(Value::Object(result));
            }
        }
    }
    results
}

fn head(cell: Cell, system: System) -> Map<String, Value> {
    let fields = [
        ("system", json!(system.name())),
        ("mode", json!(cell.mode())),
        ("callers", json!(cell.callers)),
        ("value_bytes", json!(cell.value_bytes)),
        ("batch", json!(cell.batch)),
        ("keys", json!(cell.keys())),
        ("slow_every", json!(cell.slow_every())),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn figures(outcome: &Outcome, cell: Cell, system: System) -> Option<Map<String, Value>> {
    let mut fields = Map::new();
    let (mut spreads, mut ratios) = (Map::new(), Map::new());
    for measure in Measure::ALL {
        let spread = outcome.spread(cell, system, measure)?;
        fields.insert(measure.name().to_owned(), spread.median.into());
        spreads.insert(measure.name().to_owned(), spread.to_json());
        if let Some(ratio) = outcome.ratio(cell, system, measure) {
            ratios.insert(measure.name().to_owned(), ratio.to_json());
        }
    }
    let rounds = outcome.figures(cell, system).count();
    let against_none_slow = outcome.slowed(cell, system).map(|ratio| ratio.to_json());
    fields.extend([
        ("rounds".to_owned(), rounds.into()),
        ("spread".to_owned(), spreads.into()),
        ("ratio_to_ours".to_owned(), ratios.into()),
    ]);
    fields.extend(against_none_slow.map(|ratio| ("p99_to_none_slow".to_owned(), ratio)));
    Some(fields)
}

fn runs(outcome: &Outcome) -> Vec<Value> {
    let run = |run: &super::Run| {
        let mut fields = head(run.cell, run.system);
        fields.insert("round".to_owned(), (run.round + 1).into());
        if let Value::Object(figures) = run.figures.to_json() {
            fields.extend(figures);
        }
        Value::Object(fields)
    };
    outcome.runs.iter().map(run).collect()
}
