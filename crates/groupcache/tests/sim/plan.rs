//! The plan of a seed: the cluster, its settings and all faults. It is drawn before anything runs,
//! so that the nodes' behaviour does not change it.

use std::time::Duration;

use crate::{history::Nodes, rng::Rng};

pub struct Plan {
    pub seed: u64,
    pub nodes: usize,
    pub clients: usize,
    pub keys: u8,
    /// Longest wait for a peer's first sign of life.
    pub silence_ms: u64,
    pub groups: [GroupPlan; 2],
    /// Steps and their times, in order.
    pub steps: Vec<(u64, Step)>,
}

/// The settings of a group, the same at all nodes.
#[derive(Clone, Debug)]
pub struct GroupPlan {
    pub batched: bool,
    pub load_timeout_ms: u64,
    pub update_timeout_ms: u64,
    pub hot_ttl_ms: u64,
    pub fallback_ttl_ms: u64,
    /// Fetches in a hundred that are kept as copies.
    pub hot_percent: u64,
    /// Time to live; zero is without end, and then nothing goes stale.
    pub ttl_ms: u64,
    pub stale_while_revalidate_ms: u64,
    pub stale_if_error_ms: u64,
    pub negative_ttl_ms: u64,
    pub refresh_percent: u64,
    pub backoff_ms: u64,
    pub concurrent_loads: usize,
}

/// A change of the cluster or of its conditions.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Cut {
        from: u8,
        to: u8,
        refused: bool,
    },
    Heal,
    /// Loses this many messages in a hundred from now on.
    Lossy(u64),
    /// Delays messages by up to this many milliseconds from now on.
    Slow(u64),
    Freeze(u8),
    Thaw(u8),
    Stop(u8),
    Start(u8),
    Ring {
        node: u8,
        ring: Nodes,
    },
    /// The last fault is over for now, and clients make few changes.
    Mended,
    Calm,
    Rough,
    Repaired,
}

/// The longest time of a message that nothing slows down.
pub const DELAY_MS: u64 = 12;

/// The time that timers and the coarse clock may add.
pub const TICK_MS: u64 = 12;

/// Attempts of the engine at a change while its ring changes.
const UPDATE_ATTEMPTS: u64 = 3;

/// Messages in a row of one attempt: two rounds to all members, a new value to its owner in
/// between, and one more round if that fails.
const UPDATE_ROUNDS: u64 = 4;

/// Flights of a get that are detached and retried, and the last one.
const GET_ATTEMPTS: u64 = 16 + 1;

/// An undelivered change may take the first second to arrive, and is sent again after the second
/// one.
const RETRY_MS: u64 = 1_000 + 1_000;

/// The longest time after which a member that answers again is asked again: the probe that fails at
/// the end, a pause, the longest probation, and a pause.
const RETURN_MS: u64 = 1_000 + 1_500 + 10_000 + 1_500;

/// Longest time that a failed load is remembered.
pub const MAX_BACKOFF_MS: u64 = 400;

impl Plan {
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::of(seed, "plan");
        let nodes = rng.between(3, 7) as usize;
        let groups = [GroupPlan::everlasting(&mut rng), GroupPlan::expiring(&mut rng)];
        let mut plan = Plan {
            seed,
            nodes,
            clients: rng.between(1, 3) as usize,
            keys: rng.between(2, 6) as u8,
            silence_ms: rng.between(100, 250),
            groups,
            steps: Vec::new(),
        };
        plan.steps = steps(&plan, &mut Rng::of(seed, "steps"));
        plan
    }

    pub fn everyone(&self) -> Nodes {
        Nodes::all(self.nodes)
    }

    /// Longest get that no change disturbs: the owner is silent, or the answer of its queued load
    /// is lost, and so is the next in line, and then this node queues and loads.
    pub fn attempt_ms(&self, group: u8) -> u64 {
        let load_ms = self.groups[usize::from(group)].load_timeout_ms;
        2 * self.fetch_ms(load_ms) + 2 * load_ms + TICK_MS
    }

    /// The time that the transport waits for an answer.
    pub fn fetch_ms(&self, load_timeout_ms: u64) -> u64 {
        self.silence_ms + 2 * load_timeout_ms
    }

    /// Longest get.
    pub fn get_ms(&self, group: u8) -> u64 {
        GET_ATTEMPTS * self.attempt_ms(group)
    }

    /// Longest change.
    pub fn update_ms(&self, group: u8) -> u64 {
        self.update_within_ms(group, UPDATE_ATTEMPTS)
    }

    /// Longest change with this many attempts.
    pub fn update_within_ms(&self, group: u8, attempts: u64) -> u64 {
        let round_ms = self.groups[usize::from(group)].update_timeout_ms + TICK_MS;
        attempts.min(UPDATE_ATTEMPTS) * UPDATE_ROUNDS * round_ms
    }

    /// Time after the last fault until all that it started is over.
    pub fn wears_off_ms(&self) -> u64 {
        let of = |group| self.attempt_ms(group).max(self.update_ms(group));
        of(0).max(of(1)) + RETRY_MS.max(RETURN_MS) + DELAY_MS
    }

    /// Time after the last fault until all nodes agree.
    pub fn agree_ms(&self) -> u64 {
        let kept_ms = self.groups.iter().map(|group| group.hot_ttl_ms.max(group.kept_ms())).max().unwrap_or(0);
        self.wears_off_ms() + kept_ms + MAX_BACKOFF_MS + TICK_MS
    }
}

impl GroupPlan {
    fn everlasting(rng: &mut Rng) -> Self {
        GroupPlan {
            batched: false,
            load_timeout_ms: rng.between(150, 400),
            update_timeout_ms: rng.between(80, 250),
            hot_ttl_ms: rng.pick(&[0, 200, 500, 1_000]),
            fallback_ttl_ms: rng.between(50, 500),
            hot_percent: rng.pick(&[0, 50, 100, 100]),
            ttl_ms: 0,
            stale_while_revalidate_ms: 0,
            stale_if_error_ms: 0,
            negative_ttl_ms: 0,
            refresh_percent: 100,
            backoff_ms: rng.pick(&[0, 50, 100]),
            concurrent_loads: rng.pick(&[2, 4, 1_024]),
        }
    }

    fn expiring(rng: &mut Rng) -> Self {
        GroupPlan {
            batched: rng.percent(30),
            ttl_ms: rng.between(40, 600),
            stale_while_revalidate_ms: rng.pick(&[0, 0, 100, 400]),
            stale_if_error_ms: rng.pick(&[0, 0, 200, 500]),
            negative_ttl_ms: rng.pick(&[0, 100, 300]),
            refresh_percent: rng.pick(&[100, 60, 80]),
            ..GroupPlan::everlasting(rng)
        }
    }

    /// Longest time that an expiring entry is kept.
    pub fn kept_ms(&self) -> u64 {
        self.ttl_ms.max(self.negative_ttl_ms) + self.stale_while_revalidate_ms.max(self.stale_if_error_ms)
    }

    pub fn hot_ttl(&self) -> Duration {
        Duration::from_millis(self.hot_ttl_ms)
    }
}

/// Draws rough times and calm ones by turns, and a last repair.
fn steps(plan: &Plan, rng: &mut Rng) -> Vec<(u64, Step)> {
    let mut steps = Vec::new();
    let mut now_ms = 0;
    for _ in 0..2 {
        steps.push((now_ms, Step::Rough));
        let end_ms = now_ms + rng.between(600, 1_800);
        for _ in 0..rng.between(1, 5) {
            fault(plan, rng, now_ms, end_ms, &mut steps);
        }
        now_ms = repair(plan, rng, end_ms, &mut steps);
        steps.push((now_ms, Step::Mended));
        now_ms += plan.wears_off_ms();
        steps.push((now_ms, Step::Calm));
        now_ms += rng.between(300, 900);
    }
    steps.push((now_ms, Step::Rough));
    for _ in 0..rng.between(1, 3) {
        fault(plan, rng, now_ms, now_ms + 600, &mut steps);
    }
    now_ms = repair(plan, rng, now_ms + 600, &mut steps);
    steps.push((now_ms, Step::Repaired));
    steps.sort_by_key(|(at_ms, _)| *at_ms);
    steps
}

/// Draws a fault between `from_ms` and `to_ms`.
fn fault(plan: &Plan, rng: &mut Rng, from_ms: u64, to_ms: u64, steps: &mut Vec<(u64, Step)>) {
    let mut at = [rng.between(from_ms, to_ms), rng.between(from_ms, to_ms)];
    at.sort_unstable();
    let [begin_ms, end_ms] = at;
    let node = rng.below(plan.nodes as u64) as u8;
    let other = (node + 1 + rng.below(plan.nodes as u64 - 1) as u8) % plan.nodes as u8;
    match rng.below(8) {
        0 => {
            let refused = rng.percent(30);
            steps.push((begin_ms, Step::Cut { from: node, to: other, refused }));
            if rng.percent(30) {
                steps.push((begin_ms, Step::Cut { from: other, to: node, refused }));
            }
        }
        1 => steps.extend([(begin_ms, Step::Lossy(rng.between(2, 30))), (end_ms, Step::Lossy(0))]),
        2 => steps.extend([(begin_ms, Step::Slow(rng.between(30, 600))), (end_ms, Step::Slow(DELAY_MS))]),
        3 => steps.extend([(begin_ms, Step::Freeze(node)), (end_ms, Step::Thaw(node))]),
        4 => steps.extend([(begin_ms, Step::Stop(node)), (begin_ms + rng.below(300), Step::Start(node))]),
        _ => ring_change(plan, rng, begin_ms, steps),
    }
}

/// Draws a change of the ring: some members leave, and each of the others learns of it at a time of
/// its own. Those that leave know nothing of it, or are alone.
fn ring_change(plan: &Plan, rng: &mut Rng, at_ms: u64, steps: &mut Vec<(u64, Step)>) {
    let leaving = Nodes(rng.between(1, u64::from(plan.everyone().0) - 1) as u16);
    let ring = plan.everyone().without(leaving);
    for node in plan.everyone().iter() {
        let ring = if leaving.has(node) { Nodes::of(node) } else { ring };
        if !leaving.has(node) || rng.percent(50) {
            steps.push((at_ms + rng.below(400), Step::Ring { node, ring }));
        }
    }
}

/// Ends all faults from `from_ms` on, and returns when the last one is over.
fn repair(plan: &Plan, rng: &mut Rng, from_ms: u64, steps: &mut Vec<(u64, Step)>) -> u64 {
    /// Time after the latest ring change and start that began by `from_ms`.
    const LATE_MS: u64 = 450;
    let mut over_ms = from_ms + LATE_MS;
    steps.extend([(over_ms, Step::Heal), (over_ms, Step::Lossy(0)), (over_ms, Step::Slow(DELAY_MS))]);
    for node in plan.everyone().iter() {
        let at_ms = from_ms + LATE_MS + rng.below(150);
        steps.extend([(at_ms, Step::Thaw(node)), (at_ms, Step::Start(node))]);
        steps.push((at_ms, Step::Ring { node, ring: plan.everyone() }));
        over_ms = over_ms.max(at_ms);
    }
    over_ms + 1
}
