//! A history put in order: the beginning and end of each load, change and read, and the members
//! that each node saw.

use std::collections::HashMap;

use crate::history::{End, Entry, Event, Got, Item, Keys, LoadEnd, Mark, Moment, Nodes, What};

#[derive(Default)]
pub struct Facts {
    pub loads: Vec<Load>,
    pub changes: Vec<Change>,
    pub reads: Vec<Read>,
    pub calls: Vec<Call>,
    /// The beginnings and ends of calm times.
    pub calms: Vec<(Moment, Moment)>,
    pub settled: Option<Moment>,
    /// The rings and starts of each node, in order.
    nodes: Vec<NodeFacts>,
    loads_by_mark: HashMap<Mark, usize>,
    sets_by_mark: HashMap<Mark, usize>,
    calls_by_number: HashMap<u32, usize>,
    changes_by_number: HashMap<u32, usize>,
}

pub struct Load {
    pub mark: Mark,
    pub item: Item,
    pub node: u8,
    pub begun: Moment,
    pub ended: Option<(Moment, LoadEnd)>,
}

/// A remove, a clear or a set.
pub struct Change {
    pub node: u8,
    pub keys: Keys,
    pub set: Option<Set>,
    pub begun: Moment,
    pub ended: Option<(Moment, End)>,
}

#[derive(Clone, Copy)]
pub struct Set {
    pub mark: Mark,
    /// The owner in the setter's ring when the set began.
    pub owner: u8,
}

/// One answer to a get.
pub struct Read {
    pub node: u8,
    pub item: Item,
    pub begun: Moment,
    pub answered: Moment,
    pub got: Got,
}

pub struct Call {
    pub node: u8,
    pub what: What,
    pub begun: Moment,
    pub ended: Option<(Moment, End)>,
}

#[derive(Default, Clone)]
struct NodeFacts {
    rings: Vec<(Moment, Nodes)>,
    starts: Vec<Moment>,
}

impl Facts {
    pub fn of(log: &[Entry]) -> Self {
        let mut facts = Facts { nodes: vec![NodeFacts::default(); 16], ..Facts::default() };
        let mut calm = None;
        for (seq, entry) in log.iter().enumerate() {
            let now = Moment { ms: entry.ms, seq };
            match &entry.event {
                Event::Begin { call, node, what } => facts.begin(*call, *node, what, now),
                Event::Answer { call, item, got } => facts.answer(*call, *item, *got, now),
                Event::End { call, end } => facts.end(*call, *end, now),
                Event::LoadBegin { mark, item, node } => {
                    facts.loads_by_mark.insert(*mark, facts.loads.len());
                    facts.loads.push(Load { mark: *mark, item: *item, node: *node, begun: now, ended: None });
                }
                Event::LoadEnd { mark, end } => {
                    let load = facts.loads_by_mark[mark];
                    facts.loads[load].ended = Some((now, *end));
                }
                Event::Ring { node, ring } => facts.nodes[usize::from(*node)].rings.push((now, *ring)),
                Event::Up { node } => facts.nodes[usize::from(*node)].starts.push(now),
                Event::Calm => calm = Some(now),
                Event::Rough => facts.calms.extend(calm.take().map(|begun| (begun, now))),
                Event::Settled => facts.settled = Some(now),
                _ => {}
            }
        }
        facts
    }

    fn begin(&mut self, number: u32, node: u8, what: &What, now: Moment) {
        let change = match what {
            What::Remove { keys } => Some((*keys, None)),
            What::Set { item, mark, owner } => Some((Keys::one(*item), Some(Set { mark: *mark, owner: *owner }))),
            _ => None,
        };
        if let Some((keys, set)) = change {
            self.changes_by_number.insert(number, self.changes.len());
            self.sets_by_mark.extend(set.map(|set| (set.mark, self.changes.len())));
            self.changes.push(Change { node, keys, set, begun: now, ended: None });
        }
        self.calls_by_number.insert(number, self.calls.len());
        self.calls.push(Call { node, what: what.clone(), begun: now, ended: None });
    }

    fn answer(&mut self, number: u32, item: Item, got: Got, now: Moment) {
        let call = &self.calls[self.calls_by_number[&number]];
        self.reads.push(Read { node: call.node, item, begun: call.begun, answered: now, got });
    }

    fn end(&mut self, number: u32, end: End, now: Moment) {
        self.calls[self.calls_by_number[&number]].ended = Some((now, end));
        if let Some(change) = self.changes_by_number.get(&number) {
            self.changes[*change].ended = Some((now, end));
        }
    }

    /// The load that made this value.
    pub fn load(&self, mark: Mark) -> Option<&Load> {
        self.loads_by_mark.get(&mark).map(|load| &self.loads[*load])
    }

    /// The set that made this value.
    pub fn set(&self, mark: Mark) -> Option<&Change> {
        self.sets_by_mark.get(&mark).map(|change| &self.changes[*change])
    }

    /// The nodes that were members for `node` at some time from `from` to `to`.
    pub fn ever_members(&self, node: u8, from: Moment, to: Moment) -> Nodes {
        self.rings(node, from, to).fold(Nodes::default(), Nodes::or)
    }

    /// The nodes that were members for `node` all the time from `from` to `to`.
    pub fn always_members(&self, node: u8, from: Moment, to: Moment) -> Nodes {
        self.rings(node, from, to).fold(Nodes(u16::MAX), Nodes::and)
    }

    /// The rings in force at `node` from `from` to `to`.
    pub fn rings(&self, node: u8, from: Moment, to: Moment) -> impl Iterator<Item = Nodes> {
        let rings = &self.nodes[usize::from(node)].rings;
        let first = rings.partition_point(|(since, _)| *since <= from).saturating_sub(1);
        rings[first..].iter().take_while(move |(since, _)| *since <= to).map(|(_, ring)| *ring)
    }

    /// The first moment from `from` to `to` at which `node` had a ring that `other` has at about
    /// `to`.
    pub fn first_agreed(&self, node: u8, other: u8, from: Moment, to: Moment) -> Option<Moment> {
        let wanted: Vec<Nodes> = self.rings(other, Moment { ms: to.ms, seq: 0 }, to).collect();
        let rings = &self.nodes[usize::from(node)].rings;
        let first = rings.partition_point(|(since, _)| *since <= from).saturating_sub(1);
        let mut rings = rings[first..].iter().take_while(|(since, _)| *since <= to);
        rings.find(|(_, ring)| wanted.contains(ring)).map(|(since, _)| (*since).max(from))
    }

    /// The start of the node that ran at `moment`.
    pub fn latest_start(&self, node: u8, moment: Moment) -> Moment {
        let starts = &self.nodes[usize::from(node)].starts;
        starts[starts.partition_point(|start| *start <= moment).saturating_sub(1)]
    }

    /// Whether `node` was started at some time from `from` to `to`.
    pub fn started(&self, node: u8, from: Moment, to: Moment) -> bool {
        self.nodes[usize::from(node)].starts.iter().any(|start| (from..=to).contains(start))
    }

    /// The number of nodes that ever ran.
    pub fn nodes_ever(&self) -> usize {
        self.nodes.iter().filter(|node| !node.starts.is_empty()).count()
    }

    /// The calm time that has this moment.
    pub fn calm_at(&self, moment: Moment) -> Option<(Moment, Moment)> {
        self.calms.iter().copied().find(|(begun, ended)| (*begun..*ended).contains(&moment))
    }
}

impl Change {
    /// The members that it did not reach, if its end is known.
    pub fn missed(&self) -> Option<Nodes> {
        match self.ended? {
            (_, End::Ok) => Some(Nodes::default()),
            (_, End::Missed(nodes)) => Some(nodes),
            _ => None,
        }
    }

    /// The moment from which it has no further effect. `longest_ms` is for one whose end nobody
    /// saw: it goes on without its caller.
    pub fn over(&self, longest_ms: u64) -> Moment {
        match self.ended {
            Some((ended, End::Ok | End::Missed(_) | End::Refused(_))) => ended,
            _ => Moment { ms: self.begun.ms + longest_ms, seq: usize::MAX },
        }
    }
}
