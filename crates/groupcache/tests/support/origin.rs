//! The origin of all nodes of a test: its values change, and its loads can fail, be held and be
//! counted.

use std::{collections::HashMap, sync::Arc, time::Duration};

use peercache_groupcache::{Batch, BatchLoader, Bytes, Key, LoadError, Loaded, Loader};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::Watched;

/// Every key has the value `v1`, until it is [changed](Origin::change) or [put](Origin::put).
#[derive(Clone)]
pub struct Origin {
    shared: Arc<Watched<State>>,
    /// The node whose loader this is.
    node: Arc<str>,
}

#[derive(Default)]
struct State {
    changes: u32,
    echoes: bool,
    rows: HashMap<Vec<u8>, Option<Bytes>>,
    /// Times to live of rows that have their own.
    row_ttls: HashMap<Vec<u8>, Duration>,
    ttl: Option<Duration>,
    health: Health,
    delay: Duration,
    holding: Holding,
    held: Vec<oneshot::Sender<()>>,
    calls: Vec<Call>,
    batches: Vec<(Arc<str>, usize)>,
    in_flight: usize,
    max_in_flight: usize,
}

/// The way in which loads end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    #[default]
    Fine,
    Fails,
    Panics,
    /// Nothing is found.
    Empty,
}

#[derive(Default, PartialEq, Eq)]
enum Holding {
    #[default]
    Nothing,
    All,
    Key(Vec<u8>),
}

/// One key that a loader was asked for.
#[derive(Clone, Debug)]
pub struct Call {
    pub key: Vec<u8>,
    pub node: Arc<str>,
    pub at: Instant,
}

/// The row that a load has read, to be answered later.
struct Row {
    value: Option<Bytes>,
    ttl: Option<Duration>,
    health: Health,
}

impl Origin {
    pub fn new() -> Self {
        Origin { shared: Arc::default(), node: "".into() }
    }

    /// The loader of this node.
    pub fn loader_of(&self, node: &str) -> Self {
        Origin { shared: self.shared.clone(), node: node.into() }
    }

    /// Gives all keys the next value: `v2`, `v3` and so on.
    pub fn change(&self) {
        self.shared.change(|state| state.changes += 1);
    }

    /// Makes every key its own value.
    pub fn echo(&self) {
        self.shared.change(|state| state.echoes = true);
    }

    pub fn put(&self, key: &str, value: &str) {
        self.shared.change(|state| state.rows.insert(key.into(), Some(value.to_owned().into())));
    }

    /// Puts a value with a time to live of its own, or without one.
    pub fn put_with_ttl(&self, key: &str, value: &str, ttl: Option<Duration>) {
        self.put(key, value);
        self.shared.change(|state| match ttl {
            Some(ttl) => state.row_ttls.insert(key.into(), ttl),
            None => state.row_ttls.remove(key.as_bytes()),
        });
    }

    /// Has no such key from now on.
    pub fn delete(&self, key: &str) {
        self.shared.change(|state| state.rows.insert(key.into(), None));
    }

    /// Gives values this time to live from now on.
    pub fn ttl(&self, ttl: Duration) {
        self.shared.change(|state| state.ttl = Some(ttl));
    }

    pub fn health(&self, health: Health) {
        self.shared.change(|state| state.health = health);
    }

    /// Makes a load take this long.
    pub fn delay(&self, delay: Duration) {
        self.shared.change(|state| state.delay = delay);
    }

    /// Holds loads from now on: they read their value and do not end.
    pub fn hold(&self) {
        self.shared.change(|state| state.holding = Holding::All);
    }

    /// Holds loads of one key.
    pub fn hold_key(&self, key: &str) {
        self.shared.change(|state| state.holding = Holding::Key(key.into()));
    }

    /// Holds no further loads; those that are held stay so.
    pub fn hold_no_more(&self) {
        self.shared.change(|state| state.holding = Holding::Nothing);
    }

    /// Has all loads end.
    pub fn release(&self) {
        self.hold_no_more();
        let held = self.shared.change(|state| std::mem::take(&mut state.held));
        for held in held {
            // The load may have been ended meanwhile.
            let _ = held.send(());
        }
    }

    /// The number of loads that are held.
    pub fn held(&self) -> usize {
        self.shared.read(|state| state.held.len())
    }

    /// The number of keys that loaders were asked for.
    pub fn calls(&self) -> usize {
        self.shared.read(|state| state.calls.len())
    }

    pub fn calls_of(&self, node: &str) -> usize {
        self.call_log().iter().filter(|call| *call.node == *node).count()
    }

    pub fn call_log(&self) -> Vec<Call> {
        self.shared.read(|state| state.calls.clone())
    }

    /// The batches that were asked for: by which node, and of how many keys.
    pub fn batches(&self) -> Vec<(Arc<str>, usize)> {
        self.shared.read(|state| state.batches.clone())
    }

    /// The most loads that there were at one time.
    pub fn max_in_flight(&self) -> usize {
        self.shared.read(|state| state.max_in_flight)
    }

    /// Waits until loaders were asked for this many keys.
    pub async fn until_called(&self, calls: usize) {
        self.shared.until(|state| state.calls.len() >= calls).await;
    }

    /// Waits until this many loads are held.
    pub async fn until_held(&self, held: usize) {
        self.shared.until(|state| state.held.len() >= held).await;
    }

    fn read(&self, key: &Key) -> Row {
        let call = Call { key: key.as_bytes().into(), node: self.node.clone(), at: Instant::now() };
        self.shared.change(|state| {
            state.calls.push(call);
            let row = state.rows.get(key.as_bytes()).cloned();
            Row {
                value: row.unwrap_or_else(|| Some(state.usual_value(key))).filter(|_| state.health != Health::Empty),
                ttl: state.row_ttls.get(key.as_bytes()).copied().or(state.ttl),
                health: state.health,
            }
        })
    }

    /// Waits for as long as a load of this key takes.
    async fn wait(&self, key: &Key) {
        let (delay, held) = self.shared.change(|state| {
            let held = state.holds(key).then(|| {
                let (release, held) = oneshot::channel();
                state.held.push(release);
                held
            });
            (state.delay, held)
        });
        if let Some(held) = held {
            let _ = held.await;
        }
        if !delay.is_zero() {
            sleep(delay).await;
        }
    }
}

impl State {
    fn usual_value(&self, key: &Key) -> Bytes {
        if self.echoes { key.clone().into_bytes() } else { format!("v{}", self.changes + 1).into() }
    }

    fn holds(&self, key: &Key) -> bool {
        match &self.holding {
            Holding::Nothing => false,
            Holding::All => true,
            Holding::Key(held) => held == key.as_bytes(),
        }
    }
}

impl Row {
    fn result(self) -> Result<Loaded<Bytes>, LoadError> {
        match self.health {
            Health::Fails => Err("disk on fire".into()),
            Health::Panics => panic!("a planned panic"),
            Health::Fine | Health::Empty => {
                let loaded = Loaded::new(self.value.ok_or_else(LoadError::not_found)?);
                Ok(self.ttl.into_iter().fold(loaded, Loaded::ttl))
            }
        }
    }
}

/// A load that counts as in flight until it is dropped.
struct InFlight<'a>(&'a Origin);

impl<'a> InFlight<'a> {
    fn new(origin: &'a Origin) -> Self {
        origin.shared.change(|state| {
            state.in_flight += 1;
            state.max_in_flight = state.max_in_flight.max(state.in_flight);
        });
        InFlight(origin)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.shared.change(|state| state.in_flight -= 1);
    }
}

impl Loader for Origin {
    type Value = Bytes;

    async fn load(&self, key: Key) -> Result<Loaded<Bytes>, LoadError> {
        let _in_flight = InFlight::new(self);
        let row = self.read(&key);
        self.wait(&key).await;
        row.result()
    }
}

/// One query for many keys. Slow keys are waited for one after another, once all others are
/// answered; a key that is not found is left unanswered, and a failure ends the query.
impl BatchLoader for Origin {
    type Value = Bytes;

    async fn load_many(&self, batch: &Batch<Bytes>) -> Result<(), LoadError> {
        let _in_flight = InFlight::new(self);
        self.shared.change(|state| state.batches.push((self.node.clone(), batch.keys().len())));
        let rows: Vec<Row> = batch.keys().iter().map(|key| self.read(key)).collect();
        let is_slow = |key: &Key| self.shared.read(|state| state.holds(key) || !state.delay.is_zero());
        let (slow, fast): (Vec<_>, Vec<_>) =
            batch.keys().iter().zip(rows).enumerate().partition(|(_, (key, _))| is_slow(key));
        for (nth, (_, row)) in fast {
            answer(batch, nth, row)?;
        }
        for (nth, (key, row)) in slow {
            self.wait(key).await;
            answer(batch, nth, row)?;
        }
        Ok(())
    }
}

fn answer(batch: &Batch<Bytes>, nth: usize, row: Row) -> Result<(), LoadError> {
    let is_missing = row.value.is_none();
    match row.result() {
        Err(_) if is_missing => {}
        result => batch.answer(nth, Ok(result?)),
    }
    Ok(())
}
