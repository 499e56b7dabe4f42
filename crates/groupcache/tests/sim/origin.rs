//! Where values come from: slow, failing and forgetful, as told. Every load makes a value of its own.

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

/// How well an origin does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Loads hang, fail, panic and find nothing.
    Rough,
    /// Loads fail and find nothing.
    Calm,
    /// All is well.
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
    weather: Weather,
    /// One for each key, so that loads of one do not change what becomes of another.
    rngs: Vec<Rng>,
}

/// The loader of one node.
#[derive(Clone)]
pub struct Well {
    pub origin: Origin,
    pub node: u8,
}

/// A load under way. Dropped before it is finished, it was ended by its node.
struct Load {
    history: History,
    mark: Mark,
    finished: bool,
}

/// What becomes of a load.
struct Lot {
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
            shared: Arc::new(Mutex::new(Shared { weather: Weather::Rough, rngs })),
        }
    }

    pub fn turn(&self, weather: Weather) {
        self.shared.lock().unwrap().weather = weather;
    }

    fn lot(&self, item: Item) -> Lot {
        let mut shared = self.shared.lock().unwrap();
        let weather = shared.weather;
        let rng = &mut shared.rngs[usize::from(item.key)];
        let short_ms = rng.between(0, 40);
        let takes_ms = match rng.below(10) {
            // Far longer than it may take.
            0 if weather == Weather::Rough && rng.percent(30) => self.load_timeout_ms * 8,
            0 if weather == Weather::Rough => rng.between(0, self.load_timeout_ms - 1),
            0..3 => rng.between(0, self.load_timeout_ms / 4),
            _ => short_ms,
        };
        let end = match rng.below(100) {
            _ if weather == Weather::Fine => LoadEnd::Value,
            0 if weather == Weather::Rough => LoadEnd::Panicked,
            0..8 => LoadEnd::Failed,
            8..14 => LoadEnd::NotFound,
            _ => LoadEnd::Value,
        };
        let ttl_ms = (self.ttl_ms > 0 && rng.percent(20)).then(|| rng.between(1, self.ttl_ms));
        Lot { takes_ms, end, ttl_ms }
    }
}

impl Well {
    pub async fn load(self, key: Key) -> Result<Loaded<Mark>, LoadError> {
        let item = Item { group: self.origin.group, key: number(&key)? };
        let lot = self.origin.lot(item);
        let mut load = Load::begin(&self.origin.history, item, self.node);
        sleep(Duration::from_millis(lot.takes_ms)).await;
        load.finish(lot.end);
        match lot.end {
            LoadEnd::Value => {
                let loaded = Loaded::new(load.mark);
                Ok(lot.ttl_ms.map_or(loaded.clone(), |ttl_ms| loaded.ttl(Duration::from_millis(ttl_ms))))
            }
            LoadEnd::NotFound => Err(LoadError::not_found()),
            // As a panic unwinds, without its words on the terminal.
            LoadEnd::Panicked => resume_unwind(Box::new("a panic that was asked for")),
            _ => Err("the origin fails".into()),
        }
    }
}

impl BatchLoader for Well {
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
