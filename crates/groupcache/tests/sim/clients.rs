//! The clients: each makes calls at one node, one after another, and does not wait for some of
//! them.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::{
    StreamExt,
    future::{Either, select},
};
use peercache_groupcache::{Answer, Error, GetMany, Loaded, UpdateError};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    history::{End, Event, Got, Item, Keys, Mark, Nodes, What},
    net,
    rng::Rng,
    world::{Node, World},
};

/// A client of one node.
struct Client {
    world: Arc<World>,
    node: u8,
    rng: Rng,
}

/// One call of a client.
struct Call<'a> {
    world: &'a World,
    node: &'a Node,
    number: u32,
}

pub fn start(world: &Arc<World>) -> Vec<JoinHandle<()>> {
    let of_node = |node: u8| (0..world.plan.clients).map(move |nth| (node, nth));
    let client = |(node, nth): (u8, usize)| {
        let rng = Rng::of(world.plan.seed, &format!("client {node} {nth}"));
        tokio::spawn(Client { world: world.clone(), node, rng }.run())
    };
    world.plan.everyone().iter().flat_map(of_node).map(client).collect()
}

/// Asks every node for every key.
pub async fn compare(world: &World) {
    world.history.note(Event::Settled);
    for item in world.items() {
        for node in world.plan.everyone().iter() {
            Call::at(world, node, What::Get { item, timeout_ms: None }).await;
        }
    }
}

/// Has one node clear both groups everywhere.
pub async fn clear_all(world: &World) {
    for group in 0..2 {
        Call::at(world, 0, What::Remove { keys: Keys::all(group) }).await;
    }
}

impl Client {
    async fn run(mut self) {
        while !self.world.over() {
            // A repair takes long to wear off: most of that time is only waited for.
            let longest_ms = if self.world.gentle() && !self.world.is_calm() { 500 } else { 60 };
            sleep(Duration::from_millis(self.rng.between(1, longest_ms))).await;
            let Some(node) = self.world.node(self.node) else { continue };
            let what = self.what(&node);
            let patience = self.patience(&what);
            let end = Call::begin(&self.world, &node, &what).within(&what, patience).await;
            self.follow_up(&node, &what, end).await;
        }
    }

    /// Reads after a change that was made, and tries again if it did not reach all members.
    async fn follow_up(&mut self, node: &Node, what: &What, end: End) {
        let item = match what {
            What::Set { item, .. } => *item,
            What::Remove { keys } if *keys != Keys::all(keys.group) => keys.items().next().expect("it has a key"),
            _ => return,
        };
        let follows = match end {
            End::Ok => What::Get { item, timeout_ms: Some(500) },
            End::Missed(_) if !self.world.gentle() => What::Remove { keys: Keys::one(item) },
            _ => return,
        };
        let somewhere = self.rng.below(self.world.plan.nodes as u64) as u8;
        let elsewhere = self.world.node(somewhere).filter(|_| self.rng.percent(50));
        if self.rng.percent(70) {
            Call::begin(&self.world, elsewhere.as_deref().unwrap_or(node), &follows).within(&follows, None).await;
        }
    }

    fn what(&mut self, node: &Node) -> What {
        let item = Item { group: self.rng.below(2) as u8, key: self.rng.below(self.world.plan.keys.into()) as u8 };
        let some = Keys { group: item.group, bits: self.rng.below(1 << self.world.plan.keys) as u16 | 1 << item.key };
        let timeout_ms = self.rng.percent(40).then(|| self.rng.between(0, 300));
        // Second loads are allowed during changes, so at times there are few.
        let gets_percent = if self.world.gentle() { 95 } else { 80 };
        match self.rng.below(100) {
            get if get < gets_percent - 12 => What::Get { item, timeout_ms },
            many if many < gets_percent => What::GetMany { keys: some, timeout_ms },
            _ => match self.rng.below(20) {
                0 => What::Remove { keys: Keys::all(item.group) },
                1..4 => What::Remove { keys: some },
                4..11 => What::Remove { keys: Keys::one(item) },
                _ => What::Set { item, mark: self.world.history.new_mark(), owner: node.owner(item) },
            },
        }
    }

    /// The time after which the client drops the call, if it does not wait for its end.
    fn patience(&mut self, what: &What) -> Option<Duration> {
        // The end of a change is unknown if its caller has dropped it.
        let may_leave = !self.world.gentle() || matches!(what, What::Get { .. } | What::GetMany { .. });
        (self.rng.percent(10) && may_leave).then(|| Duration::from_millis(self.rng.between(0, 100)))
    }
}

impl<'a> Call<'a> {
    /// Makes a call to its end, at a node that runs on.
    async fn at(world: &'a World, node: u8, what: What) {
        let node = world.node(node).expect("everything is repaired");
        Call::begin(world, &node, &what).within(&what, None).await;
    }

    fn begin(world: &'a World, node: &'a Node, what: &What) -> Self {
        let number = world.history.new_call();
        world.history.note(Event::Begin { call: number, node: node.run.node, what: what.clone() });
        Call { world, node, number }
    }

    /// Makes the call, unless its caller drops it, its node is stopped or it does not end.
    async fn within(&self, what: &What, patience: Option<Duration>) -> End {
        let (limit, at_limit) = match patience {
            Some(patience) => (patience, End::Cancelled),
            None => (self.longest(what), End::Overdue),
        };
        let cut_short = async {
            match select(pin!(sleep(limit)), pin!(self.node.stopped())).await {
                Either::Left(_) => at_limit,
                Either::Right(_) => End::Died,
            }
        };
        let (Either::Left((end, _)) | Either::Right((end, _))) = select(pin!(self.make(what)), pin!(cut_short)).await;
        self.world.history.note(Event::End { call: self.number, end });
        end
    }

    /// Twice the longest time that it may take, which the checks know better.
    fn longest(&self, what: &What) -> Duration {
        let plan = &self.world.plan;
        Duration::from_millis(match what {
            What::Get { item: Item { group, .. }, .. } | What::GetMany { keys: Keys { group, .. }, .. } => {
                2 * plan.get_ms(*group)
            }
            What::Remove { keys: Keys { group, .. } } | What::Set { item: Item { group, .. }, .. } => {
                2 * plan.update_ms(*group)
            }
        })
    }

    async fn make(&self, what: &What) -> End {
        match what {
            What::Get { item, timeout_ms } => self.get(*item, *timeout_ms).await,
            What::GetMany { keys, timeout_ms } => self.get_many(*keys, *timeout_ms).await,
            What::Remove { keys } => self.remove(*keys).await,
            What::Set { item, mark, .. } => self.set(*item, *mark).await,
        }
    }

    async fn get(&self, item: Item, timeout_ms: Option<u64>) -> End {
        let name = item.name();
        let get = self.node.groups[usize::from(item.group)].get(&name);
        let get = match timeout_ms {
            Some(ms) => get.timeout(Duration::from_millis(ms)),
            None => get,
        };
        self.answer(item, get.detailed().await);
        End::Ok
    }

    async fn get_many(&self, keys: Keys, timeout_ms: Option<u64>) -> End {
        let items: Vec<Item> = keys.items().collect();
        let many = self.node.groups[usize::from(keys.group)].get_many(items.iter().map(|item| item.name()));
        let mut answers = with_timeout(many, timeout_ms).stream();
        while let Some((nth, answer)) = answers.next().await {
            self.answer(items[nth], answer);
        }
        End::Ok
    }

    async fn remove(&self, keys: Keys) -> End {
        let group = &self.node.groups[usize::from(keys.group)];
        let items: Vec<Item> = keys.items().collect();
        acknowledged(match &items[..] {
            [one] => group.remove(&one.name()).await,
            _ if keys == Keys::all(keys.group) => group.clear().await,
            many => group.remove_many(many.iter().map(|item| item.name())).await,
        })
    }

    async fn set(&self, item: Item, mark: Mark) -> End {
        let group = &self.node.groups[usize::from(item.group)];
        acknowledged(group.set(&item.name(), Loaded::new(mark)).await)
    }

    fn answer(&self, item: Item, answer: Result<Answer<Mark>, Error>) {
        let got = match answer {
            Ok(answer) => Got::Value(answer.value, answer.source),
            Err(error) if error.is_not_found() => Got::NotFound,
            Err(error) => Got::Error(error.kind()),
        };
        self.world.history.note(Event::Answer { call: self.number, item, got });
    }
}

fn with_timeout(many: GetMany<Mark>, timeout_ms: Option<u64>) -> GetMany<Mark> {
    match timeout_ms {
        Some(ms) => many.timeout(Duration::from_millis(ms)),
        None => many,
    }
}

fn acknowledged(outcome: Result<(), UpdateError>) -> End {
    match outcome {
        Ok(()) => End::Ok,
        Err(UpdateError::Refused(error)) => End::Refused(error.kind()),
        Err(missed) => {
            let nodes = missed.missed().iter().filter_map(|missed| net::index(&missed.member)).map(Nodes::of);
            End::Missed(nodes.fold(Nodes::default(), Nodes::or))
        }
    }
}
