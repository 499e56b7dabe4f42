//! The simulated origin: its loads are slow, fail and find nothing at random. Every load makes a
//! value of its own.

use std::{
    panic::resume_unwind,
    sync::{Arc, Mutex},
    time::Duration,
};

use peercache_groupcache::{Batch, BatchLoader, Key, LoadError, Loaded};
use tokio::time::sleep;

use crate::{
    history::{Event, History, Item, LoadEnd, Mark},
    plan::Plan,
    rng::Rng,
};

/// The kinds of loads that an origin makes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Loads hang, fail, panic and find nothing.
    Rough,
    /// Loads fail and find nothing.
    Calm,
    /// Loads bring values.
    Fine,
}

/// The origin of one group as all nodes share it.
#[derive(Clone)]
pub struct Origin {
    history: History,
    group: u8,
    load_timeout_ms: u64,
    ttl_ms: u64,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    mode: Mode,
    /// One for each key, so that loads of one do not change those of another.
    rngs: Vec<Rng>,
}

/// The loader of one node.
#[derive(Clone)]
pub struct NodeLoader {
    pub origin: Origin,
    pub node: u8,
}

/// A load in flight. If it is dropped before it is finished, its node has ended it.
struct Load {
    history: History,
    mark: Mark,
    finished: bool,
}

/// The random part of a load.
struct Draw {
    takes_ms: u64,
    end: LoadEnd,
    ttl_ms: Option<u64>,
}

impl Origin {
    pub fn new(plan: &Plan, group: u8, history: &History) -> Self {
        let rngs = (0..plan.keys).map(|key| Rng::of(plan.seed, &format!("origin {group} {key}"))).collect();
        let settings = &plan.groups[usize::from(group)];
        Origin {
            history: history.clone(),
            group,
            load_timeout_ms: settings.load_timeout_ms,
            ttl_ms: settings.ttl_ms,
            shared: Arc::new(Mutex::new(Shared { mode: Mode::Rough, rngs })),
        }
    }

    pub fn set_mode(&self, mode: Mode) {
        self.shared.lock().unwrap().mode = mode;
    }

    fn draw(&self, item: Item) -> Draw {
        let mut shared = self.shared.lock().unwrap();
        let mode = shared.mode;
        let rng = &mut shared.rngs[usize::from(item.key)];
        let short_ms = rng.between(0, 40);
        let takes_ms = match rng.below(10) {
            // Far longer than the load timeout.
            0 if mode == Mode::Rough && rng.percent(30) => self.load_timeout_ms * 8,
            0 if mode == Mode::Rough => rng.between(0, self.load_timeout_ms - 1),
            0..3 => rng.between(0, self.load_timeout_ms / 4),
            _ => short_ms,
        };
        let end = match rng.below(100) {
            _ if mode == Mode::Fine => LoadEnd::Value,
            0 if mode == Mode::Rough => LoadEnd::Panicked,
            0..8 => LoadEnd::Failed,
            8..14 => LoadEnd::NotFound,
            _ => LoadEnd::Value,
        };
        let ttl_ms = (self.ttl_ms > 0 && rng.percent(20)).then(|| rng.between(1, self.ttl_ms));
        Draw { takes_ms, end, ttl_ms }
    }
}

impl NodeLoader {
    pub async fn load(self, key: Key) -> Result<Loaded<Mark>, LoadError> {
        let item = Item { group: self.origin.group, key: number(&key)? };
        let draw = self.origin.draw(item);
        let mut load = Load::begin(&self.origin.history, item, self.node);
        sleep(Duration::from_millis(draw.takes_ms)).await;
        load.finish(draw.end);
        match draw.end {
            LoadEnd::Value => {
                let loaded = Loaded::new(load.mark);
                Ok(draw.ttl_ms.map_or(loaded.clone(), |ttl_ms| loaded.ttl(Duration::from_millis(ttl_ms))))
            }
            LoadEnd::NotFound => Err(LoadError::not_found()),
            // A panic without its message on the terminal.
            LoadEnd::Panicked => resume_unwind(Box::new("a panic that was asked for")),
            _ => Err("the origin fails".into()),
        }
    }
}

impl BatchLoader for NodeLoader {
    type Value = Mark;

    async fn load_many(&self, batch: &Batch<Mark>) -> Result<(), LoadError> {
        let load = |(nth, key): (usize, &Key)| {
            let loading = self.clone().load(key.clone());
            async move { batch.answer(nth, loading.await) }
        };
        futures_util::future::join_all(batch.keys().iter().enumerate().map(load)).await;
        Ok(())
    }
}

impl Load {
    fn begin(history: &History, item: Item, node: u8) -> Self {
        let mark = history.new_mark();
        history.note(Event::LoadBegin { mark, item, node });
        Load { history: history.clone(), mark, finished: false }
    }

    fn finish(&mut self, end: LoadEnd) {
        self.finished = true;
        self.history.note(Event::LoadEnd { mark: self.mark, end });
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if !self.finished {
            self.history.note(Event::LoadEnd { mark: self.mark, end: LoadEnd::Dropped });
        }
    }
}

fn number(key: &Key) -> Result<u8, LoadError> {
    let name = key.as_str()?;
    Ok(name.strip_prefix("key-").ok_or("not a key of ours")?.parse()?)
}
