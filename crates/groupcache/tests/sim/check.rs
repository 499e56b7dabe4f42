//! The invariants of every history.
//!
//! **I1, nothing old.** A change (remove, clear or set) began at `B` and ended at `E`, and its
//! members are those in the ring of its node at `E`. A read is later if it began after `E` or was
//! answered at a later millisecond than `E`. A later read of one of its keys at a member that it
//! reached is not answered with
//! - a value whose load began before `B`, or
//! - a value whose set was over before `B`. A set that overlaps the change may come before or after
//!   it. One that ended with an error may have taken place all the same, but not after that. One
//!   whose caller did not see the end is over after the longest time of a change, which is what
//!   `Stamp` and `within` are for.
//! - "not found", unless a load that began after `B` found nothing.
//!
//! If the change is `Ok`, it reached all members, even if they were restarted since. If it is
//! `Missed`, it reached all that are not named, but then only while they were not restarted since
//! `B`: a node that restarts forgets which members it must not ask.
//!
//! A value that comes from a stranger is exempt. A stranger is a node that neither the change's
//! node nor the reader could know of. It is not among the members. It joined the reader's ring
//! after the change had reached the reader: after the reader first had the same ring as the
//! change's node, between `B` and `E`. And it was in no earlier ring of the reader since the reader
//! was started. A value comes from the node that loaded it, or from the owner of its key when it
//! was set.
//!
//! **I2, one load.** Two loads of one key that both begin in one calm time do not overlap, unless a
//! change of that key was in progress at some time between their beginnings. In a calm time all
//! rings are the same, all nodes run, messages are quick, none is lost, and earlier faults have no
//! effect any more.
//!
//! **I3, every end in time.** A get ends within its timeout. Without one it ends within the longest
//! time of a fetch and a load, times the number of its flights if the key was changed meanwhile. A
//! change ends within its rounds, a load within `load_timeout`.
//!
//! **I4, agreement.** Some time after the last repair all nodes answer every key, with no value
//! that is older than any change that ever ended, `Missed` included; where nothing expires, all
//! with the same value. At all times, an expiring value is answered no longer than its time to
//! live, its staleness and the way from the owner take. The exemptions are those of I1, and a
//! change whose node, which keeps it for the members it missed, was restarted.
//!
//! **I5, nothing left.** At the end there is no flight, no byte and no task.
//!
//! **I9, few probes.** A node asks another for a sign of life once a second at most, but for a
//! member that has left its list and returned.

use std::{collections::HashMap, fmt};

use peercache_groupcache::Source;

use crate::{
    facts::{Change, Facts, Load, Read},
    history::{End, Entry, Event, Got, Item, Keys, LoadEnd, Mark, Moment, Nodes, What},
    plan::{DELAY_MS, Plan, TICK_MS},
};

/// A broken invariant.
#[derive(Debug)]
pub struct Violation {
    pub invariant: &'static str,
    pub what: String,
    /// The key it concerns, to show the right part of the history.
    pub item: Option<Item>,
    pub from: Moment,
    pub to: Moment,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is broken: {}", self.invariant, self.what)?;
        self.item.map_or(Ok(()), |item| write!(f, " (group {}, {})", item.group, item.name()))
    }
}

pub fn check(plan: &Plan, log: &[Entry], facts: &Facts) -> Vec<Violation> {
    let check = Check { plan, facts };
    let mut violations = Vec::new();
    check.nothing_old(&mut violations);
    check.one_load(&mut violations);
    check.every_end_in_time(&mut violations);
    check.nothing_expired(&mut violations);
    check.agreement(&mut violations);
    nothing_left(log, &mut violations);
    check.few_probes(log, &mut violations);
    violations
}

struct Check<'a> {
    plan: &'a Plan,
    facts: &'a Facts,
}

impl Check<'_> {
    fn nothing_old(&self, violations: &mut Vec<Violation>) {
        for change in &self.facts.changes {
            let (Some(missed), Some((ended, _))) = (change.missed(), change.ended) else { continue };
            let members = self.members(change, ended);
            let reached = members.without(missed);
            let reads = self.facts.reads.iter().filter(|read| change.keys.has(read.item) && reached.has(read.node));
            for read in reads.filter(|read| read.begun > ended || read.answered.ms > ended.ms) {
                let forgot = missed != Nodes::default() && self.facts.started(read.node, change.begun, read.answered);
                if !forgot && self.is_old(read, change, members) {
                    violations.push(old("I1", read, change));
                }
            }
        }
    }

    /// The members of a change: the nodes in every ring that may have been in force when it ended.
    fn members(&self, change: &Change, ended: Moment) -> Nodes {
        self.facts.always_members(change.node, Moment { ms: ended.ms, seq: 0 }, ended)
    }

    /// Whether the change forbids the answer of the read.
    fn is_old(&self, read: &Read, change: &Change, members: Nodes) -> bool {
        match read.got {
            Got::Value(mark, _) => {
                self.made_by(mark) < change.begun
                    && self.made_at(mark).and(self.strangers(read, change, members)) == Nodes::default()
            }
            Got::NotFound => {
                let mut loads =
                    self.facts.loads.iter().filter(|load| load.item == read.item && load.begun > change.begun);
                let found_nothing = loads
                    .any(|load| load.ended.is_some_and(|(at, end)| at <= read.answered && end == LoadEnd::NotFound));
                !found_nothing && self.strangers(read, change, members) == Nodes::default()
            }
            Got::Error(_) => false,
        }
    }

    /// The latest moment that the value may stand for: the beginning of its load, or the end of its
    /// set.
    fn made_by(&self, mark: Mark) -> Moment {
        if let Some(load) = self.facts.load(mark) {
            return load.begun;
        }
        let set = self.facts.set(mark).expect("a value was loaded or set");
        set.over(self.plan.update_ms(set.keys.group))
    }

    /// The nodes that the value may come from.
    fn made_at(&self, mark: Mark) -> Nodes {
        match self.facts.load(mark) {
            Some(load) => Nodes::of(load.node),
            None => self.owners(self.facts.set(mark).expect("a value was loaded or set")),
        }
    }

    /// The nodes that neither the change's node nor the reader could know of.
    fn strangers(&self, read: &Read, change: &Change, members: Nodes) -> Nodes {
        let ended = change.ended.map_or(change.begun, |(ended, _)| ended);
        let Some(reached) = self.facts.first_agreed(read.node, change.node, change.begun, ended) else {
            return Nodes::default();
        };
        let started = self.facts.latest_start(read.node, read.answered);
        let known =
            if started < reached { self.facts.ever_members(read.node, started, reached) } else { Nodes::default() };
        self.facts.ever_members(read.node, reached.max(started), read.answered).without(members).without(known)
    }

    /// The nodes that may hold the value of a set.
    fn owners(&self, change: &Change) -> Nodes {
        let until = change.over(self.plan.update_ms(change.keys.group));
        let always = self.facts.always_members(change.node, change.begun, until);
        let ever = self.facts.ever_members(change.node, change.begun, until);
        match change.set {
            Some(set) if always == ever => Nodes::of(set.owner),
            _ => ever,
        }
    }

    fn one_load(&self, violations: &mut Vec<Violation>) {
        let mut latest: HashMap<Item, &Load> = HashMap::new();
        for load in &self.facts.loads {
            let Some(calm) = self.facts.calm_at(load.begun) else { continue };
            let Some(before) = latest.insert(load.item, load) else { continue };
            let overlap = before.ended.is_none_or(|(ended, _)| ended > load.begun);
            if overlap && before.begun >= calm.0 && !self.changed(load.item, before.begun, load.begun) {
                violations.push(Violation {
                    invariant: "I2",
                    what: format!("{:?} is loaded while {:?} is", load.mark, before.mark),
                    item: Some(load.item),
                    from: before.begun,
                    to: load.begun,
                });
            }
        }
    }

    /// Whether a change of the key was in progress at some time from `from` to `to`, or on its way
    /// to a member that had missed it.
    fn changed(&self, item: Item, from: Moment, to: Moment) -> bool {
        let longest_ms = self.plan.update_ms(item.group);
        let mut changes = self.facts.changes.iter().filter(|change| change.keys.has(item));
        changes.any(|change| {
            let over = change.over(longest_ms);
            let is_missed = matches!(change.ended, Some((_, End::Missed(_))));
            let later_ms = if is_missed { self.plan.wears_off_ms() } else { 0 };
            change.begun <= to && Moment { ms: over.ms + later_ms, ..over } >= from
        })
    }

    fn every_end_in_time(&self, violations: &mut Vec<Violation>) {
        for call in &self.facts.calls {
            let longest_ms = match &call.what {
                What::Get { item, timeout_ms } => self.longest_get_ms(&[*item], *timeout_ms, call.begun),
                What::GetMany { keys, timeout_ms } => {
                    self.longest_get_ms(&keys.items().collect::<Vec<_>>(), *timeout_ms, call.begun)
                }
                What::Remove { keys: Keys { group, .. } } | What::Set { item: Item { group, .. }, .. } => {
                    let until = call.ended.map_or(call.begun, |(ended, _)| ended);
                    self.plan.update_within_ms(*group, self.facts.rings(call.node, call.begun, until).count() as u64)
                }
            };
            if call.ended.is_none_or(|(ended, _)| ended.ms > call.begun.ms + longest_ms) {
                violations.push(late(
                    format!("{:?} takes longer than {longest_ms} ms", call.what),
                    call.begun,
                    call.ended,
                ));
            }
        }
        for load in &self.facts.loads {
            let longest_ms = self.plan.groups[usize::from(load.item.group)].load_timeout_ms + 2;
            if load.ended.is_none_or(|(ended, _)| ended.ms > load.begun.ms + longest_ms) {
                violations.push(late(format!("{:?} loads longer than {longest_ms} ms", load.mark), load.begun, None));
            }
        }
    }

    fn longest_get_ms(&self, items: &[Item], timeout_ms: Option<u64>, begun: Moment) -> u64 {
        let group = items[0].group;
        if let Some(timeout_ms) = timeout_ms {
            // Timers are as coarse as a millisecond.
            return timeout_ms + 2;
        }
        let once_ms = self.plan.attempt_ms(group);
        // An undelivered change reaches a member some time after its end.
        let past = Moment { ms: begun.ms.saturating_sub(self.plan.agree_ms()), seq: 0 };
        let until = Moment { ms: begun.ms + once_ms, seq: usize::MAX };
        let queues = self.plan.groups[usize::from(group)].concurrent_loads < 1_000;
        if queues || items.iter().any(|item| self.changed(*item, past, until)) {
            self.plan.get_ms(group)
        } else {
            once_ms
        }
    }

    fn nothing_expired(&self, violations: &mut Vec<Violation>) {
        for read in &self.facts.reads {
            let Got::Value(mark, source) = read.got else { continue };
            let settings = &self.plan.groups[usize::from(read.item.group)];
            if settings.ttl_ms == 0 {
                continue;
            }
            let Some(made) = self.latest_made(mark) else { continue };
            let stale_ms = match source {
                Source::Stale => settings.stale_while_revalidate_ms.max(settings.stale_if_error_ms),
                _ => 0,
            };
            let calm = self.facts.calm_at(made).is_some_and(|calm| calm.1 > read.answered);
            // A stale answer waits for the load that fails, and then for the network.
            let way_ms = match (calm, source) {
                (true, Source::Stale) => settings.load_timeout_ms + 2 * DELAY_MS + TICK_MS,
                (true, _) => 2 * DELAY_MS + TICK_MS,
                (false, _) => self.plan.attempt_ms(read.item.group),
            };
            if read.answered.ms > made.ms + settings.ttl_ms + stale_ms + way_ms {
                violations.push(Violation {
                    invariant: "I4",
                    what: format!("{mark:?} is answered by node {} long after its time", read.node),
                    item: Some(read.item),
                    from: made,
                    to: read.answered,
                });
            }
        }
    }

    /// The latest moment from which the value's time to live counts, if that is known.
    fn latest_made(&self, mark: Mark) -> Option<Moment> {
        match self.facts.load(mark) {
            Some(load) => load.ended.map(|(ended, _)| ended),
            None => {
                let set = self.facts.set(mark)?;
                matches!(set.ended, Some((_, End::Ok | End::Missed(_)))).then(|| set.ended.map(|(ended, _)| ended))?
            }
        }
    }

    fn agreement(&self, violations: &mut Vec<Violation>) {
        let Some(settled) = self.facts.settled else { return };
        let last: Vec<&Read> = self.facts.reads.iter().filter(|read| read.begun > settled).collect();
        let mut agreed: HashMap<Item, &Read> = HashMap::new();
        for read in last {
            let first = *agreed.entry(read.item).or_insert(read);
            let everlasting = self.plan.groups[usize::from(read.item.group)].ttl_ms == 0;
            let differ = everlasting && mark(first) != mark(read);
            if differ || matches!(read.got, Got::Error(_)) {
                violations.push(Violation {
                    invariant: "I4",
                    what: format!("node {} got {:?}, node {} {:?}", first.node, first.got, read.node, read.got),
                    item: Some(read.item),
                    from: settled,
                    to: read.answered,
                });
            }
            self.nothing_undelivered(read, violations);
        }
    }

    fn few_probes(&self, log: &[Entry], violations: &mut Vec<Violation>) {
        const BETWEEN_MS: u64 = 1_000;
        let old_list_ms = self.plan.attempt_ms(0).max(self.plan.attempt_ms(1));
        let mut latest: HashMap<(u8, u8), u64> = HashMap::new();
        let mut listed: HashMap<u8, u64> = HashMap::new();
        for (seq, entry) in log.iter().enumerate() {
            match entry.event {
                // A node knows nothing of what it did before it was stopped.
                Event::Up { node } => latest.retain(|(from, _), _| *from != node),
                // Nor of a member that left its list and has returned. What it asks under the old
                // list knows nothing of the new one.
                Event::Ring { node, .. } => drop(listed.insert(node, entry.ms)),
                Event::Probed { from, to } => {
                    let Some(before) = latest.insert((from, to), entry.ms) else { continue };
                    let is_new = listed.get(&from).is_some_and(|listed| entry.ms <= listed + old_list_ms);
                    if entry.ms < before + BETWEEN_MS && !is_new {
                        violations.push(Violation {
                            invariant: "I9",
                            what: format!("node {from} probes node {to} twice within a second"),
                            item: None,
                            from: Moment { ms: before, seq: 0 },
                            to: Moment { ms: entry.ms, seq },
                        });
                    }
                }
                _ => {}
            }
        }
    }

    /// Checks that undelivered changes have been delivered by the end.
    fn nothing_undelivered(&self, read: &Read, violations: &mut Vec<Violation>) {
        for change in self.facts.changes.iter().filter(|change| change.keys.has(read.item)) {
            let (Some(_), Some((ended, _))) = (change.missed(), change.ended) else { continue };
            let members = self.members(change, ended);
            let is_kept = !self.facts.started(change.node, change.begun, read.answered);
            if is_kept && ended < read.begun && members.has(read.node) && self.is_old(read, change, members) {
                violations.push(old("I4", read, change));
            }
        }
    }
}

fn mark(read: &Read) -> Option<Mark> {
    match read.got {
        Got::Value(mark, _) => Some(mark),
        _ => None,
    }
}

fn old(invariant: &'static str, read: &Read, change: &Change) -> Violation {
    let ended = change.ended.map_or(change.begun, |(ended, _)| ended);
    let how = change.ended.map(|(_, end)| end);
    Violation {
        invariant,
        what: format!(
            "node {} answers {:?}, which is older than a change at node {} from {} to {} ms ({how:?})",
            read.node, read.got, change.node, change.begun.ms, ended.ms
        ),
        item: Some(read.item),
        from: change.begun,
        to: read.answered,
    }
}

fn late(what: String, begun: Moment, ended: Option<(Moment, End)>) -> Violation {
    Violation { invariant: "I3", what, item: None, from: begun, to: ended.map_or(begun, |(ended, _)| ended) }
}

fn nothing_left(log: &[Entry], violations: &mut Vec<Violation>) {
    for (seq, entry) in log.iter().enumerate() {
        let left = match entry.event {
            Event::Left { in_flight, bytes, .. } => in_flight > 0 || bytes > 0,
            Event::TasksLeft { tasks } => tasks > 0,
            _ => false,
        };
        if left {
            let now = Moment { ms: entry.ms, seq };
            violations.push(Violation {
                invariant: "I5",
                what: format!("{:?}", entry.event),
                item: None,
                from: now,
                to: now,
            });
        }
    }
}
