//! A cluster that runs through its plan: real groups, with a simulated network, clock and origin.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use peercache_groupcache::{Group, GroupBuilder, Groups, HotAdmission, HotCandidate, Members, loader_fn_with};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until},
};

use crate::{
    history::{Event, History, Item, Mark, Nodes},
    net::{self, Net, NodeRun},
    origin::{Mode, NodeLoader, Origin},
    plan::{GroupPlan, Plan, Step},
    rng::Rng,
    time::NodeTime,
};

pub struct World {
    pub plan: Plan,
    pub history: History,
    net: Net,
    origins: [Origin; 2],
    slots: Vec<Mutex<Slot>>,
    gentle: AtomicBool,
    calm: AtomicBool,
    /// True once clients are to stop.
    over: AtomicBool,
}

/// The place of a node, which may be stopped.
struct Slot {
    node: Option<Arc<Node>>,
    /// The ring that the node should have: it starts with it, or learns of it when it thaws.
    ring: Nodes,
    frozen: bool,
    time: NodeTime,
}

/// A running node.
pub struct Node {
    pub run: NodeRun,
    pub members: Members,
    pub groups: [Group<Mark>; 2],
    /// Has no permits, and is closed when the node is stopped: that wakes all waiters in an order
    /// that is always the same.
    running: Semaphore,
}

impl World {
    /// A cluster whose nodes all run.
    pub fn new(plan: Plan) -> Self {
        let history = History::begin();
        let ring = plan.everyone();
        let world = World {
            net: Net::new(&plan, &history),
            origins: [Origin::new(&plan, 0, &history), Origin::new(&plan, 1, &history)],
            slots: (0..plan.nodes)
                .map(|_| Mutex::new(Slot { node: None, ring, frozen: false, time: NodeTime::new() }))
                .collect(),
            gentle: AtomicBool::new(false),
            calm: AtomicBool::new(false),
            over: AtomicBool::new(false),
            plan,
            history,
        };
        world.plan.everyone().iter().for_each(|node| world.start(node));
        world
    }

    /// Stops all nodes.
    pub fn end(self) -> Plan {
        for node in self.plan.everyone().iter() {
            self.stop(node);
        }
        self.plan
    }

    /// The node, if it runs and is not frozen.
    pub fn node(&self, node: u8) -> Option<Arc<Node>> {
        let slot = self.slots[usize::from(node)].lock().unwrap();
        slot.node.clone().filter(|_| !slot.frozen)
    }

    /// Tells clients to make no more calls.
    pub fn end_calls(&self) {
        self.over.store(true, SeqCst);
    }

    pub fn over(&self) -> bool {
        self.over.load(SeqCst)
    }

    /// Whether clients make few changes, and see the end of each.
    pub fn gentle(&self) -> bool {
        self.gentle.load(SeqCst)
    }

    /// Whether earlier faults have no effect any more.
    pub fn is_calm(&self) -> bool {
        self.calm.load(SeqCst)
    }

    pub fn items(&self) -> impl Iterator<Item = Item> {
        let keys = self.plan.keys;
        (0..2).flat_map(move |group| (0..keys).map(move |key| Item { group, key }))
    }

    /// Takes each step of the plan at its time.
    pub async fn follow_the_plan(&self) {
        let begun = Instant::now();
        for (at_ms, step) in &self.plan.steps {
            sleep_until(begun + Duration::from_millis(*at_ms)).await;
            self.take(*step);
        }
    }

    fn take(&self, step: Step) {
        match step {
            Step::Cut { from, to, refused } => {
                self.net.cut(from, to, refused);
                self.history.note(Event::Cut { from, to });
            }
            Step::Heal => {
                for (from, to) in self.net.heal() {
                    self.history.note(Event::Healed { from, to });
                }
            }
            Step::Lossy(percent) => self.net.lose(percent),
            Step::Slow(ms) => self.net.slow(ms),
            Step::Freeze(node) => self.freeze(node),
            Step::Thaw(node) => self.thaw(node),
            Step::Stop(node) => self.stop(node),
            Step::Start(node) => self.start(node),
            Step::Ring { node, ring } => self.ring(node, ring),
            Step::Mended => self.set_conditions(true, Mode::Calm, Event::Mended),
            Step::Calm => self.set_conditions(true, Mode::Calm, Event::Calm),
            Step::Rough => self.set_conditions(false, Mode::Rough, Event::Rough),
            Step::Repaired => self.set_conditions(false, Mode::Fine, Event::Repaired),
        }
    }

    fn set_conditions(&self, gentle: bool, mode: Mode, event: Event) {
        self.gentle.store(gentle, SeqCst);
        self.calm.store(event == Event::Calm, SeqCst);
        self.origins.iter().for_each(|origin| origin.set_mode(mode));
        self.history.note(event);
    }

    fn start(&self, node: u8) {
        let mut slot = self.slots[usize::from(node)].lock().unwrap();
        if slot.node.is_some() {
            return;
        }
        let run = self.net.next_run(node);
        let started = self.build(run, slot.ring, &slot.time);
        slot.node = Some(Arc::new(started));
        self.history.note(Event::Ring { node, ring: slot.ring });
        self.history.note(Event::Up { node });
    }

    fn stop(&self, node: u8) {
        let mut slot = self.slots[usize::from(node)].lock().unwrap();
        slot.frozen = false;
        slot.time.thaw();
        let Some(stopped) = slot.node.take() else { return };
        stopped.running.close();
        drop(self.net.stop(node));
        self.history.note(Event::Down { node });
    }

    fn freeze(&self, node: u8) {
        let mut slot = self.slots[usize::from(node)].lock().unwrap();
        if slot.node.is_some() && !slot.frozen {
            slot.frozen = true;
            slot.time.freeze();
            self.net.freeze(node);
            self.history.note(Event::Frozen { node });
        }
    }

    fn thaw(&self, node: u8) {
        let mut slot = self.slots[usize::from(node)].lock().unwrap();
        if !std::mem::take(&mut slot.frozen) {
            return;
        }
        slot.time.thaw();
        self.net.thaw(node);
        self.history.note(Event::Thawed { node });
        let ring = slot.ring;
        drop(slot);
        self.ring(node, ring);
    }

    /// Gives the node this ring: now, or once it runs and is not frozen.
    fn ring(&self, node: u8, ring: Nodes) {
        let mut slot = self.slots[usize::from(node)].lock().unwrap();
        slot.ring = ring;
        let Some(running) = slot.node.as_ref().filter(|_| !slot.frozen) else { return };
        if running.ring() != ring {
            running.members.set(ring.iter().map(net::name)).unwrap();
            self.history.note(Event::Ring { node, ring });
        }
    }

    fn build(&self, run: NodeRun, ring: Nodes, time: &NodeTime) -> Node {
        let members = Members::builder(net::name(run.node), self.net.links(run))
            .members(ring.iter().map(net::name))
            .build()
            .unwrap();
        let groups = Groups::with_clock(members.clone(), time.clock());
        self.net.start(run, groups.clone());
        let built = [0, 1].map(|group| self.group(&groups, run, group).build().unwrap());
        Node { run, members, groups: built, running: Semaphore::new(0) }
    }

    fn group(&self, groups: &Groups, run: NodeRun, group: u8) -> GroupBuilder<Mark> {
        let loader = NodeLoader { origin: self.origins[usize::from(group)].clone(), node: run.node };
        let plan = &self.plan.groups[usize::from(group)];
        let name = ["everlasting", "expiring"][usize::from(group)];
        let builder = if plan.batched {
            groups.group_batched(name, loader)
        } else {
            groups.group(name, loader_fn_with(loader, NodeLoader::load))
        };
        plan.set_up(builder).hot_admission(Sometimes::new(self.plan.seed, run, plan.hot_percent))
    }

    /// Notes what the group still has at each node.
    pub fn note_left(&self, group: u8) {
        for node in self.plan.everyone().iter().filter_map(|node| self.node(node)) {
            let stats = node.groups[usize::from(group)].stats();
            let (in_flight, bytes) = (stats.in_flight, stats.main.bytes + stats.hot.bytes);
            self.history.note(Event::Left { node: node.run.node, group, in_flight, bytes });
        }
    }
}

impl Node {
    /// The ring in force at it.
    pub fn ring(&self) -> Nodes {
        let view = self.members.view();
        let nodes = view.names().iter().filter_map(|name| net::index(name)).map(Nodes::of);
        nodes.fold(Nodes::default(), Nodes::or)
    }

    /// The owner in its ring.
    pub fn owner(&self, item: Item) -> u8 {
        net::index(self.members.view().owner_name(item.name())).expect("members are named by the network")
    }

    /// Waits until it is stopped.
    pub async fn stopped(&self) {
        drop(self.running.acquire().await);
    }
}

impl GroupPlan {
    fn set_up(&self, builder: GroupBuilder<Mark>) -> GroupBuilder<Mark> {
        let ms = Duration::from_millis;
        builder
            .load_timeout(ms(self.load_timeout_ms))
            .update_timeout(ms(self.update_timeout_ms))
            .hot_ttl(self.hot_ttl())
            .fallback_ttl(ms(self.fallback_ttl_ms))
            .time_to_live(ms(self.ttl_ms))
            // Jitter goes by a hash that differs from machine to machine, and a seed has to replay
            // on all.
            .expiry_jitter(0.0)
            .stale_while_revalidate(ms(self.stale_while_revalidate_ms))
            .stale_if_error(ms(self.stale_if_error_ms))
            .negative_ttl(ms(self.negative_ttl_ms))
            .refresh_ahead(self.refresh_percent as f64 / 100.0)
            .error_backoff(ms(self.backoff_ms), ms(crate::plan::MAX_BACKOFF_MS))
            .max_concurrent_loads(self.concurrent_loads)
            // More than there are at one time, and few enough that a leaked permit shows.
            .max_concurrent_fetches(64)
    }
}

/// Admits a share of the fetches, the same ones in every run of a seed.
struct Sometimes {
    rng: Mutex<Rng>,
    percent: u64,
}

impl Sometimes {
    fn new(seed: u64, run: NodeRun, percent: u64) -> Self {
        let rng = Mutex::new(Rng::of(seed, &format!("admission {} {}", run.node, run.nth)));
        Sometimes { rng, percent }
    }
}

impl HotAdmission for Sometimes {
    fn admit(&self, _: &HotCandidate<'_>) -> bool {
        self.rng.lock().unwrap().percent(self.percent)
    }
}
