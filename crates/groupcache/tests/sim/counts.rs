//! Counts of faults and calls by kind: a run in which nothing happened proves nothing.

use std::fmt;

use crate::{
    facts::{Change, Facts},
    history::{End, Entry, Event, Moment},
};

#[derive(Clone, Copy, Default)]
pub struct Counts {
    kinds: [u64; KINDS.len()],
}

const KINDS: [&str; 20] = [
    "gets answered",
    "origin loads",
    "changes acknowledged",
    "changes missed",
    "drops",
    "messages overtaken",
    "cuts",
    "freezes",
    "restarts",
    "ring changes",
    "removes during a load",
    "sets during a load",
    "removes during a ring change",
    "changes while another",
    "calls cancelled",
    "calls of a node that stopped",
    "loads in calm",
    "sets sent twice",
    "updates during a decoding",
    "probes",
];

impl Counts {
    pub fn of(log: &[Entry], facts: &Facts) -> Self {
        let events = |is: fn(&Event) -> bool| log.iter().filter(|entry| is(&entry.event)).count();
        let changes = |is: &dyn Fn(&Change) -> bool| facts.changes.iter().filter(|change| is(change)).count();
        let ended =
            |is: fn(End) -> bool| facts.calls.iter().filter(|call| call.ended.is_some_and(|(_, end)| is(end))).count();
        let firsts = facts.nodes_ever();
        let kinds = [
            facts.reads.len(),
            facts.loads.len(),
            changes(&|change| matches!(change.ended, Some((_, End::Ok)))),
            changes(&|change| matches!(change.ended, Some((_, End::Missed(_))))),
            events(|event| matches!(event, Event::Dropped { .. })),
            events(|event| matches!(event, Event::Overtook { .. })),
            events(|event| matches!(event, Event::Cut { .. })),
            events(|event| matches!(event, Event::Frozen { .. })),
            events(|event| matches!(event, Event::Up { .. })) - firsts,
            // A node has its first ring from its start.
            events(|event| matches!(event, Event::Ring { .. })) - events(|event| matches!(event, Event::Up { .. })),
            changes(&|change| change.set.is_none() && during_a_load(facts, change)),
            changes(&|change| change.set.is_some() && during_a_load(facts, change)),
            changes(&|change| change.set.is_none() && ring_changed(log, change)),
            changes(&|change| during_another(facts, change)),
            ended(|end| end == End::Cancelled),
            ended(|end| end == End::Died),
            facts.loads.iter().filter(|load| facts.calm_at(load.begun).is_some()).count(),
            events(|event| matches!(event, Event::Repeated { .. })),
            events(|event| matches!(event, Event::SlowDecode { .. })),
            events(|event| matches!(event, Event::Probed { .. })),
        ];
        Counts { kinds: kinds.map(|count| count as u64) }
    }

    pub fn plus(mut self, other: Counts) -> Self {
        self.kinds.iter_mut().zip(other.kinds).for_each(|(sum, count)| *sum += count);
        self
    }

    /// The kinds that have not happened once.
    pub fn missing(&self) -> String {
        let missing: Vec<&str> =
            KINDS.iter().zip(self.kinds).filter(|(_, count)| *count == 0).map(|(kind, _)| *kind).collect();
        missing.join(", ")
    }
}

fn during_a_load(facts: &Facts, change: &Change) -> bool {
    let in_flight =
        |begun: Moment, ended: Option<Moment>| begun < change.begun && ended.is_none_or(|at| at > change.begun);
    facts
        .loads
        .iter()
        .any(|load| change.keys.has(load.item) && in_flight(load.begun, load.ended.map(|(ended, _)| ended)))
}

fn ring_changed(log: &[Entry], change: &Change) -> bool {
    let Some((ended, _)) = change.ended else { return false };
    log[change.begun.seq..ended.seq].iter().any(|entry| matches!(entry.event, Event::Ring { .. }))
}

fn during_another(facts: &Facts, change: &Change) -> bool {
    let begun = change.begun;
    let in_flight = |other: &Change| other.begun < begun && other.ended.is_some_and(|(ended, _)| ended > begun);
    facts.changes.iter().any(|other| {
        other.keys.group == change.keys.group && other.keys.bits & change.keys.bits != 0 && in_flight(other)
    })
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, (kind, count)) in KINDS.iter().zip(self.kinds).enumerate() {
            let comma = if nth == 0 { "" } else { ", " };
            write!(f, "{comma}{count} {kind}")?;
        }
        Ok(())
    }
}
